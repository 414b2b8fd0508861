"""Imports go one way: losses -> training -> sweep -> study -> results -> paper_figs."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
ACCELERATED = {"jax", "flax", "optax", "orbax"}
FOR_FIGURES = {  # modules they may import
    "kdjax.results",
    "kdjax.study.flags",
    "kdjax.study.selection",
    "kdjax.study.statistics",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_the_library_knows_no_experiment_and_no_figure():
    for path in ROOT.glob("kdjax/**/*.py"):
        assert not tops(path) & {"experiments", "paper_figs", "benchmarks"}, path


def test_losses_know_no_model_no_data_and_no_training():
    for path in ROOT.glob("kdjax/losses/*.py"):
        ours = {name for name in imports(path) if name.startswith("kdjax")}
        assert all(name.startswith("kdjax.losses") for name in ours), path
        needs = tops(path) - sys.stdlib_module_names - {"kdjax"}
        assert needs <= {"jax", "numpy", "chex"}, path


def test_flax_is_imported_by_models_alone():
    for path in ROOT.glob("kdjax/**/*.py"):
        assert "flax" not in tops(path) or path.parent.name == "models", path


def test_figures_read_results_alone():
    for path in ROOT.glob("paper_figs/*.py"):
        ours = {name for name in imports(path) if name.startswith("kdjax")}
        ours = {n.rsplit(".", 1)[0] if n.count(".") == 3 else n for n in ours}
        assert ours <= FOR_FIGURES and not tops(path) & ACCELERATED, path


@pytest.mark.parametrize(
    "module", ["kdjax.results", "kdjax.study.selection", "paper_figs.figures"]
)
def test_results_and_figures_need_no_jax(module):
    code = f"import sys, {module}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_files_and_functions_stay_small():
    for path in ROOT.glob("kdjax/**/*.py"):
        assert path.read_text().count("\n") <= 300, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None
                start = node.body[0].end_lineno if documented else node.lineno
                assert node.end_lineno - start <= 60, (path, node.name)
