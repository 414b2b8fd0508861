"""The law of 1 / T^2, where it holds and where not, and the experiment end to end."""

from dataclasses import replace
import json

import jax
import numpy as np
import pytest

from experiments import running, temperature_gradients
from kdjax import results
from kdjax.data import Info
from paper_figs import fig4_temperature_gradients

CONFIG = temperature_gradients.Config()
TINY = replace(
    CONFIG, student_width=8, seeds=2, epochs=2, teacher_width=16, teacher_epochs=1
)
# Of the gradient's mean norm over 2,000 draws: local slopes between neighbouring
# temperatures, and T^2 times the norm, by classes. From one other set of draws.
SLOPES = {
    10: {1: -1.20, 2: -1.42, 3: -1.68, 4: -1.86, 5: -1.96, 8: -2.02, 20: -2.02},
    100: {1: -1.40, 2: -1.84, 3: -2.36, 4: -2.57, 5: -2.54, 8: -2.38, 20: -2.10},
    1000: {1: -1.60, 2: -2.39, 3: -3.22, 4: -3.17, 5: -2.87, 8: -2.50, 20: -2.11},
}
COMPENSATED = {
    10: {1: 0.53, 4: 0.95, 20: 0.93, 100: 0.92},
    100: {1: 0.59, 4: 0.49, 20: 0.32, 100: 0.32},
    1000: {1: 0.54, 4: 0.18, 20: 0.10, 100: 0.10},
}
# Of (z - v) / (N T^2), a share of its own length: the least and the largest by classes.
LINEAR_ERRORS = {10: {10: 0.34, 20: 0.18}, 1000: {10: 0.48, 20: 0.23}}


def test_committed_draws_give_the_known_table():
    gaussian = results.load("temperature_gradients", "gaussian")
    for classes, slopes in SLOPES.items():
        rows = results.select(gaussian, classes=classes)
        assert set(rows["seed"]) == set(range(5))
        for column, table in (
            ("by_logits_slope", slopes | {100: -2.00}),
            ("by_logits_compensated", COMPENSATED[classes]),
            ("linear_error", LINEAR_ERRORS.get(classes, {})),
        ):
            for temperature, printed in table.items():
                values = results.select(rows, temperature=temperature)[column]
                noise = 4 * np.std(values, ddof=1) + 0.005  # and half a printed digit
                assert abs(np.mean(values) - printed) < noise, (classes, temperature)


def test_the_code_gives_the_known_table_for_few_classes():
    config = replace(CONFIG, classes=(10, 100), seeds=2)
    gaussian = temperature_gradients.measure_gaussian(config)
    for classes in (10, 100):
        rows = results.select(gaussian, classes=classes)
        for column, table, within in (
            ("by_logits_slope", SLOPES[classes], 0.05),
            ("by_logits_compensated", COMPENSATED[classes], 0.03),
        ):
            for temperature, printed in table.items():
                values = results.select(rows, temperature=temperature)[column]
                np.testing.assert_allclose(values, printed, atol=within)


def test_draws_are_as_spread_and_as_correlated_as_asked():
    student, teacher = temperature_gradients.gaussian_logits(CONFIG, 100, seed=0)
    np.testing.assert_allclose([student.std(), teacher.std()], [3, 5], rtol=0.01)
    correlation = np.corrcoef(np.ravel(student), np.ravel(teacher))[0, 1]
    np.testing.assert_allclose(correlation, 0.8, atol=0.01)


def test_slopes_tend_to_minus_two_and_the_gradient_to_its_limit():
    pair = temperature_gradients.gaussian_logits(replace(CONFIG, draws=50), 10, seed=0)
    t = np.float32([50, 100, 200, 400])
    measures = temperature_gradients.by_logits(*pair, t)
    slopes = temperature_gradients.slopes(t, np.asarray(measures["by_logits"]))
    assert np.isnan(slopes[0])
    np.testing.assert_allclose(slopes[1:], -2, atol=0.03)
    errors = measures["linear_error"]
    np.testing.assert_allclose(errors[1:] / errors[:-1], 0.5, rtol=0.05)


def test_at_every_temperature_the_gradient_is_the_gap_over_t():
    pair = temperature_gradients.gaussian_logits(replace(CONFIG, draws=20), 10, seed=1)
    t = np.float32([0.5, 4, 100])
    found = temperature_gradients.by_logits(*pair, t)["by_logits"]
    for temperature, norm in zip(t, found, strict=True):
        q, p = (jax.nn.softmax(z / temperature) for z in pair)
        expected = np.linalg.norm((q - p) / temperature, axis=-1).mean()
        np.testing.assert_allclose(norm, expected, rtol=1e-4)


@pytest.fixture(scope="module")
def info(digits):
    sizes = (len(split.y) for split in digits)
    return Info("digits", "1", 10, *sizes)


@pytest.fixture(scope="module")
def runs(digits, info):
    return temperature_gradients.measure_students(TINY, digits, info)


def test_every_student_is_seen_three_times_at_each_temperature(runs):
    assert list(dict.fromkeys(runs["stage"])) == ["start", "middle", "end"]
    assert len(runs["seed"]) == 3 * TINY.seeds * len(TINY.temperatures)
    assert set(runs["seed"]) == {0, 1} and set(runs["dataset"]) == {"digits"}
    for kind in ("by_logits", "by_parameters"):
        last = results.select(runs, temperature=100)[f"{kind}_slope"]
        np.testing.assert_allclose(last, -2, atol=0.05)


def test_ratios_are_of_compensated_norms_to_those_of_labels(runs, digits):
    for kind in ("by_logits", "by_parameters"):
        soft = runs["temperature"] ** 2 * runs[kind]
        np.testing.assert_allclose(runs[f"{kind}_ratio"], soft / runs[f"{kind}_hard"])
    start = results.select(runs, stage="start")
    # Before training q is nearly even: of the label it lacks 0.9, of 9 it has 0.1 over.
    np.testing.assert_allclose(start["by_logits_hard"], np.sqrt(0.9), atol=0.06)


def test_students_learn(digits):
    images = digits._replace(test=None)
    accuracy = {}
    for _, stage, training, variables in temperature_gradients.students(
        replace(TINY, student_width=30, batch_size=35, epochs=4, seeds=1), images
    ):
        measures = training.evaluate(variables, digits.validation)
        accuracy[stage] = float(measures["accuracy"])
    assert accuracy["start"] < 0.4 < accuracy["middle"] and accuracy["end"] > 0.6


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"temperatures": (4.0, 1.0)}, "temperatures are .* take an order"),
        ({"temperatures": (1.0, 4.0)}, "temperatures are .* have "),
        ({"classes": (10, 100)}, r"classes are .* have \{1000\}"),
        ({"temperatures": (0.0, 1.0)}, "temperature is 0.0"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"draws": 0}, "draws is 0"),
        ({"correlation": 2.0}, "correlation is 2.0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        temperature_gradients.check(replace(CONFIG, **changed))


def whole(config):
    asked = running.asked(temperature_gradients.EXPERIMENT, config)
    return json.loads(json.dumps(asked))


def test_doublings_are_counted_up_and_down():
    def rows(growths):
        return {
            "stage": np.repeat("end", 2 * len(growths)),
            "classes": np.full(2 * len(growths), 1000.0),
            "temperature": np.tile([1.0, 20.0], len(growths)),
            "by_logits_compensated": np.ravel([(3.0, 3.0 * g) for g in growths]),
        }

    found = temperature_gradients.statistics(
        {"runs": rows([4.0, 4.0]), "gaussian": rows([1 / 8, 1 / 2])}
    )
    assert found["square_on_mnist"] == results.Estimate(2.0, 2.0, 2.0)
    np.testing.assert_allclose(found["square_of_many_classes"].value, 2)


def test_it_runs_from_end_to_end(digits, info, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr("kdjax.data.load", lambda *_: (digits, info))
    config = replace(TINY, draws=20, classes=(3, 1000))
    temperature_gradients.main(config)
    name = "temperature_gradients_mnist5k"
    assert "slope from the T before" in capsys.readouterr().out
    assert results.meta(name)["config"] == whole(config)
    temperature_gradients.main(config)
    assert "nothing left to do" in capsys.readouterr().out
    fig4_temperature_gradients.draw(name)
