"""Invalid user input raises an error that names it, before anything runs."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import checks, losses, objectives
from kdjax.data import Data, Stream, jitter
from kdjax.data.checks import check_teacher
from kdjax.models import Model, Outputs, projectors
from kdjax.sweep import grid, sweep
from kdjax.training import Measure, Training, optimizers, teacher, train, views
from tests import small

NAN, INF = float("nan"), float("inf")
HINTON, SOFT = small.HINTON, small.SOFT
HARD = objectives.on_logits(losses.cross_entropy)
ONE = {name: [value] for name, value in small.ONE.items()}
RATE = {"learning_rate": [0.1]}


@pytest.fixture
def refused(tmp_path):
    """Asserts that a sweep is refused, and that nothing was started."""

    def refused(error, says, what=None, columns=None, **options):
        what = small.training() if what is None else what
        options = {"data": small.data(), "seeds": [0], "directory": tmp_path} | options
        with pytest.raises(error, match=says):
            sweep(what, ONE if columns is None else columns, **options)
        assert not list(tmp_path.iterdir())

    return refused


def accepted(what, columns=None, data=None, fixed=None):
    columns = checks.columns(ONE if columns is None else columns, [what])
    return checks.prepared([what], columns, [data or small.data()], fixed)


def changed(split="train", **arrays):
    """The data with arrays of one split replaced, or removed if None."""
    data = small.data()
    new = getattr(data, split) | arrays
    new = {name: array for name, array in new.items() if array is not None}
    return data._replace(**{split: new})


def without_teacher():
    splits = (
        {name: array for name, array in split.items() if name != "teacher"}
        for split in small.data()
    )
    return Data(*splits)


# Seeds, counts and axes


@pytest.mark.parametrize("seeds", [np.arange(2), range(2), [0, 1], (np.int8(0), 1)])
def test_seeds_are_whole_numbers_of_any_kind(seeds):
    assert checks.seeds(seeds) == [0, 1]
    assert {type(seed) for seed in checks.seeds(seeds)} == {int}


@pytest.mark.parametrize("seeds", [3, [0, 0.5], [0, 0], [-1], [], [True], "01", None])
def test_seeds_that_are_none(seeds, refused):
    refused(ValueError, "seeds is .*distinct non-negative integers", seeds=seeds)


def test_stored_logits_of_texts_have_the_length_of_their_split():
    outputs = Outputs(np.zeros((4, 9, 5)))
    split = {"tokens": np.zeros((3, 6), np.int32), "label": np.zeros((3, 6), np.int32)}
    teacher = Outputs(np.zeros((3, 6, 5), np.float32))
    check_teacher("validation", {**split, "teacher": teacher}, outputs)
    short = teacher._replace(logits=teacher.logits[:, :5])
    with pytest.raises(ValueError, match=r"shape \(3, 5, 5\), .* takes \(3, 6, 5\)"):
        check_teacher("validation", {**split, "teacher": short}, outputs)


@pytest.mark.parametrize("name", ["runs_per_program", "checkpoint_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_numbers_that_may_be_none_are_positive(name, value, refused):
    says = f"{name} is {value}, but takes a positive integer"
    refused(ValueError, says, **{name: value})


@pytest.mark.parametrize("name", ["epochs", "batch_size", "measure_batch"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None])
def test_counts_that_are_none(name, value, refused):
    training = replace(small.training(), **{name: value})
    refused(ValueError, f"{name} is {value!r}.*positive integer", training)


def test_a_numpy_count_is_a_count():
    accepted(small.training(epochs=np.int64(2), batch_size=np.uint8(20)))


@pytest.mark.parametrize(
    "axis, value, takes",
    [
        *[("temperature", v, "positive") for v in (0, -1.0, NAN, INF, "4", None, True)],
        *[("alpha", v, r"\[0, 1\]") for v in (-0.1, 1.5, NAN)],
        *[("learning_rate", v, "positive") for v in (0.0, -1e-3)],
    ],
)
def test_a_value_out_of_range(axis, value, takes, refused):
    columns = {name: [1.0 if name == axis else v, v] for name, (v,) in ONE.items()}
    columns[axis][1] = value
    refused(ValueError, rf"{axis} is {value!r}, but takes.*{takes}", columns=columns)


@pytest.mark.parametrize(
    "values, shown",
    [
        (jnp.array([4.0, -1.0]), "-1.0"),
        ([jnp.float32(4), jnp.float32(-1)], "-1.0"),
        (np.array([4, -1]), "-1"),
    ],
)
def test_an_array_of_jax_or_numpy_is_an_axis(values, shown):
    (within, _) = checks.axes_of([small.training()])["temperature"]
    np.testing.assert_array_equal(checks.axis("temperature", values[:1], within), [4])
    with pytest.raises(ValueError, match=f"temperature is {shown}, but takes a pos"):
        checks.axis("temperature", values, within)


@pytest.mark.parametrize("value", [1e-50, 1e40])
def test_a_value_that_float32_does_not_hold(value, refused):
    says = rf"temperature is {value}, .*positive number in float32".replace("+", r"\+")
    refused(ValueError, says, columns=ONE | {"temperature": [value]})


@pytest.mark.parametrize("values", [0.5, np.float32(0.5), jnp.array(0.5)])
def test_a_single_number_is_no_axis(values, refused):
    says = "axis 'alpha' is 0.5, but takes a list.*a single one"
    refused(ValueError, says, columns=ONE | {"alpha": values})
    with pytest.raises(ValueError, match=says):
        grid({"alpha": values})


@pytest.mark.parametrize("values", ["0.5", {0.5: 1}, None])
def test_what_is_no_list_is_no_axis(values, refused):
    says = f"axis 'alpha' is {values!r}, but takes a list"
    refused(ValueError, says, columns=ONE | {"alpha": values})


def test_an_axis_that_is_empty_or_has_a_value_twice(refused):
    refused(ValueError, "axis 'alpha' is empty", columns=ONE | {"alpha": []})
    with pytest.raises(ValueError, match="'alpha' is .*once"):
        grid(ONE | {"alpha": [0.9, 0.9]})


def test_columns_of_unequal_length(refused):
    says = "'alpha': 2.*'learning_rate': 1.*equal lengths"
    refused(ValueError, says, columns=ONE | {"alpha": [0.0, 1.0]})


def test_an_axis_that_nothing_takes(refused):
    says = "'temprature' is unknown: hinton.*alpha, learning_rate, temperature"
    refused(TypeError, says, columns=ONE | {"temprature": [1.0]})


@pytest.mark.parametrize("name", ["alpha", "learning_rate"])
def test_an_argument_that_no_axis_gives(name, refused):
    columns = {axis: values for axis, values in ONE.items() if axis != name}
    refused(TypeError, f"'{name}' is missing: hinton.*take alpha", columns=columns)


def test_an_argument_with_a_default_need_not_be_an_axis():
    halves = objectives.on_logits(losses.jensen_shannon)
    for columns in (RATE, RATE | {"beta": [0.1]}):
        accepted(small.training(halves), columns)


@pytest.mark.parametrize(
    "loss, axis",
    [
        (losses.skew_forward_kl, "skew"),
        (losses.jensen_shannon, "beta"),
        (losses.label_smoothing, "smoothing"),
    ],
)
def test_a_fraction_of_a_loss_is_within_0_and_1(loss, axis, refused):
    training = small.training(objectives.on_logits(loss))
    says = rf"{axis} is 1.1, but takes a number in \[0, 1\]"
    refused(ValueError, says, training, RATE | {axis: [1.1]})


def mine(student_logits, teacher_logits, *, alpha):
    return alpha * losses.logit_mse(student_logits, teacher_logits)


def test_ranges_belong_to_the_librarys_own_losses(refused):
    two = RATE | {"alpha": [2.0]}
    accepted(small.training(objectives.on_logits(mine)), two)
    refused(ValueError, r"alpha is 2.0.*\[0, 1\]", columns=ONE | {"alpha": [2.0]})
    says = "alpha is nan, but takes a finite number"
    training = small.training(objectives.on_logits(mine))
    refused(ValueError, says, training, RATE | {"alpha": [NAN]})
    decay = RATE | {"momentum": [1.5]}
    says = r"momentum is 1.5.*\[0, 1\]"
    refused(ValueError, says, small.training(HARD, optimizer=optimizers.sgd), decay)


# The data


def test_data_without_a_teacher_for_a_loss_that_takes_one(refused):
    says = "objective.*teacher's logits, but there is no teacher.*store.*live"
    refused(ValueError, says, data=without_teacher())
    accepted(small.training(HARD), RATE, without_teacher())  # a loss of labels
    accepted(small.training(HARD), RATE, changed(teacher=None))


@pytest.mark.parametrize(
    "data, says",
    [
        (small.data()._replace(validation=None), "validation is None.*accuracy.*None"),
        (small.data()._replace(train=None), "train is None"),
        (small.data()._replace(test={}), "test has arrays of lengths {}.*positive"),
        (changed(index=np.arange(200)), "train has an array 'index', .* training adds"),
        (
            changed("validation", image=np.zeros((0, 8)), label=np.zeros(0, int)),
            "validation has arrays of lengths.*'image': 0",
        ),
        (changed(label=np.arange(9) % 3), "train has.*'image': 200.*'label': 9"),
        (
            changed(teacher=Outputs(np.zeros((200, 3)), (np.zeros((7, 2)),))),
            r"'teacher.features\[0\]': 7",
        ),
    ],
)
def test_splits_that_are_none_or_not_of_one_length(data, says, refused):
    refused(ValueError, says, data=data)


def test_without_selection_no_validation_is_needed():
    accepted(small.training(select=None), data=Data(small.data().train))


LABELS = small.data().validation["label"]


@pytest.mark.parametrize(
    "labels, says",
    [
        (LABELS[:, None], r"shape \(60, 1\) and type int32.*integers of shape \(60,\)"),
        (np.eye(3, dtype=int)[LABELS], r"shape \(60, 3\)"),
        (np.float32(LABELS), "type float32.*takes integers"),
        (LABELS - 1, r"are in \[-1, 1\], but a model with 3 classes takes \[0, 2\]"),
        (LABELS + 1, r"are in \[1, 3\], but a model with 3 classes takes \[0, 2\]"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_labels_that_are_no_classes(labels, says, split, refused):
    short = jax.tree.map(lambda a: a[:60], getattr(small.data(), split))
    says = f"{split} labels .*{says}"
    refused(ValueError, says, data=changed(split, **short | {"label": labels}))


@pytest.mark.parametrize(
    "arrays, says",
    [
        ({"label": [0] * 200}, "train label.* is 0, but takes an array"),
        ({"image": np.float32(1)}, "train image is .*1.0.*, but takes an array"),
        ({"text": np.array(["a"] * 200)}, "train text is of type <U1, .*numbers"),
        ({"teacher": np.zeros((200, 3))}, "'teacher'. is ndarray, .*Outputs.*store"),
    ],
)
def test_what_is_no_array_is_none_of_a_split(arrays, says, refused):
    refused(TypeError, says, data=changed(**arrays))


@pytest.mark.parametrize(
    "data, says",
    [
        (tuple(small.data()), "data has 3 parts, but takes one for each of the 1"),
        ([small.data()] * 2, "data has 2 parts, but takes one for each of the 1"),
        ([small.data().train], "data is dict, but takes kdjax.data.Data"),
        (Data([1, 2]), "train is list, but takes arrays by name"),
        (
            small.data()._replace(test=Stream(iter, 3)),
            "test is Stream, but takes arrays",
        ),
        (
            Data(Stream(lambda seed: [small.data().train], 0)),
            "steps .* is 0.* positive integer",
        ),
    ],
)
def test_what_is_no_data(data, says, refused):
    training = small.training(select=None)
    refused((TypeError, ValueError), says, training, data=data)


def test_the_batches_of_a_stream_are_looked_at_too(refused):
    def streamed(**arrays):
        batches = [changed(**arrays).train]
        return small.data()._replace(train=Stream(lambda seed: batches, steps=3))

    accepted(small.training(), data=streamed())
    labels = small.data().train["label"]
    refused(
        ValueError, r"train labels are in \[1, 3\]", data=streamed(label=labels + 1)
    )
    seven = Outputs(np.zeros((200, 7), np.float32))
    refused(ValueError, "train teacher's logits", data=streamed(teacher=seven))


def test_stored_logits_of_another_shape(refused):
    seven = Outputs(np.zeros((60, 7), np.float32))
    says = r"validation teacher's logits .*\(60, 7\).*\(40, 3\) takes \(60, 3\)"
    refused(ValueError, says, data=changed("validation", teacher=seven))


def test_several_teachers_teach_but_measure_nothing(refused):
    several = objectives.from_several(HINTON)

    def stored(examples, classes=3):
        return Outputs(np.zeros((examples, 4, classes), np.float32))

    accepted(
        small.training(several), ONE | {"teacher": [2.0]}, changed(teacher=stored(200))
    )
    for data, says in (
        (changed(teacher=stored(200, 5)), r"train teacher's.*\(200, 4, 5\)"),
        (changed("test", teacher=stored(70)), r"test teacher's.*\(70, 4, 3\)"),
    ):
        refused(ValueError, says, data=data)
    for number in (0.7, -1.0):
        says = f"teacher is {number}, but takes an integer from 0"
        columns, data = ONE | {"teacher": [number]}, changed(teacher=stored(200))
        refused(ValueError, says, small.training(several), columns, data=data)


def test_a_batch_larger_than_the_data(refused):
    says = "batch_size is 201, but takes at most the 200 examples"
    refused(ValueError, says, small.training(batch_size=201))


# The parts of a training


def test_a_raw_flax_module_is_no_model(refused):
    says = "model is of type Dense, but takes kdjax.models.Model; .*from_linen converts"
    refused(TypeError, says, small.training(model=nn.Dense(3)))


@pytest.mark.parametrize(
    "part, says",
    [
        ({"objective": losses.hinton}, "hinton takes logits.*on_logits converts it"),
        ({"objective": "hinton"}, "objective is 'hinton', but takes a function"),
        ({"optimizer": "adam"}, "optimizer is 'adam', but takes a function"),
        ({"view": None}, "view is None, but takes a function"),
        ({"teacher": {}}, "teacher is {}, but takes a function"),
        ({"projector": projectors.linear}, "projector is .*Projector"),
        ({"measures": small.MEASURE}, "measures is a Measure, .*tuple"),
        ({"measures": (None,)}, "measures is None, but takes .*Measure"),
    ],
)
def test_parts_that_a_training_does_not_take(part, says, refused):
    refused(TypeError, says, replace(small.training(), **part))


def test_what_is_no_training(refused):
    refused(TypeError, "training is of type Model.*Training", [small.training().model])
    refused(ValueError, "trainings is empty", [], columns={})


@pytest.mark.parametrize(
    "select, says",
    [
        (("acuracy", "max"), "select is .'acuracy', 'max'., .*one of accuracy, nll"),
        (("accuracy", "best"), "'best'.*'max' or 'min'"),
        ("accuracy", "select is 'accuracy', .*'max' or 'min'"),
    ],
)
def test_a_selection_that_cannot_be_made(select, says, refused):
    refused(ValueError, says, small.training(select=select))


def scalar(student, teacher, batch):
    return jnp.mean(student.logits)


def by_class(student, teacher, batch):
    return student.logits


def a_pair(student, teacher, batch):
    return student.logits[:, 0], student.logits[:, 0]


@pytest.mark.parametrize(
    "objective, gives",
    [(scalar, r"\(\)"), (by_class, r"\(40, 3\)"), (a_pair, r"\(40,\).*\(40,\)")],
)
def test_an_objective_gives_one_value_an_example(objective, gives, refused):
    says = f"objective {objective.__name__} returned .*{gives}.*" + r"example, \(40,\)"
    refused(ValueError, says, small.training(objective), RATE)


def deep(student, teacher, batch):
    return losses.hint(student.features[0], teacher.features[1])


def remembering(student, teacher, batch):
    return student.extras["memory"][:, 0]


def masked(student, teacher, batch):
    return student.logits[:, 0] * batch["mask"]


@pytest.mark.parametrize(
    "objective, says",
    [
        (deep, r"objective deep takes an el.*teacher has.*features \(40, 6\), att"),
        (remembering, "objective remembering takes 'memory'.*extras none"),
        (masked, "objective masked takes 'mask', but a batch has image, label"),
        (small.hint, r"[(]40, 8[)].*[(]40, 6[)]"),  # raised by the loss itself
    ],
)
def test_an_objective_that_takes_what_is_not_there(objective, says, refused):
    error = AssertionError if objective is small.hint else ValueError
    refused(error, says, small.training(objective), RATE)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_batch_that_lacks_an_array(split, refused):
    training = small.training(SOFT)
    soft = {name: ONE[name] for name in ("temperature", "learning_rate")}
    what = "model" if split == "train" else "measures"
    says = f"{what} takes 'image', but .*has label, teacher"
    refused(ValueError, says, training, soft, data=changed(split, image=None))
    if split != "train":
        says = f"measures takes 'label', but {split} has image, teacher"
        refused(ValueError, says, training, soft, data=changed(split, label=None))


@pytest.mark.parametrize(
    "pairs, width, says",
    [
        (((-1, -1),), (200, 4, 6), r"feature -1 has shape \(40, 8\).*\(40, 4, 6\)"),
        (((2, 0),), (200, 6), r"projector takes an.*student has.*features \(40, 8\)"),
        (((0, 1),), (200, 6), r"projector takes an.*teacher has.*features \(40, 6\)"),
    ],
)
def test_a_projector_that_does_not_fit(pairs, width, says, refused):
    training = small.training(small.hint, projector=projectors.linear(pairs))
    stored = small.data().train["teacher"]
    data = changed(teacher=stored._replace(features=(np.zeros(width, np.float32),)))
    refused(ValueError, says, training, RATE, data=data)


def halved(key, batch, params, fixed):
    return jax.tree.map(lambda a: a[::2], batch)


def averaged(key, batch, params, fixed):
    return {**batch, "brightness": jnp.mean(batch["image"])}


@pytest.mark.parametrize(
    "view, says",
    [
        (halved, r"view returned .*'image'.* of shape \(20, 8\).*batch of 40"),
        (averaged, r"view returned .*'brightness'.* of shape \(\).*batch of 40"),
    ],
)
def test_a_view_that_changes_the_batchs_size(view, says, refused):
    refused(ValueError, says, small.training(view=view))


def prompted(key, batch, params, fixed):
    return {**batch, "prompt": fixed["prompt"]}


def test_what_a_view_or_a_teacher_finds_in_fixed(refused):
    training = small.training(view=prompted)
    says = "view takes 'prompt', but a batch has .*, and fixed has teacher"
    refused(ValueError, says, training, fixed={"teacher": 1})
    training = small.training(teacher=teacher.live(small.training().model))
    refused(ValueError, "fixed is .*fixed={'teacher': variables}", training)
    init = jax.jit(training.model.init)
    variables = init(jax.random.key(0), small.data().train)
    accepted(training, fixed={"teacher": variables})


def test_an_image_that_an_augmentation_does_not_take(refused):
    square = small.training(view=views.augmented(jitter))  # these are vectors
    says = "(?s)unpack.*raised by the view, before training began: a batch has"
    refused(ValueError, says, square)


def apply(variables, batch, key=None):
    return Outputs(batch["image"] @ variables["params"]), {}


@pytest.mark.parametrize(
    "model, says",
    [
        (
            Model(lambda key, batch: jnp.ones((8, 3)), apply),
            "init returned.*params and st",
        ),
        (
            Model(
                lambda key, batch: {"params": jnp.ones((8, 3)), "state": {}},
                lambda variables, batch, key=None: apply(variables, batch)[0],
            ),
            "apply returned.*Outputs and the state",
        ),
    ],
)
def test_a_model_of_ones_own_that_is_none(model, says, refused):
    refused(TypeError, says, small.training(model=model))


def test_a_state_that_changes_its_shape(refused):
    def init(key, batch):
        return {"params": jnp.ones((8, 3)), "state": {"steps": jnp.zeros(())}}

    def counting(variables, batch, key=None):
        return apply(variables, batch)[0], {"steps": variables["state"]["steps"][None]}

    says = r"state of model.*\(\).* before a step and .*\(1,\).* after it"
    refused(ValueError, says, small.training(model=Model(init, counting)))
    steady = Model(init, lambda v, batch, key=None: (apply(v, batch)[0], v["state"]))
    accepted(small.training(model=steady))


def test_a_measure_gives_scalars(refused):
    def sums(student, teacher, batch):
        return {"confusion": jnp.sum(student.logits, 0)}

    own = Measure(sums, lambda totals: totals)
    says = r"measures returned 'confusion' of shape \(3,\).*scalars"
    refused(ValueError, says, small.training(measures=(small.MEASURE, own)))


# The same checks for a single training


def test_a_single_training_is_checked_alike(tmp_path):
    def run(training, **changes):
        hyperparameters = small.ONE | changes
        key = jax.random.key(0)
        train(training, hyperparameters, data=small.data(), key=key, directory=tmp_path)

    with pytest.raises(ValueError, match="alpha is 2, but takes"):
        run(small.training(), alpha=2)
    with pytest.raises(ValueError, match=r"alpha is \[0.5\], but takes a number"):
        run(small.training(), alpha=[0.5])
    with pytest.raises(TypeError, match="'beta' is unknown"):
        run(small.training(), beta=0.5)
    with pytest.raises(ValueError, match="epochs is 0"):
        run(small.training(epochs=0))
    assert not list(tmp_path.iterdir())


def test_phases_share_their_hyperparameters(refused):
    first = Training(small.training().model, SOFT, 1, 40, optimizer=optax.sgd)
    phases = [first, small.training()]
    assert set(checks.axes_of(phases)) > {"temperature", "alpha", "nesterov"}
    says = "'alpha' is missing: soft_kl, hinton, the projector and the optimizer take"
    refused(TypeError, says, phases, {"temperature": [1.0], "learning_rate": [0.1]})
