"""The best temperature for each width: what is run, and what decides the claims."""

from dataclasses import replace
import itertools

import numpy as np
import pytest

from experiments import temperature_width, tuning
from kdjax import data, results
from paper_figs import fig9_temperature_width

CONFIG = temperature_width.Config()
TINY = replace(
    CONFIG,
    seeds=(2, 2, 2, 2, 2),
    temperatures=(1.0, 2.5, 4.0, 8.0, 40.0),
    learning_rates=(1e-2,),
    epochs=1,
    teacher_width=16,
    teacher_epochs=1,
)
INFO = data.Info("digits", "1", 10, 700, 100, 200)


@pytest.fixture
def ran(hasty, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(data, "load", lambda *_: (digits, INFO))
    temperature_width.main(replace(TINY, student_widths=(300, 30), seeds=(2, 2)))
    return capsys.readouterr().out


def test_it_runs_from_end_to_end(ran):
    name = "temperature_width_mnist5k"
    assert "T of 3 to 5 is best: " in ran and "no teacher" in ran
    rows = results.load(name)
    taught = results.select(rows, arm="distilled")
    columns = [np.float32(taught[n]) for n in ("student_width", "temperature", "alpha")]
    asked = itertools.product((30, 300), TINY.temperatures, np.float32(TINY.alphas))
    assert set(zip(*columns, strict=True)) == set(asked)
    assert len(taught["seed"]) == 2 * 10 * 2
    assert len(results.load(name, "best")["best"]) == 4
    fig9_temperature_width.draw(name)


def test_every_width_has_its_seeds_and_every_cell_its_own_rate(digits, monkeypatch):
    monkeypatch.setattr(tuning, "tuned", lambda *args, **named: (args, named))
    count = 0
    asked = list(temperature_width.run(CONFIG, digits, INFO))
    for same, ((training, columns), named) in asked:
        place = CONFIG.student_widths.index(same["student_width"])
        assert list(named["seeds"]) == list(range(CONFIG.seeds[place]))
        assert "choose" not in named and training.epochs == 15
        cells = 24 if same["arm"] == "distilled" else 1
        rates = np.tile(np.float32(CONFIG.learning_rates), cells)
        np.testing.assert_array_equal(columns["learning_rate"], rates)
        count += len(rates) + cells * len(named["seeds"])
    assert len(asked) == 10
    assert f"{count:,} runs" in temperature_width.__doc__


def rows(width, errors, seeds, alone):
    """Runs of a width whose errors at a temperature are ``errors[t]`` plus the seed."""
    temperatures = np.repeat(list(errors), seeds)
    seed = np.tile(np.arange(seeds), len(errors))
    taught = {
        "arm": np.full(len(seed), "distilled"),
        "alpha": np.ones(len(seed)),
        "temperature": temperatures,
        "seed": seed,
        "test_errors_last": np.repeat(list(errors.values()), seeds) + 10.0 * seed,
    }
    hard = {
        "arm": np.full(seeds, "hard"),
        "seed": np.arange(seeds),
        "test_errors_last": alone + 10.0 * np.arange(seeds),
    }
    both = results.concatenate([taught, hard])
    both["validation_errors_last"] = both["test_errors_last"] / 2
    both["test_accuracy_last"] = 1 - both["test_errors_last"] / 10_000
    return both | {"student_width": np.full(len(both["seed"]), width)}


def found(narrow, wide, alone=200.0):
    tables = [rows(30, narrow, 4, alone), rows(300, wide, 3, alone)]
    runs = results.concatenate(tables)
    values = temperature_width.statistics({"runs": runs})
    assert values.keys() == temperature_width.CLAIMS.keys()
    return values, {
        name: results.verdict(temperature_width.CLAIMS[name], value)
        for name, value in values.items()
    }


LOW_BEST = {2: 120.0, 2.5: 100, 4: 102, 8: 110, 12: 130, 20: 150, 40: 190, 100: 220}
FLAT = {2: 200.0, 2.5: 150, 4: 90, 8: 100, 12: 100, 20: 100, 40: 104, 100: 102}


def test_claims_are_decided_by_their_statistics():
    values, verdicts = found(LOW_BEST, FLAT)
    assert verdicts == {
        "noise": "refuted",
        "no_signal_wide": "refuted",
        "no_signal_narrow": "supported",
        "usual_wide": "supported",
        "usual_narrow": "refuted",
        "above_narrow": "supported",
        "below_narrow": "supported",
        "flat_wide": "supported",
    }
    expected = {
        "noise": 1 - (205 + 15) / 10_000,  # 15 of the seeds
        "no_signal_wide": 200 - 103,
        "no_signal_narrow": 200 - 205,
        "usual_wide": 90 - 100,
        "usual_narrow": 102 - 100,
        "above_narrow": 101 - (110 + 130 + 150 + 190 + 220) / 5,
        "below_narrow": 101 - 120,
        "flat_wide": np.mean([3 / (100 + 10 * seed) for seed in range(3)]),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values[name].value, value)


def test_other_rows_decide_otherwise():
    hot = {40: 8000.0, 100: 8200}
    narrow = LOW_BEST | hot | {2: 90.0, 2.5: 180, 4: 2000}
    values, verdicts = found(narrow, FLAT | {4: 110.0, 40: 80, 100: 70})
    assert verdicts["noise"] == verdicts["no_signal_narrow"] == "supported"
    for name in ("usual_wide", "usual_narrow", "below_narrow", "flat_wide"):
        assert verdicts[name] == "refuted"
    values, verdicts = found(LOW_BEST | {2.5: 300.0, 4: 310}, FLAT)
    assert verdicts["above_narrow"] == "refuted"


def test_a_seed_does_not_choose_its_own_luck():
    table = rows(30, {3.0: 50.0, 4: 50, 8: 50, 9: 50, 10: 50, 12: 50}, 4, 0)
    lucky = (table["temperature"] == 9 + table["seed"]) * (table["seed"] < 2)
    for name in ("validation_errors_last", "test_errors_last"):
        table[name] = table[name] - 20.0 * lucky
    taught = results.select(table, arm="distilled")
    assert (temperature_width.inside_less_outside(taught) <= 0).all()


def test_the_best_temperature_has_the_fewest_errors_and_moves_with_the_seeds():
    table = rows(30, {1.0: 50.0, 2: 40, 4: 41}, 6, 0)
    table["test_errors_last"] += np.where(table["temperature"] == 4, 1, 0) * np.where(
        table["seed"] % 2, 8, -8
    )
    best = temperature_width.bests(table)
    assert best["best"] == [2] and best["best_low"] == [2] and best["best_high"] == [4]


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"seeds": (1,)}, "as many of both"),
        ({"student_widths": (10, 30, 300, 300, 800)}, "no width twice"),
        ({"student_widths": (10, 30, 100, 400, 800)}, "30 and 300 units"),
        ({"alphas": (0.9,)}, "alpha of 1"),
        ({"alphas": (1.0, 2.0)}, "alpha is 2.0"),
        ({"temperatures": (1.0, 3.0, 40.0)}, "one in 8 to 20"),
        ({"temperatures": (1.0, 2.5, 8.0, 40.0)}, "one in 3 to 5"),
        ({"temperatures": (1.0, 3.0, 8.0, 20.0)}, "one in 21 to inf"),
        ({"learning_rates": (0.0,)}, "learning_rate is 0.0"),
        ({"seeds": (0, 2, 2, 2, 2)}, "seeds is 0"),
        ({"seeds": (2, 2, 2, 2, 1)}, "2 or more"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        temperature_width.check(replace(CONFIG, **changed))
