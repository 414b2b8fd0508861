"""Recipes pair the layers that they declare, and ignore padding."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.glue import recipes, students
from kdjax import losses, models

pytestmark = pytest.mark.usefixtures("fast_compile")
RNG = np.random.default_rng(0)
TEACHER = models.Shape(40, layers=6, width=48, heads=12, feed_forward=24, positions=20)


def narrow(student):
    """A student of the same layers and heads that is cheap to run."""
    heads = student.shape.heads
    width = TEACHER.width if student.start else 4 * heads
    return student._replace(shape=replace(student.shape, width=width, feed_forward=8))


STUDENTS = {n: narrow(s) for n, s in students.students(TEACHER).items()}


def outputs(shape, rows, seed):
    model = models.bert(shape, classes=2)
    variables = model.init(jax.random.key(seed), rows)
    # Random layers hardly attend to anything: larger weights tell them apart.
    variables["params"] = jax.tree.map(lambda a: 5 * a, variables["params"])
    return jax.jit(model.apply)(variables, rows)[0]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, 40, (5, 7)).astype(np.int32)
    mask = (np.arange(7) < [[7], [5], [7], [3], [6]]).astype(np.int32)
    zeros = np.zeros_like(tokens)
    label = np.array([0, 1, 1, 0, 1], np.int32)
    return {"tokens": tokens * mask, "mask": mask, "segments": zeros, "label": label}


@pytest.fixture(scope="module")
def teacher(rows):
    return outputs(TEACHER, rows, 0)


def projected(recipe, student, teacher, rows):
    variables = recipe.projector.init(jax.random.key(2), student, teacher)
    key = jax.random.key(0)
    return recipe.projector.apply(variables, student, teacher, rows, key)[0]


def test_students_are_as_large_as_their_names_say():
    teacher = replace(TEACHER, width=384, feed_forward=1536)
    for name, student in students.students(teacher).items():
        shape = student.shape
        assert name == f"{shape.layers}x{shape.width}"
        assert shape.feed_forward == 4 * shape.width
        assert len(student.matched) == shape.layers and student.matched[-1] == 6
        assert list(student.matched) == sorted(set(student.matched))
        assert shape.width % recipes.RELATION_HEADS == 0
        assert teacher.heads % shape.heads == 0
    assert students.students(teacher)["3x384"].start == (0, 2, 4)


@pytest.mark.parametrize("name", students.NAMES)
def test_every_recipe_has_a_gradient_and_no_loss_of_padding(name, rows, teacher):
    student = STUDENTS[name]
    model = models.bert(student.shape)
    variables = model.init(jax.random.key(1), rows)
    found = recipes.recipes(student)
    assert list(found) == list(recipes.ALL)
    longer = {
        n: np.pad(a, ((0, 0), (0, 2))) if a.ndim == 2 else a for n, a in rows.items()
    }
    further = outputs(TEACHER, longer, 0)

    @jax.jit
    def losses_of(params, batch, teacher):
        own = model.apply({"params": params, "state": {}}, batch)[0]
        return {
            name: recipe.term(*projected(recipe, own, teacher, batch), batch)
            for name, recipe in found.items()
        }

    one = losses_of(variables["params"], rows, teacher)
    other = losses_of(variables["params"], longer, further)
    for name, loss in one.items():
        assert loss.shape == (5,) and (loss > 0).all(), name
        np.testing.assert_allclose(loss, other[name], rtol=1e-4, err_msg=name)
    jacobian = jax.jit(
        jax.jacrev(
            lambda p: {n: v.sum() for n, v in losses_of(p, rows, teacher).items()}
        )
    )(variables["params"])
    for name, gradient in jacobian.items():
        assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient)), name
        assert any(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradient)), name


def test_layers_are_paired_as_published():
    pairs = {
        name: [
            recipes.recipes(s)[r].pairs for r in ("pkd_skip", "pkd_last", "tinybert")
        ]
        for name, s in STUDENTS.items()
    }
    assert pairs == {
        "3x384": [
            ((1, 2), (2, 4)),
            ((1, 4), (2, 5)),
            ((0, 0), (1, 2), (2, 4), (3, 6)),
        ],
        "4x192": [
            ((1, 2), (2, 3), (3, 5)),
            ((1, 3), (2, 4), (3, 5)),
            ((0, 0), (1, 2), (2, 3), (3, 5), (4, 6)),
        ],
        "2x128": [((1, 3),), ((1, 5),), ((0, 0), (1, 3), (2, 6))],
    }


def test_a_student_that_agrees_in_the_matched_layers_has_no_loss(rows, teacher):
    """With the teacher's own outputs there, in its heads, all terms vanish."""
    student = STUDENTS["3x384"]
    matched = student.matched
    same = teacher._replace(
        features=tuple(teacher.features[i] for i in (0, *matched)),
        attention=tuple(teacher.attention[i - 1] for i in matched),
    )
    for name, recipe in recipes.recipes(student).items():
        pair = same, teacher
        if recipe.pairs:
            own, its = zip(*recipe.pairs, strict=True)
            features = tuple(teacher.features[i] for i in its)
            pair = [each._replace(features=features) for each in pair]
        loss = recipe.term(*pair, rows)
        np.testing.assert_allclose(loss, 0, atol=1e-5, err_msg=name)


def test_groups_of_heads_are_averaged():
    scores = RNG.normal(size=(2, 12, 3, 3)).astype(np.float32)
    found = recipes.grouped(scores, 4)
    np.testing.assert_allclose(found[:, 1], scores[:, 3:6].mean(1), rtol=1e-5)
    np.testing.assert_array_equal(recipes.grouped(scores, 12), scores)
    with pytest.raises(
        ValueError, match="heads is 5, but must divide the teacher's, 12"
    ):
        recipes.grouped(scores, 5)


def test_predictions_are_hintons_or_squared_errors(rows, teacher):
    student = outputs(TEACHER, rows, 3)
    chosen = {"temperature": 2.0, "alpha": 0.3}
    found = recipes.predicted(student, teacher, rows, **chosen)
    pair = student.logits, teacher.logits
    expected = losses.hinton(*pair, rows["label"], **chosen)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    score = np.linspace(0, 5, 5, dtype=np.float32)
    both = [each._replace(logits=each.logits[:, :1]) for each in (student, teacher)]
    found = recipes.predicted(*both, {"score": score}, **chosen)
    s, t = (np.asarray(each.logits[:, 0]) for each in both)
    np.testing.assert_allclose(
        found, 0.3 * (s - t) ** 2 + 0.7 * (s - score) ** 2, rtol=1e-5
    )
    more = recipes.added(
        recipes.logit_mse, *both, {"score": score}, weight=2.0, **chosen
    )
    np.testing.assert_allclose(more - found, 2 * (s - t) ** 2, rtol=1e-3)
