"""``pip install kdjax`` gives the losses with only jax, numpy and chex."""

import inspect
import os
from pathlib import Path
import re
import subprocess
import sys
import tomllib
from zipfile import ZipFile

import pytest

from kdjax import losses

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SNIPPET = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
DOCTESTS = """
import doctest, importlib, pkgutil
names = {**vars(losses), "jax": jax, "jnp": jax.numpy}
for module in pkgutil.iter_modules(losses.__path__, "kdjax.losses."):
    doctest.testmod(
        importlib.import_module(module.name), extraglobs=names, raise_on_error=True
    )
"""


def run(*command: object, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    offline = done.returncode and "connection broken by" in done.stdout + done.stderr
    if offline and "CI" not in os.environ:
        pytest.skip("pip reaches no package registry")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, as `make dist` builds it."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, ROOT)
    return next(directory.glob("*.whl"))


def test_the_wheel_has_the_library_and_nothing_else(wheel):
    package = {p for p in ROOT.glob("kdjax/**/*") if p.is_file() and p.suffix != ".pyc"}
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert names == {path.relative_to(ROOT).as_posix() for path in package}
    assert "kdjax/py.typed" in names and len(licences) == 1


def test_the_losses_run_with_the_lowest_versions_that_they_allow(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, wheel, *(need.replace(">=", "==") for need in PROJECT["dependencies"]))
    # Another XLA may have other options.
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    printed = run(python, "-I", "-c", SNIPPET + DOCTESTS, cwd=tmp_path, env=own)
    assert printed.startswith("(8,) (8, 10)")


def test_a_tooltip_shows_types_by_their_names():
    for loss in filter(inspect.isfunction, vars(losses).values()):
        shown = str(inspect.signature(loss))
        assert "jax" not in shown and "Annotated" not in shown, loss
