"""Bad input, and that it is refused before anything is computed."""

import numpy as np
import pytest

from kdjax import losses, models
from kdjax.checks import check_axes, check_counts, check_data, check_rows
from kdjax.sweep import grid, sweep
from tests.test_sweep import AXES, make

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "axis, value, takes",
    [
        *[("temperature", v, "positive") for v in (0, -1.0, NAN, INF, "4", None, True)],
        *[("alpha", v, r"\[0, 1\]") for v in (-0.1, 1.5, NAN)],
        *[("learning_rate", v, "positive") for v in (0.0, -1e-3)],
    ],
)
def test_a_value_out_of_range(axis, value, takes):
    with pytest.raises(ValueError, match=f"{axis} is {value!r}.*{takes}"):
        grid(AXES | {axis: [1.0, value]}, losses.hinton)


def test_an_empty_axis():
    with pytest.raises(ValueError, match="'alpha' is empty"):
        grid(AXES | {"alpha": []}, losses.hinton)


def test_an_axis_that_is_no_argument_of_the_loss():
    with pytest.raises(TypeError, match="'temprature'.*alpha.*temperature"):
        grid(AXES | {"temprature": [1.0]}, losses.hinton)


def test_an_argument_of_the_loss_that_no_axis_gives():
    with pytest.raises(TypeError, match="'alpha' is missing"):
        grid({"temperature": [1.0], "learning_rate": [0.1]}, losses.hinton)
    check_axes({"learning_rate": [0.1]}, losses.jensen_shannon)  # beta has a default


def test_every_hyperparameter_of_a_loss_has_a_range():
    for axis in ("skew", "beta", "smoothing"):
        loss = {
            "skew": losses.skew_forward_kl,
            "beta": losses.jensen_shannon,
            "smoothing": losses.label_smoothing,
        }[axis]
        with pytest.raises(ValueError, match=axis):
            check_axes({axis: [1.1], "learning_rate": [0.1]}, loss)


def test_an_axis_with_a_value_twice():
    with pytest.raises(ValueError, match="'alpha' is .*once"):
        grid(AXES | {"alpha": [0.9, 0.9]}, losses.hinton)


@pytest.mark.parametrize("value", [1e-50, 1e40])
def test_a_value_that_float32_does_not_hold(value):
    with pytest.raises(ValueError, match="temperature is"):
        grid(AXES | {"temperature": [value]}, losses.hinton)


@pytest.mark.parametrize("seeds", [[], [-1], [0, 0]])
def test_seeds_that_are_none(seeds):
    with pytest.raises(ValueError, match="seeds are"):
        check_rows({"alpha": [1.0]}, seeds)


def test_columns_of_unequal_length():
    with pytest.raises(ValueError, match="'alpha': 2, 'temperature': 3"):
        check_rows({"alpha": [0, 1], "temperature": [1, 2, 3]}, [0])


def broken(digits, **parts):
    return digits._replace(validation=digits.validation._replace(**parts))


def test_teacher_and_student_with_different_numbers_of_classes(digits, tmp_path):
    seven = broken(digits, teacher_logits=np.zeros((100, 7), np.float32))
    columns = grid(AXES, losses.hinton)
    with pytest.raises(ValueError, match=r"teacher_logits.*\(100, 7\).*\(100, 10\)"):
        sweep(
            make(),
            columns,
            data=seven,
            seeds=[0],
            name="never",
            directory=tmp_path,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_out_of_range(label, digits):
    labels = digits.validation.y.copy()
    labels[3] = label
    with pytest.raises(ValueError, match=rf"validation labels.*{label}.*\[0, 9\]"):
        check_data(broken(digits, y=labels), models.mlp((8,), classes=10))


def test_more_inputs_than_labels(digits):
    with pytest.raises(ValueError, match="100 inputs but 99 labels"):
        check_data(
            broken(digits, y=digits.validation.y[:-1]), models.mlp((8,), classes=10)
        )


def test_several_teachers_teach_but_measure_nothing(digits):
    model = models.mlp((8,), classes=10)

    def several(split, classes=10):
        return split._replace(teacher_logits=np.zeros((len(split.y), 3, classes)))

    check_data(digits._replace(train=several(digits.train)), model)
    for broken_data, says in (
        (digits._replace(train=several(digits.train, 9)), "train teacher_logits"),
        (digits._replace(test=several(digits.test)), "test teacher_logits"),
    ):
        with pytest.raises(ValueError, match=says):
            check_data(broken_data, model)


@pytest.mark.parametrize("counts", [0, -1, (), (30, 0), 1.5])
def test_counts_that_are_none(counts):
    with pytest.raises(ValueError, match="student_widths is .*whole numbers"):
        check_counts("student_widths", counts)
    with pytest.raises(ValueError, match="each number once"):
        check_counts("student_widths", (30, 30))
