"""Families of divergences that run from reverse to forward KL: laws."""

import pytest

from tests.losses import laws


@pytest.mark.parametrize("law, name", laws.of("alpha_and_renyi"))
def test_law(law, name):
    law(name)
