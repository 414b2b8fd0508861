"""Bad input, and that it is refused before anything is computed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import checks, losses, models, objectives
from kdjax.data import Data
from kdjax.models import Outputs, projectors
from kdjax.sweep import grid, sweep
from kdjax.training import Training, teacher, train

NAN, INF = float("nan"), float("inf")
STUDENT = models.mlp((4,), classes=10)
HINTON = objectives.on_logits(losses.hinton)
AXES = {"temperature": [1.0], "alpha": [0.9], "learning_rate": [1e-3]}


def training(objective=HINTON, **options):
    defaults = {"model": STUDENT, "epochs": 1, "batch_size": 50}
    return Training(**{"objective": objective} | defaults | options)


def columns(training=None, **axes):
    training = training or globals()["training"]()
    return checks.columns(AXES | axes, [training])


def prepared(data, axes=AXES, fixed=None, **options):
    asked = training(**options)
    return checks.prepared([asked], checks.columns(axes, [asked]), [data], fixed)


@pytest.mark.parametrize(
    "axis, value, takes",
    [
        *[("temperature", v, "positive") for v in (0, -1.0, NAN, INF, "4", None, True)],
        *[("alpha", v, r"\[0, 1\]") for v in (-0.1, 1.5, NAN)],
        *[("learning_rate", v, "positive") for v in (0.0, -1e-3)],
        *[("temperature", v, "positive") for v in (1e-50, 1e40)],  # not of float32
    ],
)
def test_a_value_out_of_range(axis, value, takes):
    with pytest.raises(ValueError, match=f"{axis} is .*takes a.*{takes}"):
        columns(**{axis: [value]})


def test_values_of_jax_and_numpy_are_numbers_and_named_as_such():
    values = [jnp.float32(2.0), np.float64(3), 4]
    found = checks.axis("temperature", values)
    np.testing.assert_array_equal(found, np.float32([2, 3, 4]))
    np.testing.assert_array_equal(checks.axis("alpha", jnp.arange(2.0)), [0, 1])
    with pytest.raises(ValueError, match="alpha is 1.5, but takes"):
        columns(alpha=[jnp.float32(1.5)])


@pytest.mark.parametrize("values", [4.0, jnp.float32(4), "4"])
def test_an_axis_that_is_no_list_of_values(values):
    with pytest.raises(ValueError, match="'temperature' is .*takes a list"):
        columns(temperature=values)


def test_an_axis_without_values_or_with_one_twice():
    with pytest.raises(ValueError, match="'alpha' is empty"):
        grid(AXES | {"alpha": []})
    with pytest.raises(ValueError, match="'alpha' is .*once"):
        grid(AXES | {"alpha": [0.9, 0.9]})


def test_columns_of_unequal_length():
    with pytest.raises(ValueError, match="'temperature': 1, 'alpha': 2"):
        columns(alpha=[0.0, 1.0])


def test_an_axis_that_nothing_takes():
    with pytest.raises(TypeError, match="'temprature' is unknown: hinton.*temperature"):
        columns(temprature=[1.0])


def test_an_axis_that_is_missing():
    with pytest.raises(TypeError, match="'alpha' is missing: hinton"):
        checks.columns({"temperature": [1.0], "learning_rate": [0.1]}, [training()])
    plain = training(objectives.on_logits(losses.jensen_shannon))
    checks.columns({"learning_rate": [0.1]}, [plain])  # beta has a default


def test_ranges_belong_to_the_arguments_of_kdjaxs_own_losses():
    def mine(student, teacher, labels, *, alpha):
        return alpha * losses.soft_kl(student, teacher, temperature=1.0)

    own = training(objectives.on_logits(mine))
    checks.columns({"alpha": [2.0], "learning_rate": [0.1]}, [own])
    with pytest.raises(ValueError, match="alpha is 2.0"):
        columns(alpha=[2.0])


@pytest.mark.parametrize("seeds", [3, [0, 0.5], [0, 0], [-1], [], [True], "01", None])
def test_seeds_that_are_none(seeds):
    with pytest.raises(ValueError, match="seeds is .*distinct whole numbers"):
        checks.seeds(seeds)


def test_seeds_of_numpy_are_seeds():
    assert checks.seeds(np.arange(2)) == [0, 1] and checks.seeds(range(3)) == [0, 1, 2]


@pytest.mark.parametrize("name", ["epochs", "batch_size", "measure_batch"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_counts_that_are_none(name, value, digits):
    with pytest.raises(ValueError, match=f"{name} is {value}, .*whole number"):
        prepared(digits, **{name: value})


def test_a_batch_larger_than_the_data(digits):
    with pytest.raises(ValueError, match="batch_size is 701.*700"):
        prepared(digits, batch_size=701)


def test_no_validation_where_an_epoch_is_to_be_selected(digits):
    with pytest.raises(ValueError, match="validation is None.*select=None"):
        prepared(digits._replace(validation=None))
    prepared(digits._replace(validation=None), select=None)


def test_a_selection_by_what_is_not_measured(digits):
    with pytest.raises(ValueError, match="select is .*'f1'.*accuracy"):
        prepared(digits, select=("f1", "max"))
    with pytest.raises(ValueError, match="'max' or 'min'"):
        prepared(digits, select=("accuracy", "best"))


def changed(digits, split="train", **parts):
    return digits._replace(**{split: {**getattr(digits, split), **parts}})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_labels_that_are_none_of_the_classes(split, digits):
    labels = getattr(digits, split)["label"]
    for wrong, says in (
        (labels[:, None], "labels have shape"),
        (np.eye(10)[labels], "labels have shape"),
        (labels.astype(np.float32), "labels have .* type float32"),
        (np.where(np.arange(len(labels)) == 3, 10, labels), r"labels lie in \[0, 10\]"),
        (np.where(np.arange(len(labels)) == 3, -1, labels), r"labels lie in \[-1, 9\]"),
    ):
        with pytest.raises(ValueError, match=f"{split} {says}"):
            prepared(changed(digits, split, label=wrong))


def test_arrays_of_unequal_length_and_an_empty_split(digits):
    with pytest.raises(ValueError, match="validation has .*'image': 100, 'label': 99"):
        short = digits.validation["label"][:99]
        prepared(changed(digits, "validation", label=short))
    empty = jax.tree.map(lambda a: a[:0], digits.validation)
    with pytest.raises(ValueError, match="validation has arrays of lengths"):
        prepared(digits._replace(validation=empty))


def test_a_teacher_of_other_classes(digits):
    seven = Outputs(np.zeros((100, 7), np.float32))
    with pytest.raises(ValueError, match=r"validation .*\(100, 7\).*\(100, 10\)"):
        prepared(changed(digits, "validation", teacher=seven))


def test_several_teachers_teach(digits):
    three = Outputs(np.zeros((700, 3, 10), np.float32))
    several = objectives.from_several(HINTON)
    axes = AXES | {"teacher": [0.0]}
    prepared(changed(digits, teacher=three), axes, objective=several)
    with pytest.raises(ValueError, match="train teacher"):
        nine = Outputs(np.zeros((700, 3, 9), np.float32))
        prepared(changed(digits, teacher=nine), axes, objective=several)


def test_data_without_the_teacher_that_a_loss_takes(digits):
    plain = Data(*({k: v for k, v in s.items() if k != "teacher"} for s in digits))
    with pytest.raises(ValueError, match="teacher's logits, but there is no teacher"):
        prepared(plain)
    hard = objectives.on_logits(losses.cross_entropy)
    prepared(plain, {"learning_rate": [0.1]}, objective=hard)


def test_a_batch_without_what_model_or_objective_take(digits):
    tokens = models.from_linen(nn.Dense(10), inputs=("tokens",))
    with pytest.raises(ValueError, match="model takes 'tokens', but a batch has image"):
        prepared(digits, model=tokens)
    unlabelled = Data(*({k: v for k, v in s.items() if k != "label"} for s in digits))
    with pytest.raises(ValueError, match="'label', but a batch has image, teacher"):
        prepared(unlabelled, select=None)


def test_a_raw_flax_module_is_no_model(digits):
    with pytest.raises(TypeError, match=r"(?s)model is .*Dense.*from_linen"):
        prepared(digits, model=nn.Dense(10))


def test_an_objective_of_another_shape(digits):
    def mean(student, teacher, batch):
        return jnp.mean(student.logits)

    with pytest.raises(
        ValueError, match=r"objective mean gives .*\(\).*one value.*\(50,\)"
    ):
        prepared(digits, {"learning_rate": [0.1]}, objective=mean)


def test_a_projector_whose_axes_do_not_fit(digits):
    def wide(batch):
        features = (np.zeros((len(batch["label"]), 3, 5), np.float32),)
        return Outputs(np.zeros((len(batch["label"]), 10), np.float32), features)

    taught = teacher.store(wide, digits)
    with pytest.raises(ValueError, match="projector: the student's feature"):
        prepared(taught, projector=projectors.linear())


def test_a_view_that_changes_the_size_of_the_batch(digits):
    def half(key, batch, params, fixed):
        return jax.tree.map(lambda a: a[::2], batch)

    with pytest.raises(ValueError, match=r"view gives .*\(25,.*batches of 50"):
        prepared(digits, view=half)


@pytest.mark.parametrize(
    "optimizer", [optax.scale_by_adam(), lambda: optax.sgd(-0.1), optax.scale(0.1)]
)
def test_an_optimizer_that_climbs(optimizer, digits):
    axes = {"temperature": [1.0], "alpha": [0.9]}
    with pytest.raises(ValueError, match="uphill"):
        prepared(digits, axes, optimizer=optimizer)


def test_nothing_is_written_before_everything_is_checked(digits, tmp_path):
    with pytest.raises(ValueError, match="temperature is 0.0"):
        sweep(
            training(),
            AXES | {"temperature": [0.0]},
            data=digits,
            seeds=[0],
            directory=tmp_path,
        )
    bad = changed(digits, label=digits.train["label"][:, None])
    one = {name: value for name, (value,) in AXES.items()}
    with pytest.raises(ValueError, match="train labels"):
        train(training(), one, data=bad, key=jax.random.key(0), directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_doubles_are_converted_and_that_is_said(digits, capsys):
    doubles = changed(digits, image=digits.train["image"].astype(np.float64))
    (ready,) = prepared(doubles)
    assert ready.train["image"].dtype == np.float32
    said = " ".join(capsys.readouterr().err.split())
    assert "train image: float64, converted to float32" in said
