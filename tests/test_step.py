"""One step: the inputs of each part, what is trained, and what is only state."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import losses, models, objectives
from kdjax.data import Data
from kdjax.models import Model, Outputs, projectors
from kdjax.training import Training, optimizers, programs, teacher, train, views
from kdjax.training import step as stepping

KEY = jax.random.key(0)
HINTON = objectives.on_logits(losses.hinton)
CHOSEN = {"learning_rate": 0.01, "temperature": 4.0, "alpha": 0.9}
STUDENT = models.mlp((8,), classes=10)


@pytest.fixture(scope="module")
def subset(digits):
    """150 training digits of 7 by 7 pixels, with teacher logits and features."""

    def some(split, n):
        image, label = split["image"][:n, ::4, ::4], split["label"][:n]
        features = np.stack([image.sum(1), image.max(2)], -1)  # [n, 7, 2]
        outputs = split["teacher"]._replace(
            logits=split["teacher"].logits[:n], features=(features,)
        )
        return {"image": image, "label": label, "teacher": outputs}

    return Data(*(some(s, n) for s, n in zip(digits, (150, 50, 50), strict=True)))


@pytest.fixture(scope="module")
def batch(subset):
    return {**jax.tree.map(lambda a: a[:30], subset.train), "index": np.arange(30)}


def make(objective=HINTON, model=STUDENT, **options):
    defaults = {"epochs": 2, "batch_size": 50, "select": None}
    return Training(model, objective, **defaults | options)


def begin(training, batch, chosen=CHOSEN, fixed=None, key=KEY):
    init = partial(stepping.init, training, 10)
    return jax.device_get(jax.jit(init)(key, dict(chosen), batch, fixed))


def stepper(training):
    return jax.jit(partial(stepping.step, training, 10))


def stepped(training, batch, chosen=CHOSEN, fixed=None):
    """The initial state, the state after a step, and its loss, in one program."""

    def both(batch, fixed):
        state = stepping.init(training, 10, KEY, dict(chosen), batch, fixed)
        return state, *stepping.step(training, 10, state, batch, KEY, fixed)

    state, after, metrics = jax.device_get(jax.jit(both)(batch, fixed))
    return state, after, metrics["loss"]


@pytest.fixture(scope="module")
def plain(batch):
    """A student before and after a plain step."""
    return stepped(make(), batch)


def kernel(state):
    return state.params["student"]["Dense_0"]["kernel"]


def test_an_epoch_is_the_plain_loop_that_one_would_write(subset, tmp_path):
    training = make(measures=())
    trained = train(training, CHOSEN, data=subset, key=KEY, directory=tmp_path)
    init_key, key = jax.random.split(KEY)
    params = jax.jit(STUDENT.init)(init_key, subset.train)["params"]
    tx = optax.adam(optax.cosine_decay_schedule(0.01, 2 * 3))
    optimizer = tx.init(params)

    @jax.jit
    def once(params, optimizer, rows):
        def objective(params):
            variables = {"params": params, "state": {}}
            logits = STUDENT.apply(variables, rows)[0].logits
            return losses.hinton(
                logits, rows["teacher"].logits, rows["label"], temperature=4, alpha=0.9
            ).mean()

        value, grads = jax.value_and_grad(objective)(params)
        updates, optimizer = tx.update(grads, optimizer)
        return optax.apply_updates(params, updates), optimizer, value

    for epoch in range(2):
        order_key, _ = jax.random.split(jax.random.fold_in(key, epoch))
        order = np.asarray(jax.random.permutation(order_key, 150)).reshape(3, 50)
        values = []
        for i in order:
            rows = jax.tree.map(lambda a, i=i: a[i], subset.train)
            params, optimizer, value = once(params, optimizer, rows)
            values.append(float(value))
        loss = trained.curves["train_loss"][epoch]
        np.testing.assert_allclose(loss, np.mean(values), rtol=1e-5)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5),
        trained.variables["params"],
        params,
    )


def test_a_step_depends_on_its_key_and_on_nothing_hidden(batch):
    training = make(model=models.mlp((8,), classes=10, dropout=0.5))
    state, step = begin(training, batch), stepper(training)
    one, same, other = (
        step(state, batch, jax.random.key(k), None)[1]["loss"] for k in (0, 0, 1)
    )
    assert one == same != other  # the key's dropout mask


def test_a_view_reaches_the_student(batch, plain):
    nothing = make(view=views.augmented(lambda key, images: jnp.zeros_like(images)))
    before, after, _ = stepped(nothing, batch)
    np.testing.assert_array_equal(
        kernel(after), kernel(before)
    )  # no pixel, no gradient
    assert (kernel(plain[1]) != kernel(plain[0])).any()


def test_augmentations_follow_each_other_each_with_a_key_of_its_own():
    def noise(key, images):
        return images + jax.random.normal(key, images.shape)

    def double(key, images):
        return 2 * images

    rows = {"image": jnp.zeros((4, 2, 2)), "label": jnp.arange(4)}
    alone, then, twice = (
        views.augmented(*parts)(KEY, rows, None, None)["image"]
        for parts in ((noise,), (noise, double), (noise, noise))
    )
    first, second = jax.random.split(KEY)
    np.testing.assert_array_equal(alone, noise(KEY, rows["image"]))
    np.testing.assert_array_equal(then, 2 * noise(first, rows["image"]))
    expected = noise(second, noise(first, rows["image"]))
    np.testing.assert_allclose(twice, expected, rtol=1e-6)


def test_weights_into_a_unit_stay_within_their_length(batch, plain):
    limit = 0.5
    bound = make(constrain=partial(models.max_norm, limit=limit))
    states = stepped(bound, batch)[1], plain[1]
    longest = [float(jnp.linalg.norm(kernel(s), axis=0).max()) for s in states]
    assert longest[0] <= limit + 1e-6 < limit + 0.1 < longest[1]


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, image, *, train):
        x = image.reshape(len(image), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(10)(x)


def test_running_averages_move_and_are_never_differentiated(batch):
    training = make(model=models.from_linen(Normalized()), optimizer=optax.sgd)
    state = begin(training, batch)
    after, _ = stepper(training)(state, batch, KEY, None)
    assert set(state.params["student"]) == {"BatchNorm_0", "Dense_0"}
    averages = [s.model_state["student"]["batch_stats"] for s in (state, after)]
    images = batch["image"].reshape(30, -1)
    np.testing.assert_allclose(
        averages[1]["BatchNorm_0"]["mean"], 0.1 * images.mean(0), rtol=1e-5, atol=1e-7
    )
    assert "batch_stats" not in str(jax.tree.structure(after.opt_state))
    frozen = jax.tree.map(jnp.zeros_like, averages[0])  # not used by the step
    other = state._replace(
        model_state={"student": {"batch_stats": frozen}, "projector": {}, "view": {}}
    )
    again, _ = stepper(training)(other, batch, KEY, None)
    np.testing.assert_array_equal(kernel(again), kernel(after))


def test_the_students_averages_are_those_after_the_view(batch):
    def doubled(key, images):
        return 2 * images

    training = make(
        model=models.from_linen(Normalized()), view=views.augmented(doubled)
    )
    _, after, _ = stepped(training, batch)
    mean = after.model_state["student"]["batch_stats"]["BatchNorm_0"]["mean"]
    expected = 0.2 * batch["image"].reshape(30, -1).mean(0)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-7)


# Projectors


def hinted(student, teacher, batch, *, weight=1.0):
    return weight * losses.hint(student.features[0], teacher.features[0])


def flat(student, teacher, batch):
    return hinted(student, teacher, batch)


def with_flat_features(batch):
    stored = batch["teacher"]
    features = stored.features[0].reshape(30, 14)
    return {**batch, "teacher": stored._replace(features=(stored.logits, features))}


def test_a_projector_is_trained_with_the_student(batch):
    batch = with_flat_features(batch)
    training = make(hinted, projector=projectors.linear(), optimizer=optax.sgd)
    chosen = {"learning_rate": 0.1, "weight": 2.0}
    state, after, value = stepped(training, batch, chosen)
    (dense,) = state.params["projector"]["dense"]
    assert dense["kernel"].shape == (8, 14) and not dense["bias"].any()

    def plain(params):
        variables = {"params": params["student"], "state": {}}
        hidden = STUDENT.apply(variables, batch)[0].features[-1]
        (dense,) = params["projector"]["dense"]
        projected = hidden @ dense["kernel"] + dense["bias"][None]
        target = batch["teacher"].features[-1]
        return 2 * losses.hint(projected, target).mean()

    loss, gradients = jax.jit(jax.value_and_grad(plain))(state.params)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradients)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), after.params, moved
    )
    (trained,) = after.params["projector"]["dense"]
    assert (trained["kernel"] != dense["kernel"]).any()


def test_pairs_say_which_feature_is_projected_to_which(batch):
    model = models.mlp((8, 5), classes=10)
    batch = with_flat_features(batch)
    stored = batch["teacher"]
    outputs, _ = jax.eval_shape(
        model.apply, jax.eval_shape(model.init, KEY, batch), batch
    )
    projector = projectors.linear(pairs=((0, 1), (1, 0)))
    variables = jax.eval_shape(projector.init, KEY, outputs, stored)
    (student, teacher_outputs), _ = jax.eval_shape(
        projector.apply, variables, outputs, stored, batch, KEY
    )
    kernels = [d["kernel"].shape for d in variables["params"]["dense"]]
    assert kernels == [(8, 14), (5, 10)]
    shapes = [[f.shape for f in side.features] for side in (student, teacher_outputs)]
    assert shapes[0] == shapes[1] == [(30, 14), (30, 10)]


def falls(training, batch, chosen, steps=20):
    state, step = begin(training, batch, chosen), stepper(training)
    first, seen, keys = state, [], jax.random.split(KEY, steps)
    for i in range(steps):
        state, metrics = step(state, batch, keys[i], None)
        seen.append(float(metrics["loss"]))
    state = jax.device_get(state)
    assert np.isfinite(seen).all() and seen[-1] < seen[0]
    return first, state, seen


def informed(student, teacher, batch):
    raw = student.extras["raw_variance"][0]
    return losses.vid(student.features[0], teacher.features[0], raw)


def test_vid_learns_its_variances(batch):
    training = make(
        informed, projector=projectors.variational(), optimizer=optimizers.sgd
    )
    batch = with_flat_features(batch)
    first, last, _ = falls(training, batch, {"learning_rate": 0.1})
    before, after = (s.params["projector"]["raw_variance"][0] for s in (first, last))
    np.testing.assert_allclose(jax.nn.softplus(before), 5, rtol=1e-5)  # the authors'
    assert before.shape == (14,) and (after != before).all()


def test_a_review_mixes_each_stage_with_the_later_ones():
    shapes = ((4, 4, 2), (2, 2, 3)), ((4, 4, 5), (2, 2, 4))
    rng = np.random.default_rng(0)
    student, teacher = (
        Outputs(
            np.zeros((6, 3)), tuple(np.float32(rng.normal(size=(6, *s))) for s in side)
        )
        for side in shapes
    )
    projector = projectors.review(((0, 0), (1, 1)), width=7)
    variables = projector.init(KEY, student, teacher)

    def maps(features):
        given = student._replace(features=tuple(features))
        pair, state = projector.apply(variables, given, teacher, {}, KEY)
        assert state == {} and pair[1].features == teacher.features
        return [np.asarray(each) for each in pair[0].features]

    first, last = maps(student.features)
    assert first.shape == (6, 4, 4, 5) and last.shape == (6, 2, 2, 4)
    one, two = ({k: v for k, v in s.items()} for s in variables["params"]["stages"])
    later = student.features[1] @ two["in"]["kernel"]
    large = later.repeat(2, 1).repeat(2, 2)
    own = student.features[0] @ one["in"]["kernel"]
    weights = np.concatenate([own, large], -1) @ one["mix"]["kernel"]
    weights = 1 / (1 + np.exp(-weights))
    mixed = weights[..., :1] * own + weights[..., 1:] * large
    for found, x, stage in ((first, mixed, one), (last, later, two)):
        layout = ("NHWC", "HWIO", "NHWC")
        expected = jax.lax.conv_general_dilated(
            x, stage["out"], (1, 1), "SAME", dimension_numbers=layout
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    changed = maps((student.features[0] + 1, student.features[1]))
    np.testing.assert_array_equal(changed[1], last)
    assert (changed[0] != first).any()


def test_a_review_refuses_maps_of_different_size():
    sides = [Outputs(np.zeros((1, 2)), (np.zeros((1, n, n, 3)),)) for n in (4, 2)]
    with pytest.raises(ValueError, match="all axes except the last must agree"):
        projectors.review(((0, 0),)).init(KEY, *sides)


def contrasted(student, teacher, batch, *, temperature):
    extras = student.extras
    return losses.crd_with_memory(
        student.features[0],
        teacher.features[0],
        extras["memory"],
        batch["index"],
        extras["negatives"],
        temperature=temperature,
    )[0]


CRD = projectors.contrastive(dataset_size=90, negatives=200, width=6)


def test_crd_trains_both_heads_and_moves_its_memory(batch):
    batch = {**with_flat_features(batch), "index": 3 * np.arange(30)}
    training = make(contrasted, projector=CRD)
    chosen = {"learning_rate": 0.01, "temperature": 0.2}
    first, last, seen = falls(training, batch, chosen, 30)
    assert seen[-1] < 0.9 * seen[0]
    heads = [s.params["projector"] for s in (first, last)]
    for name in ("student", "teacher"):
        assert (heads[0][name]["kernel"] != heads[1][name]["kernel"]).any()
    banks = [s.model_state["projector"]["memory"] for s in (first, last)]
    for before, after in zip(banks[0][:2], banks[1][:2], strict=True):
        moved = (before != after).any(-1)
        np.testing.assert_array_equal(moved, np.arange(90) % 3 == 0)
    assert banks[0].student_constant == 0 < banks[1].student_constant
    assert "memory" not in last.params["projector"]


def test_negatives_are_every_example_but_the_own_one():
    outputs = Outputs(np.zeros((4, 3)), (np.ones((4, 5), np.float32),))
    projector = projectors.contrastive(dataset_size=9, negatives=300, width=2)
    variables = jax.jit(projector.init)(KEY, outputs, outputs)
    rows = {"index": np.array([0, 3, 8, 3])}
    given = jax.jit(projector.apply)(variables, outputs, outputs, rows, KEY)
    (student, _), _ = jax.device_get(given)
    for row, others in zip(rows["index"], student.extras["negatives"], strict=True):
        assert set(others.tolist()) == set(range(9)) - {int(row)}


def test_the_memorys_momentum_is_a_hyperparameter():
    outputs = Outputs(np.zeros((4, 3)), (np.ones((4, 5), np.float32),))
    variables = jax.jit(CRD.init)(KEY, outputs, outputs)

    @jax.jit
    def after(momentum):
        rows, chosen = {"index": jnp.arange(4)}, {"memory_momentum": momentum}
        return CRD.apply(variables, outputs, outputs, rows, KEY, **chosen)[1]["memory"]

    def directions(memory):
        return memory.student[:4] / np.linalg.norm(memory.student[:4], axis=1)[:, None]

    before = directions(variables["state"]["memory"])
    kept, replaced = (directions(after(momentum)) for momentum in (1.0, 0.0))
    np.testing.assert_allclose(kept, before, atol=1e-6)
    np.testing.assert_allclose(replaced, replaced[:1].repeat(4, 0), atol=1e-6)


# Teachers and views: student and teacher see the same input


def pixels(variables, batch, key=None):
    """A teacher whose logits are ten pixels times a variable."""
    return Outputs(
        variables * batch["image"].reshape(len(batch["image"]), -1)[:, :10]
    ), {}


def told(student, teacher, batch):
    return jnp.sum(teacher.logits, -1) + 0 * jnp.sum(student.logits, -1)


def marked(key, batch, params, fixed):
    return {**batch, "image": jnp.full_like(batch["image"], 7.0)}


def test_a_live_teacher_sees_what_the_student_sees(batch):
    live = teacher.live(Model(None, pixels))
    training = make(told, teacher=live, view=marked)
    chosen, fixed = {"learning_rate": 0.01}, {"teacher": np.float32(0.5)}
    _, _, loss = stepped(training, batch, chosen, fixed)
    np.testing.assert_allclose(loss, 10 * 7 * 0.5)


def test_as_many_views_are_seen_as_are_stored(batch):
    outputs = Outputs(np.zeros((30, 2, 10), np.float32))
    view = views.of_stored([lambda x: x] * 3)
    with pytest.raises(ValueError, match=r"\(30, 2, 10\), but 3 views take \(30, 3,"):
        view(jax.random.key(0), {**batch, "teacher": outputs}, None, None)


def test_a_stored_row_belongs_to_the_view_that_the_student_sees(batch):
    shown = [lambda x, by=by: x + by for by in (0.0, 10.0, 20.0)]
    stored = np.float32(np.arange(30)[:, None] + [[0, 1000, 2000]])
    outputs = Outputs(stored[..., None].repeat(10, -1), (stored[..., None],))
    rows = {**batch, "teacher": outputs}
    view = views.of_stored(shown)
    seen = [jax.jit(view)(jax.random.key(k), rows, None, None) for k in (0, 1)]
    seen = jax.device_get(seen)
    drawn = []
    for one in seen:
        by = (one["image"] - batch["image"]).reshape(30, -1)
        np.testing.assert_allclose(by - by[:, :1], 0, atol=1e-5)
        which = np.round(by[:, 0] / 10)
        drawn.append(which)
        expected = np.arange(30) + 1000 * which
        np.testing.assert_array_equal(one["teacher"].logits[:, 3], expected)
        np.testing.assert_array_equal(one["teacher"].features[0][:, 0], expected)
        np.testing.assert_array_equal(one["label"], batch["label"])
    assert set(drawn[0]) == {0, 1, 2} and (drawn[0] != drawn[1]).any()
    training = make(hinted, projector=projectors.linear(), view=view)
    state = jax.eval_shape(  # the projector is initialised from the view
        partial(stepping.init, training, 1), KEY, {"learning_rate": 1.0}, rows, None
    )
    assert state.params["projector"]["dense"][0]["kernel"].shape == (8, 1)


# A student that generates its own batch


def bigram(params, tokens):
    return jnp.asarray(params)[tokens[:, :-1]]  # [B, L - 1, V]


WRITER = Model(
    lambda key, batch: {"params": jnp.zeros((4, 4)), "state": {}},
    lambda variables, batch, key=None: (
        Outputs(bigram(variables["params"], batch["tokens"])),
        {},
    ),
)


def written(key, batch, params, fixed):
    """Replaces the batch by its first tokens and seven from the student."""

    def more(token, key):
        token = jax.random.categorical(key, params[token])
        return token, token

    first = batch["tokens"][:, 0]
    _, rest = jax.lax.scan(more, first, jax.random.split(key, 7))
    return {**batch, "tokens": jnp.concatenate([first[:, None], rest.T], 1)}


def on_policy(student, teacher, batch):
    return losses.reverse_kl(student.logits, teacher.logits).mean(-1)


def test_a_view_may_write_the_batch_with_the_student(batch):
    training = make(
        on_policy,
        WRITER,
        view=written,
        teacher=teacher.live(WRITER),
        optimizer=optax.sgd(1.0),
    )
    truth = 3 * np.random.default_rng(5).normal(size=(4, 4)).astype(np.float32)
    fixed = {"teacher": {"params": truth, "state": {}}}
    rows = {"tokens": np.zeros((64, 8), int) + np.arange(64)[:, None] % 4}
    state = begin(training, rows, {}, fixed)
    step = stepper(training)
    view_key, _ = jax.random.split(KEY)
    tokens = jax.jit(written)(view_key, rows, state.params["student"], None)["tokens"]

    def of_tokens(params):  # the same tokens; sampling has no gradient
        pair = bigram(params, tokens), bigram(truth, tokens)
        return losses.reverse_kl(*pair).mean()

    params = state.params["student"]
    first, gradient = jax.jit(jax.value_and_grad(of_tokens))(params)
    after, metrics = step(state, rows, KEY, fixed)
    np.testing.assert_allclose(metrics["loss"], first, rtol=1e-5)
    np.testing.assert_allclose(after.params["student"], -gradient, atol=1e-6)
    for key in jax.random.split(KEY, 60):
        after, metrics = step(after, rows, key, fixed)
    assert metrics["loss"] < 0.1 * first


# Names, phases


def test_each_part_takes_the_hyperparameters_that_it_names():
    chosen = {"temperature": 1.0, "alpha": 0.5, "learning_rate": 0.1, "momentum": 0.9}
    assert set(stepping.of(HINTON, chosen)) == {"temperature", "alpha"}
    assert set(stepping.of(CRD.apply, chosen)) == {"temperature"}
    taken = stepping.of(optimizers.sgd, chosen, by_keyword=True)
    assert set(taken) == {"learning_rate", "momentum"}
    told_steps = []

    def asks(*, learning_rate, steps):
        told_steps.append(steps)
        return optax.sgd(learning_rate)

    stepping.transformation(asks, chosen, 33)
    assert told_steps == [33]


def test_a_later_phase_goes_on_with_the_student_of_the_one_before(batch, plain):
    _, after, _ = plain
    init = jax.jit(partial(stepping.init, make(), 10))
    again = init(KEY, CHOSEN, batch, None, programs.student_of(after))
    np.testing.assert_array_equal(kernel(again), kernel(after))
    moments = jax.tree.leaves(again.opt_state)
    assert not any(np.asarray(moment).any() for moment in moments)
