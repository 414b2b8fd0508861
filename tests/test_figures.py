import os
from pathlib import Path
import re
import runpy
import subprocess
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.text import Text
import numpy as np
import pandas as pd
import pytest

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import __main__ as page
from paper_figs import figures

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "paper_figs").glob("fig[0-9]*.py"))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    with plt.rc_context():
        yield tmp_path / "results"
    plt.close("all")


@pytest.fixture
def fig(monkeypatch, root):
    """Runs a script ``fig`` of the experiment hinton_mnist."""

    def run(name, draw=lambda name: plt.figure(), made_by="module --dataset mnist"):
        monkeypatch.setattr(sys, "argv", ["fig", name])
        script = root.parent / "fig.py"
        script.with_name("paper.mplstyle").touch()
        figures.main(draw, str(script), "hinton_mnist", made_by)

    return run


def save(name, **facts):
    return results.save(name, {}, {"runs": pd.DataFrame({"seed": [0]})}, **facts)


def refused(fig, capsys, *args, **options):
    with pytest.raises(SystemExit) as end:
        fig(*args, **options)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    return err.strip()


def test_the_committed_results_are_drawn_beside_the_script(fig, root):
    save("hinton_mnist", experiment="hinton_mnist")
    fig("hinton_mnist")
    assert {path.name for path in root.parent.glob("fig.p[dn]*")} == {
        "fig.pdf",
        "fig.png",
    }


def test_other_results_are_drawn_into_their_own_folder(fig, root):
    folder = save("hinton_mnist_mnist5k_quick", experiment="hinton_mnist")
    fig("hinton_mnist_mnist5k_quick")
    assert (folder / "fig.pdf").exists() and (folder / "fig.png").exists()
    assert not (root.parent / "fig.pdf").exists()


def test_results_of_another_experiment_are_refused(fig, capsys, root):
    folder = save("temperature_alpha", experiment="temperature_alpha")
    assert refused(fig, capsys, "temperature_alpha") == (
        f"{folder} holds results of temperature_alpha, but fig draws those of "
        f"hinton_mnist"
    )
    assert not list(folder.glob("fig*"))


def test_results_that_do_not_say_what_they_are_of(fig, capsys):
    save("hinton_mnist")
    assert "does not record its experiment" in refused(fig, capsys, "hinton_mnist")


@pytest.mark.parametrize(
    "name, command",
    [
        ("hinton_mnist", "module --dataset mnist"),
        ("hinton_mnist_quick", "module --dataset mnist --quick"),
        ("hinton_mnist_mnist5k", "module --dataset mnist5k"),
        ("hinton_mnist_mnist5k_quick", "module --dataset mnist5k --quick"),
        ("hinton_minst", "module --dataset mnist"),
    ],
)
def test_missing_results_are_refused_with_what_makes_them(
    fig, capsys, root, name, command
):
    assert refused(fig, capsys, name) == (
        f"there are no results in {root / name}; run: python -m {command}"
    )


def test_damaged_results_are_refused(fig, capsys):
    folder = save("hinton_mnist", experiment="hinton_mnist")
    (folder / "runs.csv").write_text("seed\n")
    said = refused(fig, capsys, "hinton_mnist", results.load)
    assert "runs.csv, line 1: it ends after 0 rows" in said


def test_results_of_a_config_without_what_is_shown(fig, capsys):
    folder = save("hinton_mnist_mnist5k", experiment="hinton_mnist")

    def draw(name):
        return results.load(name, "runs").groupby("seed").get_group(7)

    said = refused(fig, capsys, folder.name, draw)
    assert said == f"fig needs what {folder}, of another config, lacks: KeyError(7)"
    save("hinton_mnist", experiment="hinton_mnist")
    with pytest.raises(KeyError):  # committed results must be complete
        fig("hinton_mnist", draw)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_figure_refuses_a_missing_folder(script, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "nowhere"])
    path = ROOT / "paper_figs" / f"{script}.py"
    said = refused(runpy.run_path, capsys, str(path), run_name="__main__")
    module = ROOT / re.search(r"run: python -m (\S+)", said)[1].replace(".", "/")
    assert module.with_suffix(".py").exists()


def test_a_refusal_is_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "paper_figs.fig01_hinton_mnist", "nowhere"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("there are no results in results/nowhere; run: pyth")
    assert len(done.stderr.splitlines()) == 1


def test_the_page_of_figures_is_what_their_modules_give(monkeypatch):
    monkeypatch.setattr(results, "ROOT", ROOT / "results")
    assert (ROOT / "paper_figs/README.md").read_text() == page.page()


def test_numbers_written_in_captions_are_those_of_the_results(monkeypatch):
    monkeypatch.setattr(results, "ROOT", ROOT / "results")
    captions = {m.RESULTS: " ".join(m.__doc__.split()) for m in page.modules()}
    best = results.meta("temperature_width")["paper"]["best_temperatures"]
    low, high = best["30"]
    assert f"{low:g} to {high:g} for 30 hidden units" in captions["temperature_width"]
    assert f"all above {best['300'][0]:g} for 300" in captions["temperature_width"]
    assert list(map(int, best)) == [30, 300, 800]
    runs = results.load("capacity_gap_mnist")
    (fixed,) = set(runs.loc[runs["arm"] == "kl", "temperature"])
    assert f"distilled at T = {fixed:g}" in captions["capacity_gap_mnist"]
    teachers = results.load("alpha_teacher")["teacher"].nunique() - 1  # without "none"
    assert teachers == 4 and "for four teachers" in captions["alpha_teacher"]


@pytest.mark.parametrize("module", page.modules(), ids=lambda module: module.__name__)
def test_a_figure_is_as_wide_as_a_column_or_page_and_holds_all_it_has(
    module, monkeypatch
):
    monkeypatch.setattr(results, "ROOT", ROOT / "results")
    plt.style.use(ROOT / "paper_figs/paper.mplstyle")
    figure = module.draw(module.RESULTS)
    width, height = figure.get_size_inches()
    assert width in (figures.COLUMN, figures.PAGE)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert sizes <= {7, 8}


def test_figures_need_no_jax():
    modules = ", ".join(f"paper_figs.{script}" for script in SCRIPTS)
    code = f"import sys, {modules}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_intervals_are_of_every_group_with_nan_where_one_is():
    table = pd.DataFrame(
        {"alpha": [0.5, 0.1, 0.5, 0.1], "errors": [1.0, 2.0, 4.0, np.nan]}
    )
    found = figures.intervals(table, "alpha", "errors")
    assert list(found.index) == [0.1, 0.5]
    assert found.loc[0.1].isna().all()
    assert tuple(found.loc[0.5]) == interval([1.0, 4.0])


def test_differences_are_of_runs_of_the_same_seed():
    table = pd.DataFrame({"seed": [0, 1, 2], "error": [3.0, 2.0, 1.0]})
    baseline = pd.DataFrame({"seed": [1, 0], "error": [5.0, 1.0]})
    found = figures.differences(table, baseline, "error")
    np.testing.assert_array_equal(found["error"], [2, -3, np.nan])
    assert table["error"][0] == 3


def test_a_digit_of_a_row_has_pixels_and_probabilities():
    cells = {f"pixel{i}": i % 256 for i in reversed(range(784))}
    cells |= {f"logit{c}": 8 * np.log(c + 1) for c in range(10)} | {"kind": "plain"}
    row = pd.Series(cells)
    assert figures.image(row)[1, 3] == 31 and figures.image(row).shape == (28, 28)
    p = figures.probabilities(row, temperature=8)
    np.testing.assert_allclose(p, np.arange(1, 11) / 55)
    row["logit9"] = 1e5
    assert figures.probabilities(row, temperature=1)[9] == 1
