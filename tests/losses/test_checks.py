"""What every loss takes and what it refuses: labels, masks, numbers, empty rows."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.losses import conventions
from kdjax.losses.ranges import Fraction, Positive, Scalar
from tests.losses.examples import EXAMPLES, FUNCTIONS, B, C, having
from tests.losses.programs import assert_finite, value, value_and_grad

NONE = (-1, -100, C)  # labels of no class
LABELS = [x for x in having("labels", "tokens") if x[0] != "global_token_mean"]
MASKS = having("mask", "class_mask", "kept", "masked", "from_student")
SCALARS = [
    (function, name)
    for function, f in FUNCTIONS.items()
    for name, p in inspect.signature(f).parameters.items()
    if p.annotation in (Scalar, Positive, Fraction, float)
]
# Losses of a teacher's logits; rates and weights of a row are 1 without a class.
TAUGHT = [name for name, _ in having("teacher_logits")]
for name in (
    "permute_others",
    "sample_logits",
    "acceptance_rate",
    "importance_weights",
):
    TAUGHT.remove(name)
WITH_OTHER_TERMS = {"hinton", "distilbert", "eagle"}


def call(function, **changed):
    return FUNCTIONS[function](**EXAMPLES[function] | changed)


def trace(function, **changed):
    """Shapes of what the function gives; only the arrays that change are traced."""
    return jax.eval_shape(lambda changed: call(function, **changed), changed)


def differentiated(function, **changed):
    """Values, and the gradient by the first argument, the student's."""
    student, *rest = (EXAMPLES[function] | changed).items()
    return value_and_grad(FUNCTIONS[function], student[1], **dict(rest))


def of_examples(function, places):
    """The arguments with these examples of the batch alone."""
    return {n: x[places] for n, x in EXAMPLES[function].items() if np.ndim(x)}


# Labels.


@pytest.mark.parametrize("function, name", LABELS)
def test_labels_of_another_kind_are_refused_by_name(function, name):
    labels = EXAMPLES[function][name]
    for wrong in (labels.astype(np.float32), labels == 0):
        with pytest.raises(
            TypeError, match=rf"^{name} has type .*, but takes integers"
        ):
            trace(function, **{name: wrong})
    for wrong in (labels[..., None], labels[:1], np.eye(C, dtype=int)[labels]):
        with pytest.raises(ValueError, match=rf"^{name} has shape .*, but takes int"):
            trace(function, **{name: wrong})


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
def test_labels_may_be_integers_of_any_size(kind):
    z = np.zeros((2, 300), np.float32)
    z[:, 255] = 9
    found = value(losses.cross_entropy, z, np.array([255, 0]).astype(kind))
    assert found[0] < 0.1 and found[1] > 9


CLASSIFIERS = [f for f, name in LABELS if name == "labels" and f != "distilbert"]


@pytest.mark.parametrize("function", CLASSIFIERS)
def test_an_example_without_a_label_has_no_term_with_it(function):
    labels = np.array([*NONE, 2])
    found, grad = differentiated(function, labels=labels)
    expected, slope = differentiated(function, **of_examples(function, [3]))
    np.testing.assert_allclose(found[3:], expected, rtol=1e-5)
    np.testing.assert_allclose(grad[3:], slope, rtol=1e-5, atol=1e-7)
    if function == "hinton":
        soft, slope = differentiated("soft_kl")
        np.testing.assert_allclose(found[:3], 0.5 * soft[:3], rtol=1e-5)
        np.testing.assert_allclose(grad[:3], 0.5 * slope[:3], rtol=1e-5, atol=1e-7)
    else:
        assert (found[:3] == 0).all() and (grad[:3] == 0).all()


@pytest.mark.parametrize("function", [f for f, name in LABELS if name == "tokens"])
def test_what_is_no_token_does_not_count(function):
    tokens = EXAMPLES[function]["tokens"].copy()
    places = [0, 1, 1, 2], [2, 1, 4, 0]
    tokens[places] = [*NONE, -7]
    found, grad = differentiated(function, tokens=tokens)
    if "mask" not in EXAMPLES[function]:
        assert (found[places] == 0).all() and (grad[places] == 0).all()
        return
    mask = EXAMPLES[function]["mask"].copy()
    mask[places] = False
    expected, slope = differentiated(function, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-7)


def test_a_word_without_a_label_is_none_of_those_that_distilbert_guesses():
    labels = EXAMPLES["distilbert"]["labels"].copy()
    masked = EXAMPLES["distilbert"]["masked"].copy()
    places = [1, 3, 0], [1, 1, 2]  # one of two words that are guessed in each
    assert masked[places].all()
    labels[places], masked[places] = NONE, False
    found, grad = differentiated("distilbert", labels=labels)
    expected, slope = differentiated("distilbert", masked=masked)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, slope, rtol=1e-5, atol=1e-7)


# Hyperparameters.


@pytest.mark.parametrize("function, name", SCALARS)
def test_a_hyperparameter_that_is_no_scalar_is_refused_by_name(function, name):
    for shape in ((1,), (B,), (B, 1)):
        with pytest.raises(ValueError, match=rf"^{name} has shape .* takes a scalar"):
            trace(function, **{name: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    "preset, name",
    [("keras", "temperature"), ("trl", "beta"), ("hinton", "alpha")]
    + [("distillm2_gkd", "alpha"), ("trl_accumulated", "tokens")],
)
def test_a_convention_takes_scalars_and_gives_one(preset, name):
    given = {"hinton": {"labels": EXAMPLES["hinton"]["labels"]}}.get(preset, {})
    logits = (EXAMPLES["hinton"][f"{side}_logits"] for side in ("student", "teacher"))
    student, teacher = logits
    with pytest.raises(ValueError, match=f"^{name} has shape"):
        conventions.loss(
            preset, student, teacher, **given, **{name: np.ones((B, 1), np.float32)}
        )
    scalar = conventions.loss(preset, student, teacher, **given, **{name: 0.5})
    assert scalar.shape == ()
    with pytest.raises(ValueError, match=r"student_logits is \(7,\), but takes"):
        conventions.loss("keras", student[0], teacher[0])


# Masks.


@pytest.mark.parametrize("function, name", MASKS)
def test_masks_are_booleans_or_integers_and_broadcast(function, name):
    examples = EXAMPLES[function]
    class_mask = np.arange(C) < np.array([[3], [5], [1], [4]])
    mask = examples.get(name, class_mask)
    row = mask.reshape(-1, mask.shape[-1])[0]
    masks = mask, mask.astype(np.int32), row, np.broadcast_to(row, mask.shape)
    found = value(lambda masks: [call(function, **{name: m}) for m in masks], masks)
    np.testing.assert_allclose(*found[:2], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(*found[2:], rtol=1e-6, atol=1e-7)
    assert mask.ndim == 1 or not np.array_equal(found[0], found[2])
    with pytest.raises(TypeError, match=rf"^{name} has type float32, but takes boole"):
        trace(function, **{name: mask.astype(np.float32)})
    for wrong in (np.ones(11, bool), np.ones((2, *mask.shape, 1, 1), bool)):
        with pytest.raises(ValueError, match=rf"^{name} has shape .* that broadcasts"):
            trace(function, **{name: wrong})


def test_a_mask_is_broadcast_before_it_is_counted():
    values, mask = np.float32([[1, 2, 9], [3, 4, 9]]), np.array([True, True, False])
    assert losses.token_mean(values, mask) == 2.5
    assert losses.sequence_mean(values, mask).tolist() == [1.5, 3.5]


def test_an_empty_text_does_not_dilute_a_mean_over_texts():
    texts = EXAMPLES["gkd"]
    pair = texts["student_logits"], texts["teacher_logits"]
    mask, own = texts["mask"].copy(), texts["from_student"]
    mask[1] = False
    rest = np.array([0, 2, 3])
    for preset in ("distillm2", "distillm2_gkd"):
        options = {"alpha": 0.9} if preset == "distillm2_gkd" else {}
        found = conventions.loss(preset, *pair, mask=mask, **options)
        few = [z[rest] for z in pair]
        expected = conventions.loss(preset, *few, mask=mask[rest], **options)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = losses.gkd(*pair, own, mask=mask).sum() / B
    expected = losses.gkd(*(z[rest] for z in pair), own[rest], mask=mask[rest]).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("preset", ["tunix", "keras", "tinybert", "trl_without_labels"])
def test_a_convention_that_counts_all_tokens_refuses_a_mask(preset):
    texts = EXAMPLES["gkd"]
    pair, options = (texts["student_logits"], texts["teacher_logits"]), {}
    if preset == "tunix":
        options = {"labels": EXAMPLES["sequence_nll"]["tokens"], "alpha": 0.5}
    conventions.loss(preset, *pair, **options)
    with pytest.raises(TypeError, match="has no use for mask"):
        conventions.loss(preset, *pair, mask=texts["mask"], **options)


# Rows of a teacher.


@pytest.mark.parametrize("function", TAUGHT)
def test_a_teachers_row_without_a_class_is_zero_and_changes_no_other(function):
    teacher = EXAMPLES[function]["teacher_logits"].copy()
    teacher[0], teacher[1] = -np.inf, np.finfo(np.float32).min
    found, grad = differentiated(function, teacher_logits=teacher)
    assert_finite((found, grad))
    expected, slope = differentiated(function, **of_examples(function, [2, 3]))
    if function == "dist_intra":  # one value for the batch
        found = np.array([0, 0, found])
    if function != "gkd":  # it weighs a text by how many are of its kind
        np.testing.assert_allclose(found[2:], expected, rtol=1e-5)
        np.testing.assert_allclose(grad[2:], slope, rtol=1e-4, atol=1e-6)
    if function not in WITH_OTHER_TERMS:
        assert (found[:2] == 0).all() and (grad[:2] == 0).all()


def test_a_teacher_without_a_class_gives_a_sample_of_no_weight():
    teacher = EXAMPLES["sample_logits"]["teacher_logits"].copy()
    teacher[1] = -np.inf
    sampled = losses.sample_logits(jax.random.key(0), teacher, draws=3)
    assert_finite(sampled)
    found = losses.sampled_kl(EXAMPLES["sampled_kl"]["student_logits"], sampled)
    assert found[1] == 0 and (found[::2] != 0).all()


@pytest.mark.parametrize("function", ["cakld", "confidence_weighted"])
def test_nan_of_a_teacher_stays_with_its_example(function):
    teacher = EXAMPLES[function]["teacher_logits"].copy()
    teacher[1, 2] = np.nan
    found = call(function, teacher_logits=teacher)
    np.testing.assert_array_equal(np.isnan(found), [False, True, False, False])


# What else is refused.


@pytest.mark.parametrize(
    "function", ["attention_transfer", "attention_transfer_distance", "nst", "fsp"]
)
def test_feature_maps_of_another_layout_are_refused(function):
    name = "student_second" if function == "fsp" else "student"
    maps = EXAMPLES[function][name]
    for wrong in (np.moveaxis(maps, -1, 1), maps[0], maps[:, :2]):
        with pytest.raises(ValueError, match=r"\[B, H, W, C\], channels last.*" + name):
            trace(function, **{name: wrong})
    with pytest.raises(ValueError, match="channels last"):
        trace(function, **{name: x[..., 0] for name, x in EXAMPLES[function].items()})


def test_a_variance_for_other_channels_is_refused():
    for shape in ((1,), (4,), (4, 4, 3)):
        with pytest.raises(ValueError, match="raw_variance has shape .* one value a c"):
            trace("vid", raw_variance=np.ones(shape, np.float32))


def test_texts_shorter_than_the_reach_of_the_heads_are_refused():
    z, tokens = np.zeros((3, 5, 4), np.float32), np.zeros(5, int)
    assert jax.eval_shape(losses.medusa, z, tokens).shape == ()
    with pytest.raises(ValueError, match="tokens has texts of 4, but 3 heads take 5"):
        jax.eval_shape(losses.medusa, z[:, :4], tokens[:4])


@pytest.mark.parametrize("place", ["indices", "negatives"])
@pytest.mark.parametrize("outside", [-1, 9, 100])
def test_an_index_outside_the_memory_is_nan_and_leaves_no_trace(place, outside):
    examples = EXAMPLES["crd_with_memory"]
    wrong = examples[place].copy()
    wrong[1 if place == "indices" else (1, 2)] = outside
    loss = jax.jit(losses.crd_with_memory)
    values, memory = loss(**examples | {place: wrong})
    others = np.array([0, 2, 3])
    names = ("student", "teacher", "indices", "negatives")
    few = {name: examples[name][others] for name in names}
    expected, without = loss(**examples | few)
    assert np.isnan(values[1])
    np.testing.assert_allclose(values[others], expected, rtol=1e-5)
    for found, as_if_absent in zip(memory, without, strict=True):
        np.testing.assert_allclose(found, as_if_absent, rtol=1e-5)


def test_indices_of_a_memory_are_integers_of_their_shape():
    for name, wrong, error in (
        ("indices", np.zeros(B, np.float32), TypeError),
        ("indices", np.zeros((B, 1), int), ValueError),
        ("negatives", np.zeros((B, 3), np.float32), TypeError),
        ("negatives", np.zeros(3, int), ValueError),
    ):
        with pytest.raises(error, match=f"^{name} has"):
            trace("crd_with_memory", **{name: wrong})


def test_a_memory_from_a_checkpoint_may_be_of_numpy():
    examples = EXAMPLES["crd_with_memory"]
    ours = losses.Memory(*(jnp.asarray(x) for x in examples["memory"]))
    expected = call("crd_with_memory", memory=ours)
    restored = losses.Memory(*(np.asarray(x) for x in ours))
    found = call("crd_with_memory", memory=restored)
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


# Low precision.


def in_type(dtype, arguments):
    """Floating arrays in another type; a memory keeps its own."""
    return {
        name: x.astype(dtype)
        if isinstance(x, np.ndarray | jax.Array)
        and x.ndim
        and jnp.issubdtype(x.dtype, jnp.floating)
        else x
        for name, x in arguments.items()
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_low_precision_is_widened_before_anything_else(function):
    half = in_type(jnp.bfloat16, EXAMPLES[function])
    wide = in_type(np.float32, half)
    found, expected = (call(function, **given) for given in (half, wide))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-5, atol=1e-6)
