"""A notebook runs from top to bottom, and what it says of its pictures is so."""

import json
from pathlib import Path
import sys
from types import SimpleNamespace

from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
LOSSES = ROOT / "notebooks/losses.ipynb"
FACTS = """
import json, sys, kdjax

turn.widget.children[0].value = "a plain 7"
p = jax.nn.softmax(target)
mean = p @ x
facts = {
    "python": sys.executable,
    "kdjax": kdjax.__file__,
    "teacher": [mean, jnp.sqrt(p @ (x - mean) ** 2)],
    "fitted": {name: [m, jnp.exp(s)] for name, (m, s) in fitted.items()},
    "missed_by_free": [losses.total_variation(z, target) for z in free.values()],
    "q_less_p": jax.nn.softmax(pair[0]) - jax.nn.softmax(pair[1]),
    "slopes": slopes,
    "runs": runs.to_dict("list"),
}
print(json.dumps(facts, default=lambda array: np.asarray(array).tolist()))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs cells in a folder, by this very Python and without a user's settings."""
    jupyter = tmp_path_factory.mktemp("jupyter")
    write_kernel_spec(jupyter / "kernels/python3")

    def run(notebook, folder: Path) -> None:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=300, resources=resources).execute()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(jupyter))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(jupyter / "runtime"))
        patch.setenv("IPYTHONDIR", str(jupyter / "ipython"))
        yield run


@pytest.fixture(scope="module")
def executed(run):
    notebook = nbformat.read(LOSSES, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS))
    run(notebook, LOSSES.parent)
    return notebook


@pytest.fixture(scope="module")
def facts(executed):
    return SimpleNamespace(**json.loads(executed.cells[-1].outputs[-1].text))


def test_it_runs_this_code_with_this_python(facts):
    assert facts.python == sys.executable
    assert Path(facts.kdjax).parents[1] == ROOT


def test_it_starts_at_the_root_too(run):
    notebook = nbformat.read(LOSSES, as_version=4)
    first = next(i for i, c in enumerate(notebook.cells) if c.cell_type == "code")
    notebook.cells = notebook.cells[: first + 1]
    notebook.cells.append(nbformat.v4.new_code_cell("print(os.getcwd())"))
    run(notebook, ROOT)
    assert notebook.cells[-1].outputs[0].text.strip() == str(ROOT)


def test_every_picture_is_drawn(executed):
    drawn = [c.id for c in executed.cells if "image/png" in str(c.get("outputs"))]
    assert drawn == ["still", "fits-plot", "slopes-plot", "sweep-plot"]


def test_the_slider_draws_again_when_it_is_turned(executed):
    """What a widget's function raises stays in the widget, and stops no notebook."""
    states = executed.metadata.widgets["application/vnd.jupyter.widget-state+json"]
    models = [model["state"] for model in states["state"].values()]
    (turned,) = [m for m in models if "a plain 7" in m.get("_options_labels", [])]
    assert turned["_options_labels"][turned["index"]] == "a plain 7"
    shown = [m["outputs"] for m in models if "outputs" in m]
    assert not [o for o in sum(shown, []) if o["output_type"] == "error"]
    (picture,) = [o for o in sum(shown, []) if "image/png" in o.get("data", {})]
    (still,) = [c for c in executed.cells if c.id == "still"]
    assert picture["data"]["image/png"] != still.outputs[0].data["image/png"]


def test_forward_kl_takes_the_moments_and_reverse_kl_a_bump(facts):
    np.testing.assert_allclose(facts.fitted["forward_kl"], facts.teacher, rtol=0.01)
    np.testing.assert_allclose(facts.fitted["reverse_kl"], [-2.5, 0.8], rtol=0.02)
    np.testing.assert_allclose(facts.fitted["skew_reverse_kl"], [-2.5, 0.8], rtol=0.02)
    assert max(facts.missed_by_free) < 0.01


def test_slopes_are_what_the_text_says(facts):
    slopes = {name: np.array(slope) for name, slope in facts.slopes.items()}
    np.testing.assert_allclose(slopes["forward_kl"], facts.q_less_p, atol=1e-6)
    assert slopes["reverse_kl"].argmax() == np.abs(slopes["reverse_kl"]).argmax() == 7
    assert set(slopes["dkd"].argsort()[:2]) == {3, 8}
    assert (slopes["cross_entropy"][[3, 8]] > 0).all()
    unlikely = [0, 4, 5, 6, 9]
    assert np.abs(slopes["forward_kl"][unlikely]).max() < 0.02
    assert np.abs(slopes["soft_kl, temperature 4"][unlikely]).min() > 0.05
    assert np.abs(slopes["logit_mse"][unlikely]).min() > 0.05


def test_the_sweep_has_a_row_a_run_and_a_control_that_ignores_the_power(facts):
    runs = {name: np.array(column) for name, column in facts.runs.items()}
    asked = zip(runs["power"], runs["alpha"], runs["seed"], strict=True)
    assert len(set(asked)) == len(runs["seed"]) == 3 * 5 * 5
    errors = runs["validation_errors_last"]
    control = [errors[(runs["alpha"] == 0) & (runs["power"] == p)] for p in (1, 2, 4)]
    assert (control[0] == control[1]).all() and (control[0] == control[2]).all()
    assert np.median(errors) < 50  # of 500


def test_it_is_committed_without_outputs():
    for cell in nbformat.read(LOSSES, as_version=4).cells:
        assert not cell.get("outputs") and not cell.get("execution_count"), cell.id
