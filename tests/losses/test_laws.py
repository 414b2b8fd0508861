"""No module of losses is left out."""

from pathlib import Path

import pytest

from tests.losses.formulas import MODULES


@pytest.mark.parametrize("module", MODULES)
def test_the_laws_of_a_module_are_run_by_its_tests(module):
    text = Path(__file__).with_name(f"test_{module}.py").read_text()
    assert f'laws.of("{module}")' in text
