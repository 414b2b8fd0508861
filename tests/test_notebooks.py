"""The notebook runs without the repository, and what it says of its pictures is so."""

from importlib.metadata import packages_distributions, requires
import json
from pathlib import Path
import re
import sys
import tomllib
from types import SimpleNamespace

from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient
import nbformat
import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
LOSSES = nbformat.read(ROOT / "notebooks/losses.ipynb", as_version=4)
PAGE = ROOT / "docs/losses.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FACTS = """
import json, sys, kdjax

turn.widget.children[0].value = "a plain 7"
p = jax.nn.softmax(target)
mean = p @ x
few_logits = few.train["teacher"].logits
facts = {
    "python": sys.executable,
    "kdjax": kdjax.__file__,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "sizes": [len(split["label"]) for split in images],
    "few": few.train["label"],
    "of_label": of_label,
    "labels": labels,
    "digits": digits,
    "shown": [
        [jax.nn.softmax(logits[digits[digit]] / t) for t in (1, 4, 50)]
        for digit in ("a plain 2", "a doubtful 2")
    ],
    "teacher": [mean, jnp.sqrt(p @ (x - mean) ** 2)],
    "fitted": {name: [m, jnp.exp(s)] for name, (m, s) in fitted.items()},
    "missed": {n: losses.total_variation(z, target) for n, z in free.items()},
    "from_skewed": {
        n: losses.total_variation(gaussian(fitted[n]), gaussian(fitted[f"skew_{n}"]))
        for n in ("forward_kl", "reverse_kl")
    },
    "student": student,
    "believed": believed,
    "q": jax.nn.softmax(pair[0]),
    "p": jax.nn.softmax(pair[1]),
    "gradients": gradients,
    "of_least_five": [
        jnp.sort(jax.nn.softmax(few_logits / t))[:, :5].sum(1).mean() for t in (1, 4)
    ],
    "runs": runs.to_dict("list"),
}
print(json.dumps(facts, default=lambda array: np.asarray(array).tolist()))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Run by this very Python, without a user's settings, in an empty folder.

    Of the repository there is the package alone.
    """
    jupyter = tmp_path_factory.mktemp("jupyter")
    write_kernel_spec(jupyter / "kernels/python3")
    site = tmp_path_factory.mktemp("site")
    (site / "kdjax").symlink_to(ROOT / "kdjax")
    notebook = nbformat.from_dict(LOSSES)
    notebook.cells.append(nbformat.v4.new_code_cell(FACTS))
    resources = {"metadata": {"path": tmp_path_factory.mktemp("empty")}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(jupyter))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(jupyter / "runtime"))
        patch.setenv("IPYTHONDIR", str(jupyter / "ipython"))
        patch.setenv("PYTHONPATH", str(site))
        # It computes for longer than it compiles.
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "false")
        NotebookClient(notebook, timeout=300, resources=resources).execute()
    return notebook


@pytest.fixture(scope="module")
def facts(executed):
    return SimpleNamespace(**json.loads(executed.cells[-1].outputs[-1].text))


def installed_with(extra: str) -> set[str]:
    """The distributions that pip installs with this extra of kdjax."""
    own = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    found, ahead = set(), [Requirement(f"kdjax[{extra}]")]
    while ahead:
        need = ahead.pop()
        name = canonicalize_name(need.name)
        for extra in {"", *need.extras} - {e for n, e in found if n == name}:
            found.add((name, extra))
            needs = own[extra] if name == "kdjax" else requires(name) or []
            needs = map(Requirement, needs)
            where = {"extra": extra}
            ahead += [n for n in needs if not n.marker or n.marker.evaluate(where)]
    return {name for name, _ in found}


def test_it_runs_this_code_with_this_python(facts):
    assert facts.python == sys.executable
    assert Path(facts.kdjax).resolve().parents[1] == ROOT


def test_all_that_it_imports_comes_with_the_notebook_extra(facts):
    distributions = packages_distributions()
    installed = installed_with("notebook")
    loaded = set(facts.loaded) - {"_distutils_hack"}  # setuptools', at every start
    assert {"ipywidgets", "jax", "matplotlib", "mlxtend", "optax"} < loaded
    for module in loaded & distributions.keys():
        names = {canonicalize_name(name) for name in distributions[module]}
        assert names & installed, module
    wheel = f"'./kdjax-{PROJECT['version']}-py3-none-any.whl[notebook]'"
    first = next(cell for cell in LOSSES.cells if cell.cell_type == "code")
    assert f"# %pip install {wheel}" in first.source


def test_every_picture_is_drawn(executed):
    drawn = [c.id for c in executed.cells if "image/png" in str(c.get("outputs"))]
    assert drawn == ["still", "fits-plot", "gradients-plot", "sweep-plot"]


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


def test_plain_and_doubtful_digits_are_what_the_text_says(facts):
    assert facts.sizes == [3500, 500, 1000]
    of_label, labels = np.array(facts.of_label), np.array(facts.labels)
    assert np.mean(of_label > 0.9) > 0.75
    for label in range(10):
        plain, doubtful = (
            facts.digits[f"a {k} {label}"] for k in ("plain", "doubtful")
        )
        assert labels[plain] == labels[doubtful] == label
        assert 0.5 < of_label[doubtful] < of_label[plain]
        others = of_label[(labels == label) & (of_label > 0.5)]
        assert (others.min(), others.max()) == (of_label[doubtful], of_label[plain])
    (plain, softer, uniform), (doubtful, *_) = np.array(facts.shown)
    assert plain.argmax() == doubtful.argmax() == 2
    assert plain[2] > 0.99 and softer[2] < 0.9
    for last in np.array(facts.shown)[:, -1]:
        assert np.ptp(last) < 0.06


def test_forward_kl_takes_the_moments_and_reverse_kl_a_bump(facts):
    np.testing.assert_allclose(facts.fitted["forward_kl"], facts.teacher, rtol=0.01)
    np.testing.assert_allclose(facts.fitted["reverse_kl"], [-2.5, 0.8], rtol=0.02)
    assert max(facts.missed.values()) < 0.01


def test_a_skew_of_a_half_swaps_their_roles(facts):
    swapped = facts.fitted["skew_forward_kl"], facts.fitted["skew_reverse_kl"]
    np.testing.assert_allclose(swapped[0], [-2.5, 0.8], rtol=0.02)
    np.testing.assert_allclose(swapped[1], facts.teacher, rtol=0.05)
    assert min(facts.from_skewed.values()) > 0.4  # of what 1 would share nothing


def test_gradients_are_what_the_text_says(facts):
    p, q, student, believed = map(
        np.array, (facts.p, facts.q, facts.student, facts.believed)
    )
    mistake, (*_, second, label) = p.argmin(), p.argsort()
    assert label == 2 and student[mistake] == student[label]
    others = np.arange(10) != mistake
    np.testing.assert_allclose(student[others], believed[others] / 2)
    gradients = {name: np.array(g) for name, g in facts.gradients.items()}
    np.testing.assert_allclose(gradients["forward_kl"], q - p, atol=1e-6)
    reverse = gradients["reverse_kl"]
    assert reverse.argmax() == np.abs(reverse).argmax() == mistake
    ratio = gradients["logit_mse"] / (student - believed)
    np.testing.assert_allclose(ratio, ratio[label], rtol=1e-4)
    improbable = np.maximum(p, q) < 0.05
    assert improbable.sum() >= 3
    forward, soft, mse = (
        np.abs(gradients[name][improbable]).mean() / np.abs(gradients[name]).max()
        for name in ("forward_kl", "soft_kl, temperature 4", "logit_mse")
    )
    assert forward < soft < mse
    assert gradients["dkd"].argmin() == second
    assert gradients["cross_entropy"][second] > 0


def test_the_sweep_shows_what_the_text_says(facts):
    assert np.bincount(facts.few).tolist() == [10] * 10
    runs = pd.DataFrame(facts.runs)
    assert len(runs) == len(runs[["temperature", "k", "seed"]].drop_duplicates()) == 50
    of = {
        at: rows["accuracy"].to_numpy()
        for at, rows in runs.groupby(["temperature", "k"])
    }
    control = of[1, 1]
    np.testing.assert_array_equal(control, of[4, 1])
    gain = {at: accuracy.mean() - control.mean() for at, accuracy in of.items()}
    assert 5 < gain[4, 10] < 7.5
    assert of[4, 10].min() > control.max() + 2
    assert 0.35 < gain[4, 5] / gain[4, 10] < 0.65
    assert gain[1, 10] < gain[4, 10] / 2
    hard, soft = facts.of_least_five
    assert hard < 0.01 < 10 * hard < soft


def test_it_is_committed_without_outputs():
    for cell in LOSSES.cells:
        assert not cell.get("outputs") and not cell.get("execution_count"), cell.id


def test_the_page_has_every_cell_and_picture_of_the_notebook(executed):
    page, end = PAGE.read_text(), 0
    for cell in LOSSES.cells:
        code = cell.cell_type == "code"
        source = f"```python\n{cell.source}\n```" if code else cell.source
        assert source in page[end:], f"{cell.id}: run make notebook"
        end = page.index(source, end) + len(source)
    assert not re.findall(r"interactive\(|Output\(\)|<pre|<style", page)
    drawn = [o for c in executed.cells for o in c.get("outputs", ()) if "data" in o]
    drawn = [o for o in drawn if "image/png" in o["data"]]
    linked = re.findall(r"!\[\w*\]\((.*?)\)", page)
    kept = {str(p.relative_to(PAGE.parent)) for p in PAGE.parent.glob("losses_files/*")}
    assert len(linked) == len(drawn) and set(linked) == kept
    assert sum((PAGE.parent / name).stat().st_size for name in linked) < 600_000


def test_the_page_prints_what_the_notebook_prints(executed):
    def numbers(text):
        return [float(n) for n in re.findall(r"\d+\.?\d*", text)]

    page = re.sub(r"```python\n.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    there = numbers("\n".join(re.findall(r"^    (.*)$", page, re.MULTILINE)))
    printed = [
        o.text
        for c in executed.cells[:-1]
        for o in c.get("outputs", ())
        if o.get("name") == "stdout"
    ]
    here = numbers("\n".join(printed))
    assert len(here) > 10
    np.testing.assert_allclose(here, there, atol=2)  # another processor's rounding
