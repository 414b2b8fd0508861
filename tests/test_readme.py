"""What README says is so."""

from pathlib import Path
import re
import subprocess
import sys

import pytest

from experiments.mnist import hinton, omitted_digit, temperature_alpha
from kdjax import results
from kdjax.study.statistics import interval

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ERRORS = "test_errors_last"


def test_the_code_runs_as_it_stands(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "\n".join([*blocks, "print(len(table), len(hints.runs))"]),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(8,) (8, 10)", "12 2"]


@pytest.mark.parametrize("name", re.findall(r"`make (\w+)`|^make (\w+) ", README, re.M))
def test_make_has_the_targets(name):
    assert re.search(rf"^{''.join(name)}:", (ROOT / "Makefile").read_text(), re.M)


def test_files_it_points_to_are_there():
    for page in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / page).read_text()
        for link in re.findall(r"\]\(([^)]+)\)|`(\w[\w.]*/[\w/.]+\.\w+)`", text):
            path = "".join(link)
            assert path.startswith("http") or (ROOT / path).exists(), path


def test_the_results_table_comes_from_the_committed_results():
    arms = temperature_alpha.summary(results.load("temperature_alpha"))
    for arm, name, setting in (
        ("hard labels", "hard labels", ""),
        ("label_smoothing", "label smoothing", " ({smoothing:g})"),
        ("teacher_argmax", "teacher's class as label", ""),
        ("hinton", "distilled", " (T = {temperature:g}, alpha = {alpha:g})"),
    ):
        of = arms.loc[arm].sort_values("units").to_dict("records")
        cells = (row["accuracy"] + setting.format(**row) for row in of)
        assert f"| {name} | {' | '.join(cells)} |" in README
    meta = results.meta("temperature_alpha")
    assert f"makes {meta['teacher']['test']['errors']:.0f} test errors" in README
    assert meta["commit"] in README


def test_hintons_table_comes_from_the_committed_results():
    runs, meta = results.load("hinton_mnist"), results.meta("hinton_mnist")
    paper, errors = meta["paper"], meta["teacher"]["test"]["errors"]
    assert f"| teacher, 1,200 units | {paper['teacher']} | {errors:.0f} |" in README
    for arm, name in (("hard", "hard labels"), ("distilled", "distilled")):
        cell = "{:.1f} ± {:.1f}".format(*interval(runs[runs["arm"] == arm][ERRORS]))
        assert f"| {name} | {paper[arm]} | {cell} |" in README
    cut = hinton.share_taken(runs).mean()
    assert f"takes {100 * cut:.0f} % of the student's errors" in README
    assert f"from commit {meta['commit']}" in README


def test_the_table_of_the_omitted_digit_comes_from_the_committed_results():
    runs, meta = results.load("omitted_digit"), results.meta("omitted_digit")
    paper, stages = meta["paper"], omitted_digit.STAGES

    def cell(transfer, column, arm="distilled", *, share=1, form=".0f"):
        rows = runs[(runs["transfer"] == transfer) & (runs["arm"] == arm)]
        means = [format(share * rows[f"{column}_{s}"].mean(), form) for s in stages]
        return "{} → {} ({})".format(*means)

    errors = paper["without 3"]["errors_percent"]
    of_threes = paper["without 3"]["omitted_errors_percent"]
    counts = "{:.0f} → ({:.0f})".format(*(100 * e for e in errors))
    assert f"digits | {counts} | {cell('without 3', 'errors')} |" in README
    counts = "{:.0f} → ({:.0f})".format(*(10.1 * e for e in of_threes))
    assert f"threes | {counts} | {cell('without 3', 'omitted_errors')} |" in README
    for arm in ("hard", "naive_teacher"):
        assert (
            f"without 3: all digits | | {cell('without 3', 'errors', arm)} |" in README
        )
    shares = "{} → ({})".format(*paper["only 7 and 8"]["errors_percent"])
    here = cell("only 7 and 8", "errors", share=0.01, form=".1f")
    assert f"digits, % | {shares} | {here} |" in README
    assert f"from commit {meta['commit']}" in README
