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
    seeds=(2, 1, 1, 2, 1),
    temperatures=(2.5, 4.0, 8.0, 20.0, 40.0),
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
    for same, ((training, settings, rates), named) in asked:
        place = CONFIG.student_widths.index(same["student_width"])
        assert list(named["seeds"]) == list(range(CONFIG.seeds[place]))
        assert not named.get("together") and training.epochs == 15
        rows = len(settings["alpha"]) if settings else 1
        assert rows == (24 if same["arm"] == "distilled" else 1)
        count += rows * (len(rates) + len(named["seeds"]))
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


def test_claims_are_decided_by_their_statistics():
    low_best = {2.5: 100.0, 4: 102, 8: 110, 12: 130, 20: 150, 40: 190, 100: 220}
    flat = {2.5: 150.0, 4: 90, 8: 100, 12: 100, 20: 100, 40: 104, 100: 102}
    values, verdicts = found(low_best, flat)
    assert verdicts == {
        "noise_wide": "refuted",
        "noise_narrow": "supported",
        "usual_wide": "supported",
        "usual_narrow": "refuted",
        "low_narrow": "supported",
        "flat_wide": "supported",
    }
    expected = {
        "noise_wide": 200 - 103,
        "noise_narrow": 200 - 205,
        "usual_wide": 90 - 100,
        "usual_narrow": 102 - 100,
        "low_narrow": 101 - (110 + 130 + 150 + 190 + 220) / 5,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values[name].value, value)
    other, verdicts = found(
        low_best | {40: 180.0, 100: 210, 2.5: 180, 4: 170},
        flat | {4: 110.0, 20: 130, 40: 140, 100: 150},
    )
    np.testing.assert_allclose(other["noise_narrow"].value, 5)
    assert verdicts["noise_narrow"] == verdicts["usual_wide"] == "refuted"
    assert verdicts["low_narrow"] == verdicts["flat_wide"] == "refuted"


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
        ({"temperatures": (1.0, 3.0, 20.0, 40.0)}, "one in 8 to 12"),
        ({"temperatures": (1.0, 3.0, 8.0, 20.0)}, "one in 21 to inf"),
        ({"learning_rates": (0.0,)}, "learning_rate is 0.0"),
        ({"seeds": (0, 1, 1, 1, 1)}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        temperature_width.check(replace(CONFIG, **changed))
