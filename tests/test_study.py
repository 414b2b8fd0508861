"""The config and the command line of a study, and a full run of a small one."""

from dataclasses import dataclass, replace
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kdjax import losses, models, objectives, results
from kdjax.data import Data, Info
from kdjax.study import arms as studied
from kdjax.study import claims, command, types
from kdjax.study.arms import Arm
from kdjax.study.selection import best_row
from kdjax.study.study import Loaded, Outcome, Study, arms_run, run
from kdjax.sweep import SweepResult
from kdjax.training import Training

INFO = Info("digits", "1", 10, 700, 100, 200)
HINTON = objectives.on_logits(losses.hinton)


@dataclass(frozen=True)
class Config(types.Config):
    dataset: str = "mnist5k"
    """Which digits."""
    temperatures: types.Positives = (1.0, 4.0)
    """Temperatures that soften teacher and student."""
    alpha: types.Fraction = 0.9
    """Weight of the teacher."""
    seeds: types.Count = 2
    """How many students are measured."""
    epochs: types.Count = 1
    """Passes over the training images."""


def arms(config, images):
    training = Training(models.mlp((8,), classes=10), HINTON, config.epochs, 64)
    axes = {
        "temperature": config.temperatures,
        "alpha": [config.alpha],
        "learning_rate": [1e-3, 1e-2],
    }
    yield Arm({"arm": "distilled"}, training, images, config.seeds, axes)


def accuracy(runs):
    return runs.pivot(index="seed", columns="temperature", values="test_accuracy_last")[
        4.0
    ]


def best(found):
    return found.tables["runs"].nlargest(1, "test_accuracy_last")[["temperature"]]


def spoiled(found):
    raise IndexError("no such digit")


STUDY = Study(
    "small",
    "Does it learn?\n\nMore of it.",
    Config,
    arms_run(lambda config, images, info: (images, {"seconds": 5}), arms),
    show=lambda tables, meta: print(f"{len(tables['runs'])} rows"),
    cost="a second",
    quick={"epochs": 2, "temperatures": (4.0,)},
    derived={"best": best, "spoiled": spoiled},
    claims={
        "learns": claims.Claim(
            "It learns", "accuracy at T = 4", accuracy, claims.above(0.05)
        )
    },
    paper={"accuracy": 0.5},
)


def rows(config, images, info):
    """The results of a quick run of the study, without training."""
    frame = pd.DataFrame(
        {
            "seed": np.repeat(range(config.seeds), len(config.temperatures)),
            "temperature": np.tile(config.temperatures, config.seeds),
        }
    )
    frame["test_accuracy_last"] = 0.3 + 0.001 * frame["seed"]
    return Outcome({"runs": frame}, {"seconds": 5})


@pytest.fixture
def main(digits, tmp_path, monkeypatch, capsys):
    """Runs the study without training, with the given flags; returns its output."""
    monkeypatch.setattr(results, "ROOT", tmp_path / "results")
    monkeypatch.setattr("kdjax.data.load", lambda name, data_dir: (digits, INFO))

    def main(*flags, run=rows):
        command.main(replace(STUDY, run=run), ["--dataset", "mnist", *flags])
        return " ".join(capsys.readouterr().out.split())

    return main


def test_a_study_goes_from_flags_to_a_folder_of_results(one_device, main):
    said = main("--epochs", "2", run=STUDY.run)
    assert "wrote" in said and "4 rows" in said
    runs, meta = results.load("small"), results.meta("small")
    assert list(runs["arm"]) == 4 * ["distilled"]
    assert list(runs["temperature"]) == [1, 4, 1, 4]
    assert list(runs["seed"]) == [0, 0, 1, 1]
    assert set(results.load("small", "search")["seed"]) == {1000}
    assert len(results.load("small", "curves")) == 4 * 2
    assert meta["paper"] == {"accuracy": 0.5} and meta["experiment"] == "small"
    assert meta["dataset"]["name"] == "digits" and meta["seconds"] >= 5
    assert meta["config"]["claims"]["learns"]["supported"] == [0.05, None]
    # Not the published config, so there is a number but no verdict.
    assert "It learns: not evaluated" in said and "accuracy at T = 4: 0." in said
    assert "nothing to do" in main("--epochs", "2")


def test_a_table_that_cannot_be_made_costs_no_runs(main, capsys):
    command.main(replace(STUDY, run=rows), ["--dataset", "mnist"])
    heard = capsys.readouterr()
    assert "not derive the table 'spoiled': IndexError('no such digit')" in heard.err
    assert "It learns: supported" in heard.out
    # The rows and the other derived table are saved.
    assert set(results.meta("small")["tables"]) == {"runs", "best"}
    assert len(results.load("small")) == 4


def test_quick_has_defaults_of_its_own_and_says_no_verdict(main):
    said = main("--quick", "--epochs", "1")
    assert "It learns" not in said
    config = results.meta("small_quick")["config"]
    assert config["epochs"] == 1  # also a default value given explicitly
    assert config["temperatures"] == [4.0] and config["seeds"] == 2


def test_a_claim_that_a_config_cannot_decide_is_not_evaluated(main):
    assert "It learns: not evaluated" in main("--temperatures", "1", "2")


def test_runs_that_diverged_are_counted_and_decide_nothing(main, capsys):
    def run(*arguments):
        found = rows(*arguments)
        found.tables["runs"]["diverged"] = [True, *3 * [False]]
        return found

    command.main(replace(STUDY, run=run), ["--dataset", "mnist"])
    heard = capsys.readouterr()
    assert "1 runs diverged" in heard.err and "It learns: not evaluated" in heard.out


@pytest.mark.parametrize(
    "flags, says",
    [
        (("--temperatures", "1", "0"), "temperatures is 0.0, but takes a positive"),
        (("--temperatures", "nan"), "temperatures is nan"),
        (("--temperatures", "1", "1"), "each value only once"),
        (("--temperatures", "warm"), "temperatures is 'warm', but takes a positive"),
        (("--temperatures",), "temperatures is (), but takes at least one value"),
        (("--alpha", "1.5"), "alpha is 1.5, but takes a number in [0, 1]"),
        (("--seeds", "0"), "seeds is 0, but takes a positive integer"),
        (("--seeds", "1.5"), "seeds is '1.5', but takes a positive integer"),
        (("--seeds",), "Missing value for argument '--seeds'"),
        (("--tempratures", "1"), "Unrecognized options: --tempratures, 1; --help"),
        (("--name", "../other"), "name is '../other', but takes the name of a folder"),
        (("--name", ".."), "name is '..', but takes the name of a folder"),
        (("--dataset", "mnits"), "mnits"),
        (("--data-dir", "/nope"), "/nope is not a directory"),
        (("--dataset", "mnist5k", "--data-dir", "/tmp"), "mnist5k is embedded"),
    ],
)
def test_a_bad_flag_ends_with_one_line_and_status_2(flags, says, main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(*flags)
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert ended.value.code == 2 and says in line and not printed.out
    assert not results.ROOT.exists()


def test_a_config_that_does_not_fit_its_data_ends_with_status_2(main, capsys):
    def run(config, images, info):
        raise types.InvalidConfig("batch_size is 900, but takes at most 700")

    with pytest.raises(SystemExit) as ended:
        main(run=run)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "batch_size is 900, but takes at most 700\n"


def test_a_directory_that_is_not_there_is_refused_though_results_are(main, capsys):
    main()
    with pytest.raises(SystemExit):
        main("--data-dir", "/nope")
    assert "/nope" in capsys.readouterr().err


def test_results_of_another_config_are_kept(main, capsys):
    main()
    before = {p.name: p.read_bytes() for p in (results.ROOT / "small").iterdir()}
    with pytest.raises(SystemExit) as ended:
        main("--seeds", "3")
    assert ended.value.code == 2
    assert "seeds is 2 there and 3 here" in " ".join(capsys.readouterr().err.split())
    after = {p.name: p.read_bytes() for p in (results.ROOT / "small").iterdir()}
    assert before == after
    main("--seeds", "3", "--name", "other")
    assert len(results.load("other")) == 6
    main("--seeds", "3", "--force")
    assert len(results.load("small")) == 6


def test_damaged_results_are_not_said_to_be_done(main, capsys):
    main()
    path = results.ROOT / "small/runs.csv"
    path.write_text(path.read_text()[:-10])
    with pytest.raises(SystemExit) as ended:
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2 and "runs.csv, line" in said and "--force" in said


def test_only_the_published_data_set_has_the_plain_folder():
    assert STUDY.folder(Config(dataset="mnist")) == "small"
    assert STUDY.folder(Config()) == "small_mnist5k"
    assert STUDY.folder(Config(), quick=True) == "small_mnist5k_quick"
    assert STUDY.is_published(Config(dataset="mnist"))
    assert not STUDY.is_published(Config(dataset="mnist", seeds=3))


def test_a_config_is_checked_by_programs_as_by_flags():
    with pytest.raises(ValueError, match="alpha is True"):
        Config(alpha=True)
    with pytest.raises(ValueError, match="seeds is 2.0"):
        Config(seeds=2.0)
    with pytest.raises(ValueError, match="temperatures is 3.0"):
        Config(temperatures=3.0)
    assert replace(Config(), temperatures=(np.float32(2),)).temperatures == (2,)


def test_a_study_may_take_no_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    row = pd.DataFrame({"steps": [7]})

    @dataclass(frozen=True)
    class Toy(types.Config):
        steps: types.Count = 7

    toy = Study(
        "toy",
        "Is it?",
        Toy,
        lambda config: Outcome({"runs": row}, {"seconds": 1}),
        lambda tables, meta: print(tables["runs"]["steps"][0]),
        cost="nothing",
        published={},
    )
    run(toy, Toy())
    assert results.load("toy").equals(row) and "dataset" not in results.meta("toy")
    assert toy.is_published(Toy()) and toy.folder(Toy()) == "toy"
    with pytest.raises(ValueError, match="data_dir is '/tmp', but toy has no data"):
        toy.check_data(Toy(), "/tmp")


def test_a_study_may_load_its_data_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)

    @dataclass(frozen=True)
    class Toy(types.Config):
        steps: types.Count = 7

    def load(config, data_dir):
        return Loaded((config.steps, data_dir), {"dataset": {"words": 3}})

    def learn(config, steps, data_dir):
        row = pd.DataFrame({"steps": [steps], "where": [data_dir]})
        return Outcome({"runs": row}, {"seconds": 1})

    toy = Study(
        *("toy", "Is it?", Toy, learn, lambda tables, meta: None),
        cost="nothing",
        published={},
        load=load,
    )
    toy.check_data(Toy(), "here")
    run(toy, Toy(), data_dir="here")
    assert results.load("toy").to_dict("records") == [{"steps": 7, "where": "here"}]
    assert results.meta("toy")["dataset"] == {"words": 3}


def test_progress_says_which_arm_of_how_many(monkeypatch):
    monkeypatch.setattr(studied, "tuned", lambda arm, place, rate: place)
    found = list(studied.all_tuned(lambda: iter("ab")))
    assert found == [("a", "arm 1 of 2, "), ("b", "arm 2 of 2, ")]


def test_arms_that_are_alike_share_a_learning_rate(monkeypatch):
    """By the settings tried at all rates: others would favour the rate without them."""
    errors = {  # by arm, setting and rate
        ("a", 1, 0.1): 10,
        ("a", 1, 0.2): 14,
        ("b", 1, 0.1): 17,
        ("b", 1, 0.2): 12,
        ("b", 2, 0.2): 90,
        ("c", 1, 0.1): 10,
        ("c", 1, 0.2): 14,
    }

    def found(arm, place):
        rows = [
            {"x": x, "learning_rate": rate, "validation_errors_last": 1.0 * errors[key]}
            for key in errors
            if key[0] == arm.columns["name"]
            for _, x, rate in [key]
        ]
        table = pd.DataFrame(rows).assign(validation_nll_last=0.0)
        return SweepResult(table, pd.DataFrame(), 0.0, {})

    measured = []

    def sweep(training, chosen, **settings):
        measured.append(chosen.to_dict("records"))
        rows = pd.DataFrame({"seed": [0]})
        return SweepResult(rows, rows, 0.0, {})

    monkeypatch.setattr(studied, "_search", found)
    monkeypatch.setattr(studied, "sweep", sweep)
    axes = {"x": [1, 2], "learning_rate": [0.1, 0.2]}

    def arms():
        for name, group in (("a", 1), ("b", 1), ("c", 2)):
            columns = {"name": name, "group": group}
            yield Arm(columns, None, None, 1, axes, best_row)

    for alike, rates in ((["group"], [0.2, 0.2, 0.1]), (None, [0.1, 0.2, 0.1])):
        measured.clear()
        list(studied.all_tuned(arms, alike=alike))
        assert [rows[0]["learning_rate"] for rows in measured] == rates


@pytest.mark.parametrize("best, says", [(0.1, "smallest"), (0.2, ""), (0.4, "largest")])
def test_a_learning_rate_at_an_end_of_its_grid_is_said(best, says, monkeypatch, capsys):
    rates = [0.1, 0.2, 0.4]

    def swept(training, settings, **more):
        errors = 1.0 - np.isclose(settings["learning_rate"], best)
        columns = {"seed": 0, "validation_errors_last": errors}
        runs = settings.assign(**columns, validation_nll_last=0.0)
        return SweepResult(runs, runs, 0.0, {})

    monkeypatch.setattr(studied, "sweep", swept)
    arm = Arm({"name": "toy"}, None, Data(None), 1, {"learning_rate": rates}, best_row)
    assert studied.tuned(arm).runs["learning_rate"].item() == pytest.approx(best)
    said = capsys.readouterr().err
    assert said == (f"toy: the {says} learning rate of all was selected\n" * bool(says))


@pytest.mark.parametrize("given, devices", [({}, 2), ({"JAX_NUM_CPU_DEVICES": "3"}, 3)])
def test_a_command_has_a_device_for_each_core_unless_told_otherwise(given, devices):
    lines = (
        "import jax",
        "from kdjax.study import command",
        "command.cores = lambda: 2",
        "command.one_device_per_core()",
        "print(jax.device_count())",
        "command.one_device_per_core()  # too late, but no error",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{devices}\n", done.stderr


def test_cores_are_those_that_the_process_may_use():
    assert 1 <= command.cores() <= os.cpu_count()


def test_the_label_of_an_arm_has_its_words_first():
    columns = {"task": "stsb", "score": 86.33328, "arm": "hinton", "width": 16}
    arm = Arm(columns, None, None, 1, {})
    assert arm.name == "stsb, hinton, score 86.3333, width 16"
