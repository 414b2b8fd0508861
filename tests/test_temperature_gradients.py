"""Where the gradient scales as 1 / T^2 and where it does not."""

from dataclasses import replace
import itertools

import jax
import numpy as np
import pandas as pd
import pytest

from experiments.mnist import stages, temperature_gradients
from kdjax import models, results
from kdjax.data import Info
from kdjax.study import claims
from kdjax.study.study import Outcome
from paper_figs import fig12_temperature_gradients

pytestmark = pytest.mark.usefixtures("one_device")
STUDY = temperature_gradients.STUDY
CONFIG = temperature_gradients.Config()
# Log-log slopes of the mean gradient norm between adjacent temperatures, and T^2 times
# the norm, by number of classes, from an independent set of 2,000 draws.
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
# Relative distance from (z - v) / (N T^2): minimum and maximum by number of classes.
LINEAR_ERRORS = {10: {10: 0.34, 20: 0.18}, 1000: {10: 0.48, 20: 0.23}}


def test_committed_draws_give_the_known_table():
    gaussian = results.load("temperature_gradients", "gaussian")
    for classes, slopes in SLOPES.items():
        rows = gaussian[gaussian["classes"] == classes].set_index("temperature")
        for column, table in (
            ("by_logits_slope", slopes | {100: -2.00}),
            ("by_logits_compensated", COMPENSATED[classes]),
            ("linear_error", LINEAR_ERRORS.get(classes, {})),
        ):
            for temperature, printed in table.items():
                values = rows.loc[temperature, column]
                assert len(values) == 5
                noise = 4 * values.std() + 0.005  # plus half a printed digit
                assert abs(values.mean() - printed) < noise, (classes, temperature)


@pytest.fixture(scope="module")
def gaussian(one_device):
    """The table of Gaussian logits from a small run."""
    config = replace(
        CONFIG, classes=(1000, 10), seeds=2, draws=500, temperatures=(20, 1, 4)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "run", lambda *_: Outcome({"runs": None}))
        return temperature_gradients.run(config, None, None).tables["gaussian"]


def test_new_draws_give_it_too(gaussian):
    rows = gaussian.set_index(["classes", "temperature"])["by_logits_compensated"]
    for classes, temperature in itertools.product((10, 1000), (1, 4, 20)):
        values, printed = rows.loc[classes, temperature], COMPENSATED[classes]
        np.testing.assert_allclose(values, printed[temperature], atol=0.03)


def test_rows_are_by_classes_seed_and_temperature(gaussian):
    committed = results.load("temperature_gradients", "gaussian")
    assert list(gaussian) == list(committed)
    assert list(gaussian["temperature"]) == 4 * [1, 4, 20]
    assert list(gaussian["classes"]) == 6 * [1000] + 6 * [10]
    assert list(gaussian["seed"]) == 2 * [0, 0, 0, 1, 1, 1]
    assert gaussian["by_logits"].nunique() == 12


def test_draws_are_as_spread_and_as_correlated_as_asked():
    student, teacher = temperature_gradients.gaussian_logits(CONFIG, 100, seed=0)
    np.testing.assert_allclose([student.std(), teacher.std()], [3, 5], rtol=0.01)
    correlation = np.corrcoef(np.ravel(student), np.ravel(teacher))[0, 1]
    np.testing.assert_allclose(correlation, 0.8, atol=0.01)


@pytest.fixture(scope="module")
def pair(one_device):
    config = replace(CONFIG, draws=50)
    return temperature_gradients.gaussian_logits(config, 10, seed=0)


def test_slopes_tend_to_minus_two_and_the_gradient_to_its_limit(pair):
    t = np.float32([50, 100, 200, 400])
    norms = temperature_gradients.logit_norms(*pair, t)
    slopes = temperature_gradients.described(t, norms, {"by_logits": None})
    assert np.isnan(slopes["by_logits_slope"][0])
    np.testing.assert_allclose(slopes["by_logits_slope"][1:], -2, atol=0.03)
    errors = norms["linear_error"]
    np.testing.assert_allclose(errors[1:] / errors[:-1], 0.5, rtol=0.05)


def test_slopes_are_between_neighbours_in_log_log():
    t = np.float32([1, 2, 8])
    rows = temperature_gradients.described(t, {"n": 3 * t**-1.5}, {"n": 6.0})
    np.testing.assert_allclose(rows["n_slope"], [np.nan, -1.5, -1.5], rtol=1e-5)
    np.testing.assert_allclose(rows["n_compensated"], 3 * t**0.5, rtol=1e-5)
    np.testing.assert_allclose(rows["n_ratio"], 0.5 * t**0.5, rtol=1e-5)


def test_at_every_temperature_the_gradient_is_the_gap_over_t(pair):
    t = np.float32([0.5, 4, 50, 100])
    found = temperature_gradients.logit_norms(*pair, t)["by_logits"]
    for temperature, norm in zip(t, found, strict=True):
        q, p = (np.exp(jax.nn.log_softmax(z / temperature)) for z in pair)
        expected = np.linalg.norm((q - p) / temperature, axis=-1).mean()
        np.testing.assert_allclose(norm, expected, rtol=1e-4)


def test_by_the_parameters_of_a_linear_model_it_is_that_of_the_gap_and_the_inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)  # two batches of five
    labels = rng.integers(0, 3, (2, 5))
    teacher = 3 * rng.normal(size=(2, 5, 3)).astype(np.float32)
    model = models.mlp((), classes=3)
    variables = model.init(jax.random.key(0), {"image": x[0]})
    batches = {"image": x, "label": labels, "teacher": models.Outputs(teacher)}
    t = np.float32([0.5, 4])
    found = temperature_gradients.parameter_norms(model, variables, batches, t)
    (dense,) = variables["params"].values()
    z = x @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])

    def softmax(logits):
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True)

    def norm(gap):
        kernel, bias = np.swapaxes(x, 1, 2) @ gap / 5, gap.mean(1)
        return np.sqrt((kernel**2).sum((1, 2)) + (bias**2).sum(1)).mean()

    expected = [norm((softmax(z / at) - softmax(teacher / at)) / at) for at in t]
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    np.testing.assert_allclose(
        found[1], norm(softmax(z) - np.eye(3)[labels]), rtol=1e-4
    )


@pytest.fixture(scope="module")
def measured(one_device, digits):
    """Measurements of an untrained student at unsorted temperatures."""
    config = replace(CONFIG, temperatures=(100, 0.5, 50), batch_size=200)
    model = models.mlp((8,), classes=10)
    variables = model.init(jax.random.key(0), digits.train)
    return temperature_gradients.measure(config, digits, model, variables)


def test_a_student_is_measured_at_each_temperature(measured):
    committed = results.load("temperature_gradients")
    known = [*Info("", "", 0, 0, 0, 0).columns(), "stage", "seed"]
    assert known + list(measured) == list(committed)
    assert list(measured["temperature"]) == [0.5, 50, 100]
    for kind in ("by_logits", "by_parameters"):
        np.testing.assert_allclose(measured[f"{kind}_slope"][2], -2, atol=0.05)


def test_ratios_are_of_compensated_norms_to_those_of_hard_labels(measured):
    for kind in ("by_logits", "by_parameters"):
        soft = measured["temperature"] ** 2 * measured[kind]
        expected = soft / measured[f"{kind}_hard"]
        np.testing.assert_allclose(measured[f"{kind}_ratio"], expected, rtol=1e-6)
    # Before training q is nearly uniform: 0.9 too low for the label, 0.1 too high else.
    np.testing.assert_allclose(measured["by_logits_hard"], np.sqrt(0.9), atol=0.06)


def rows(growths):
    """Rows of one seed per growth factor of T^2 times the norm from T = 1 to 20."""
    found = [
        (t, i, 3 * (g if t == 20 else 1))
        for i, g in enumerate(growths)
        for t in (20, 1)
    ]
    names = ["temperature", "seed", "by_logits_compensated"]
    return pd.DataFrame(found, columns=names).assign(stage="end", classes=1000)


@pytest.mark.parametrize(
    "growths, value, verdict",
    [
        ([1.1, 0.9, 1.0], 0.0965, "supported"),
        ([1 / 8, 1 / 8.1, 8], 3, "refuted"),  # in either direction
        ([4, 1, 2], 1, "undecided"),
        ([4], 2, "not evaluated"),
        ([4, np.nan], np.nan, "not evaluated"),
    ],
)
def test_doublings_decide_the_claims(growths, value, verdict):
    table = rows(growths)
    tables = {"runs": table.drop(columns="classes"), "gaussian": table}
    for claim in STUDY.claims.values():
        found = claims.measured(claim, tables)
        assert found.value == pytest.approx(value, abs=0.01, nan_ok=True)
        assert claims.verdict(claim, found) == verdict


def test_claims_are_about_trained_students_and_many_classes():
    flat, steep = rows([1.0, 1.0]), rows([8.0, 8.0])
    tables = {
        "runs": pd.concat([flat.assign(stage="start"), steep]),
        "gaussian": pd.concat([flat.assign(classes=10), steep]),
    }
    for claim in STUDY.claims.values():
        assert claims.measured(claim, tables).value == 3


@pytest.mark.parametrize("lacking", ["temperature == 1", "classes == 10"])
def test_claims_about_what_was_not_measured_are_not_evaluated(lacking):
    subset = rows([4.0, 4.0]).query(lacking)
    for claim in STUDY.claims.values():
        said = claims.report(claim, {"runs": subset, "gaussian": subset}, decides=False)
        assert "not evaluated" in said and ":" not in said.split("\n")[1]


def test_the_figure_is_drawn_and_the_tables_shown(capsys):
    assert fig12_temperature_gradients.draw(STUDY.name).axes
    STUDY.show(STUDY.tables(STUDY.name), {})
    assert "gaussian: slope" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"temperatures": (0.0, 1.0)}, "temperatures is 0.0"),
        ({"classes": ()}, "classes is"),
        ({"draws": 0}, "draws is 0"),
        ({"correlation": 2.0}, r"correlation is 2.0, but takes a number in \[-1, 1\]"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
