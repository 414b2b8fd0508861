"""Recipes pair the layers that they declare, and ignore padding."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.glue import students, terms
from kdjax import losses, models

RNG = np.random.default_rng(0)
TEACHER = models.Shape(40, layers=6, width=192, heads=12, feed_forward=24, positions=20)


def narrow(student):
    """A student of the same layers and heads that is cheap to run."""
    heads = student.shape.heads
    width = TEACHER.width if student.start else 16 * heads
    return student._replace(shape=replace(student.shape, width=width, feed_forward=8))


STUDENTS = {n: narrow(s) for n, s in students.students(TEACHER).items()}


def outputs(shape, rows, seed):
    model = models.bert(shape, classes=2)
    variables = model.init(jax.random.key(seed), rows)
    # Random layers hardly attend to anything: larger weights tell them apart.
    variables["params"] = jax.tree.map(lambda a: 2 * a, variables["params"])
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
        assert shape.width % terms.RELATION_HEADS == 0
        assert teacher.heads % shape.heads == 0
    assert students.students(teacher)["3x384"].start == (0, 2, 4)


@pytest.mark.parametrize("name", students.NAMES)
def test_every_recipe_has_a_gradient_and_no_loss_of_padding(name, rows, teacher):
    student = STUDENTS[name]
    model = models.bert(student.shape)
    variables = model.init(jax.random.key(1), rows)
    found = terms.recipes(student, TEACHER.width)
    assert list(found) == list(terms.ALL)
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
        np.testing.assert_allclose(loss, other[name], rtol=1e-3, err_msg=name)
    jacobian = jax.jit(
        jax.jacrev(
            lambda p: {n: v.sum() for n, v in losses_of(p, rows, teacher).items()}
        )
    )(variables["params"])
    for name, gradient in jacobian.items():
        assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradient)), name
        assert any(jnp.abs(g).max() > 0 for g in jax.tree.leaves(gradient)), name


def test_layers_are_paired_as_published():
    found = {name: terms.pairs(student) for name, student in STUDENTS.items()}
    assert found == {
        "3x384": (
            ((0, 0), (1, 2), (2, 4), (3, 6)),
            ((1, 2), (2, 4)),
            ((1, 4), (2, 5)),
        ),
        "4x192": (
            ((0, 0), (1, 2), (2, 3), (3, 5), (4, 6)),
            ((1, 2), (2, 3), (3, 5)),
            ((1, 3), (2, 4), (3, 5)),
        ),
        "2x128": (((0, 0), (1, 3), (2, 6)), ((1, 3),), ((1, 5),)),
    }


# What a loss of the student 4x192 depends on, of its own and of the teacher's outputs;
# "first" are hidden states of the first token alone.
DEPENDS = {
    "logit_mse": ({"logits"}, {"logits"}),
    "pkd_skip": ({"first1", "first2", "first3"}, {"first2", "first3", "first5"}),
    "pkd_last": ({"first1", "first2", "first3"}, {"first3", "first4", "first5"}),
    "tinybert": (
        {f"hidden{i}" for i in range(5)} | {f"scores{i}" for i in range(4)},
        {f"hidden{i}" for i in (0, 2, 3, 5, 6)} | {f"scores{i}" for i in (1, 2, 4, 5)},
    ),
    "minilm": ({"scores3", "values3"}, {"scores5", "values5"}),
    "minilm_v2": tuple(
        {f"{name}{i}" for name in ("queries", "keys", "values")} for i in (3, 5)
    ),
    "similarity": ({"pooled"}, {"pooled"}),
    "rkd": ({"pooled"}, {"pooled"}),
}


def used(gradient):
    """Names of the outputs with a gradient."""
    parts = {"scores": gradient.attention, "logits": [gradient.logits]}
    parts |= {n: gradient.extras[n] for n in ("queries", "keys", "values")}
    parts["pooled"] = [gradient.extras["pooled"]]
    found = {
        name if name in ("logits", "pooled") else f"{name}{i}"
        for name, leaves in parts.items()
        for i, leaf in enumerate(leaves)
        if np.abs(leaf).max() > 0
    }
    for i, leaf in enumerate(gradient.features):
        first, others = np.abs(leaf[:, 0]).max(), np.abs(leaf[:, 1:]).max()
        if first > 0:
            found.add(f"hidden{i}" if others > 0 else f"first{i}")
    return found


def test_losses_depend_on_what_was_published_and_on_nothing_else(rows, teacher):
    student = STUDENTS["4x192"]
    own = outputs(student.shape, rows, 4)
    for name, recipe in terms.recipes(student, 99).items():
        variables = recipe.projector.init(jax.random.key(2), own, teacher)

        def summed(both, recipe=recipe, variables=variables):
            key = jax.random.key(0)
            pair, _ = recipe.projector.apply(variables, *both, rows, key)
            return recipe.term(*pair, rows).sum()

        gradients = jax.jit(jax.grad(summed))((own, teacher))
        assert tuple(map(used, gradients)) == DEPENDS[name], name


def test_a_student_that_agrees_in_the_matched_layers_has_no_loss(rows, teacher):
    """With the teacher's own outputs there, in its heads, all terms vanish."""
    student = STUDENTS["3x384"]
    matched = student.matched
    same = teacher._replace(
        features=tuple(teacher.features[i] for i in (0, *matched)),
        attention=tuple(teacher.attention[i - 1] for i in matched),
    )
    for name, recipe in terms.recipes(student, TEACHER.width).items():
        pair = projected(recipe, same, teacher, rows)
        if name == "tinybert":  # whose maps are random
            features = tuple(teacher.features[i] for i in (0, *matched))
            pair = tuple(each._replace(features=features) for each in pair)
        loss = recipe.term(*pair, rows)
        if name == "pkd_last":  # layers 4 and 5 with 2 and 4
            assert (loss > 0).all()
        else:
            np.testing.assert_allclose(loss, 0, atol=1e-5, err_msg=name)


def test_distributions_of_more_heads_are_averaged(rows, teacher):
    """The teacher's mean over three heads, as a student would have to attend."""
    real = rows["mask"][:, None, None] != 0
    p = jax.nn.softmax(jnp.where(real, teacher.attention[-1], -jnp.inf), -1)
    mean = p.reshape(5, 4, 3, 7, 7).mean(2)
    student = teacher._replace(attention=(jnp.log(mean + 1e-30),))
    loss = terms.minilm(4, student, teacher, rows)
    np.testing.assert_allclose(loss, 0, atol=1e-5)


def test_groups_of_heads_are_averaged():
    scores = RNG.normal(size=(2, 12, 3, 3)).astype(np.float32)
    found = terms.grouped(scores, 4)
    np.testing.assert_allclose(found[:, 1], scores[:, 3:6].mean(1), rtol=1e-5)
    np.testing.assert_array_equal(terms.grouped(scores, 12), scores)
    with pytest.raises(
        ValueError, match="heads is 5, but must divide the teacher's, 12"
    ):
        terms.grouped(scores, 5)


def test_predictions_are_hintons_or_squared_errors(rows, teacher):
    student = outputs(TEACHER, rows, 3)
    chosen = {"temperature": 2.0, "alpha": 0.3}
    found = terms.predicted(student, teacher, rows, **chosen)
    pair = student.logits, teacher.logits
    expected = losses.hinton(*pair, rows["label"], **chosen)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    score = np.linspace(0, 5, 5, dtype=np.float32)
    both = [each._replace(logits=each.logits[:, :1]) for each in (student, teacher)]
    found = terms.predicted(*both, {"score": score}, **chosen)
    s, t = (np.asarray(each.logits[:, 0]) for each in both)
    np.testing.assert_allclose(
        found, 0.3 * (s - t) ** 2 + 0.7 * (s - score) ** 2, rtol=1e-5
    )
    more = terms.added(terms.logit_mse, *both, {"score": score}, weight=2.0, **chosen)
    np.testing.assert_allclose(more - found, 2 * (s - t) ** 2, rtol=1e-3)


def test_distilbert_predicts_masked_words_and_hidden_states():
    rng = np.random.default_rng(3)
    logits, its = rng.normal(size=(2, 2, 3, 9)).astype(np.float32)
    hidden, its_hidden = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
    label = np.array([[4, 7, -1], [2, -1, -1]], np.int32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    student, teacher = (
        models.Outputs(jnp.asarray(z), (jnp.asarray(h),))
        for z, h in ((logits, hidden), (its, its_hidden))
    )
    got = terms.distilbert(student, teacher, {"label": label, "mask": mask})
    for row, (words, tokens) in enumerate(((2, 5), (1, 3))):
        log_q, log_p = (jax.nn.log_softmax(z[row, :words] / 2) for z in (logits, its))
        soft = 4 * (np.exp(log_p) * (log_p - log_q)).sum(-1).mean()
        at_one = jax.nn.log_softmax(logits[row, :words])
        hard = -at_one[np.arange(words), label[row, :words]].mean()
        a, b = hidden[row, :tokens], its_hidden[row, :tokens]
        cosines = (a * b).sum(-1) / np.linalg.norm(a, axis=-1)
        cosine = np.mean(1 - cosines / np.linalg.norm(b, axis=-1))
        np.testing.assert_allclose(got[row], 5 * soft + 2 * hard + cosine, rtol=1e-4)
    only = terms.masked_words(student, teacher, {"label": label})
    assert only.shape == (2,) and (only > 0).all()


def test_recipes_together_each_have_their_own_maps_and_weight(rows, teacher):
    own = STUDENTS["4x192"]
    student = outputs(own.shape, rows, 1)
    every = terms.recipes(own, TEACHER.width)
    two = [every["pkd_skip"]._replace(weight=3.0), every["rkd"]._replace(weight=0.5)]
    term, projector = terms.together(two)
    variables = projector.init(jax.random.key(2), student, teacher)
    (s, t), state = projector.apply(
        variables, student, teacher, rows, jax.random.key(0)
    )
    assert set(variables["params"]) == set(state) == {"0", "1"}
    maps = {n: variables[n]["0"] for n in ("params", "state")}
    (s0, t0), _ = two[0].projector.apply(maps, student, teacher, rows, None)
    expected = 3 * two[0].term(s0, t0, rows) + 0.5 * two[1].term(student, teacher, rows)
    np.testing.assert_allclose(term(s, t, rows), expected, rtol=1e-5)
    assert terms.together(two[:1]) == (two[0].term, two[0].projector)
