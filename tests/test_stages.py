"""Students at the start, middle and end of training."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.mnist import setup, stages
from kdjax.data import Info
from kdjax.training import step

pytestmark = pytest.mark.usefixtures("one_device")
CONFIG = stages.Students()
TINY = replace(CONFIG, student_width=8, seeds=2, epochs=3, batch_size=350)
INFO = Info("digits", "1", 10, 700, 100, 200)


@pytest.fixture(scope="module")
def found(one_device, digits):
    return list(stages.students(TINY, digits))


def test_every_student_is_seen_three_times(found):
    expected = [(seed, s) for seed in (0, 1) for s in ("start", "middle", "end")]
    assert [student[:2] for student in found] == expected
    assert len({model for _, _, model, _ in found}) == 1  # compiled once


def test_it_learns_by_hand_alike(found, digits):
    """Six steps, the learning rate falling over all: two, four and six of them."""
    training = setup.student(8, setup.HINTON, epochs=3, batch_size=350)
    values = {"temperature": 4.0, "alpha": 0.9, "learning_rate": 0.01}
    init_key, key = jax.random.split(jax.random.key(1))

    def batch(rows):
        return jax.tree.map(lambda a: jnp.asarray(a)[rows], digits.train)

    @jax.jit
    def epoch(state, key):
        order, noise = jax.random.split(key)
        rows = jax.random.permutation(order, 700).reshape(2, 350)
        for some, own in zip(rows, jax.random.split(noise, 2), strict=True):
            state, _ = step.step(training, 6, state, batch(some), own, None)
        return state

    state = step.init(training, 6, init_key, values, batch(np.arange(350)), None)
    states = {0: state}
    for done in (1, 2, 3):
        states[done] = epoch(states[done - 1], jax.random.fold_in(key, done))
    own = {stage: variables for seed, stage, _, variables in found if seed == 1}
    for stage, done in {"start": 0, "middle": 2, "end": 3}.items():
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            own[stage]["params"],
            states[done].params["student"],
        )


def test_rows_are_of_each_seed_and_stage(found, digits, monkeypatch):
    monkeypatch.setattr(stages, "students", lambda config, images: iter(found))
    with_teacher = setup.WithTeacher(digits, {"seconds": 7})
    monkeypatch.setattr(setup, "plain_teacher", lambda config, images: with_teacher)

    def measure(config, images, model, variables):
        assert config is TINY and images is digits
        return pd.DataFrame({"row": range(2)})

    outcome = stages.run(measure, TINY, None, INFO)
    assert outcome.facts == {"teacher": {"seconds": 7}, "seconds": 7}
    runs = outcome.tables["runs"]
    assert list(runs) == [*INFO.columns(), "stage", "seed", "row"]
    assert list(runs["stage"]) == 2 * [
        "start",
        "start",
        "middle",
        "middle",
        "end",
        "end",
    ]
    assert list(runs["seed"]) == 6 * [0] + 6 * [1] and set(runs["dataset"]) == {
        "digits"
    }


def test_the_teacher_is_that_of_temperature_alpha(monkeypatch, digits):
    def fit(training, images, *, learning_rate):
        assert training.constrain is None and learning_rate == 1e-3
        assert (training.epochs, training.batch_size) == (60, 128)
        assert training.view is not setup.student(1, setup.HARD, epochs=1).view
        return images

    monkeypatch.setattr(setup, "fit", fit)
    assert setup.plain_teacher(CONFIG, digits) is digits


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
