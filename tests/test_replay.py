"""Views may remember: texts of the student are kept in a buffer, and used again."""

from dataclasses import replace
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.data.language import next_tokens
from kdjax.training import train, views, writing
from kdjax.training.replay import Replay, distillm
from tests import small

SHAPE = models.DecoderShape(9, 1, 8, 2, 1, 8, context=9)
STEPS = 200


def counting(loss="validation_nll"):
    """A view that shifts images by the number of steps, from the last measurement."""

    def apply(key, batch, params, fixed, memory):
        steps, base = memory
        moved = batch["image"] + 0.01 * steps + base
        return {**batch, "image": moved}, (steps + 1, base)

    def measured(memory, metrics):
        return memory[0], jnp.float32(metrics[loss])

    first = (jnp.int32(0), jnp.float32(0))
    return views.Remembering(lambda batch, params, fixed: first, apply, measured)


def trained(directory, view=None, **options):
    one = small.training(view=view or counting(), **options)
    key = jax.random.key(3)
    return train(one, small.ONE, data=small.data(), key=key, directory=directory)


def test_a_memory_is_kept_from_step_to_step_and_in_checkpoints(tmp_path):
    whole = trained(tmp_path / "whole")
    with small.stopped_after(2):
        one, key = small.training(view=counting()), jax.random.key(3)
        train(
            one,
            small.ONE,
            data=small.data(),
            key=key,
            directory=tmp_path / "cut",
            checkpoint_steps=2,
        )
    again = trained(tmp_path / "cut")
    chex.assert_trees_all_equal(again[:2], whole[:2])
    out = whole.variables["params"]["out"]
    without = trained(tmp_path / "without", views.unchanged)
    assert not np.allclose(without.variables["params"]["out"], out)
    unmeasured = counting()._replace(measured=lambda memory, metrics: memory)
    other = trained(tmp_path / "other", unmeasured)
    assert not np.allclose(other.variables["params"]["out"], out)


def test_runs_of_a_sweep_have_a_memory_each(tmp_path):
    columns = {name: [v, v / 2] for name, v in small.ONE.items()}
    both = small.swept(tmp_path / "two", columns, small.training(view=counting()))
    for row in range(2):
        own = {name: [each[row]] for name, each in columns.items()}
        one = small.swept(tmp_path / str(row), own, small.training(view=counting()))
        small.assert_close(one.runs, both.runs[row::2].reset_index(drop=True))


def test_a_memory_that_changes_its_shape_is_refused(tmp_path):
    def longer(key, batch, params, fixed, memory):
        return batch, jnp.zeros(2)

    with pytest.raises(ValueError, match="memory of the view is .* before a step and"):
        trained(tmp_path, counting()._replace(apply=longer))
    with pytest.raises(TypeError, match="view is 3, but takes a function"):
        trained(tmp_path, 3)


def test_a_memory_of_metrics_takes_validation_examples(tmp_path):
    one = small.training(view=counting(), select=None)
    data = small.data()._replace(validation=None)
    with pytest.raises(ValueError, match="validation is None, but the view takes the"):
        train(one, small.ONE, data=data, key=jax.random.key(0), directory=tmp_path)
    kept = views.Remembering(one.view.init, one.view.apply)
    assert not views.watches(kept) and pickle.dumps(kept.measured)


@pytest.fixture(scope="module")
def params():
    drawn = models.decoder(SHAPE).init(jax.random.key(0), {})["params"]
    return jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, drawn)


def batch(seed=0):
    tokens = np.random.default_rng(seed).integers(1, 9, (4, 9)).astype(np.int32)
    mask = np.ones_like(tokens)
    label = np.asarray(next_tokens(tokens, mask))
    lengths = np.array([3, 2, 3, 1], np.int32)
    return {"tokens": tokens, "mask": mask, "label": label, "prompt_length": lengths}


def followed(view, params, steps):
    """Batches and memories of each step."""
    memory = view.init(batch(), params, None)
    step = jax.jit(
        lambda key, rows, memory: view.apply(key, rows, params, None, memory)
    )
    found = []
    for number in range(steps):
        seen, memory = step(jax.random.key(number), batch(number), memory)
        found.append((seen, memory))
    return found


def view(**options):
    options = {"prompt": 3, "steps": STEPS, "batches": 2} | options
    return distillm(SHAPE, **options)


def test_without_a_share_the_batch_stays(params):
    for number, (seen, memory) in enumerate(followed(view(), params, 3)):
        assert not seen.pop("from_student").any()
        chex.assert_trees_all_equal(seen, batch(number))
        assert memory.filled == 0 and memory.step == number + 1


def test_texts_are_written_until_the_buffer_is_full_and_then_used_again(params):
    found = followed(view(first_share=1.0), params, STEPS)
    first = found[0][0]
    _, _, key = jax.random.split(jax.random.key(0), 3)
    expected = writing.by_student(SHAPE, prompt=3)(key, batch(), params, None)
    for name in writing.TEXT:
        np.testing.assert_array_equal(first[name], expected[name])
    assert first["from_student"].all()
    written = np.diff([0, *(int(memory.filled) for _, memory in found)])
    assert written[:2].tolist() == [1, 1]
    # From then on with a probability that decays from one to none.
    rates = written[2:].reshape(-1, 22).mean(1)
    expected = 1 - np.arange(2, STEPS).reshape(-1, 22).mean(1) / STEPS
    np.testing.assert_allclose(rates, expected, atol=0.35)
    assert abs(written.mean() - 0.5) < 0.12
    for number in np.flatnonzero(written[2:] == 0) + 2:
        seen, memory = jax.device_get(found[number])
        buffer = memory.texts["tokens"].reshape(-1, 9)
        lengths = memory.texts["prompt_length"].ravel()
        assert seen["from_student"].all()
        for row, length in zip(seen["tokens"], seen["prompt_length"], strict=True):
            assert length in lengths[(buffer == row).all(1)]
    for number in np.flatnonzero(written)[:5]:
        place = (int(found[number][1].filled) - 1) % 2
        kept = found[number][1].texts["tokens"][place]
        np.testing.assert_array_equal(kept, found[number][0]["tokens"])


def test_half_of_the_steps_are_the_students(params):
    found = followed(view(first_share=0.5), params, STEPS)
    share = np.mean([bool(seen["from_student"].all()) for seen, _ in found])
    assert abs(share - 0.5) < 0.12
    for seen, _ in found:
        assert seen["from_student"].all() or not seen["from_student"].any()


def test_the_share_rises_when_the_validation_loss_has_risen(params):
    own = view(tolerance=0.1)
    memory = own.init(batch(), params, None)
    shares = []
    for nll in (2.0, 2.05, 2.2, 2.2, 2.31, 1.0):
        memory = own.measured(memory, {"validation_nll": jnp.array(nll)})
        shares.append(round(float(memory.share), 3))
    assert shares == [0.0, 0.0, 0.1, 0.1, 0.2, 0.2]
    with pytest.raises(
        ValueError, match="metric is 'validation_nll', but the measures"
    ):
        own.measured(memory, {"validation_mse": jnp.array(1.0)})
    full = memory._replace(share=jnp.float32(0.95))
    assert own.measured(full, {"validation_nll": jnp.array(9.0)}).share == 1
    assert isinstance(memory, Replay)


def test_a_decoder_trains_on_its_own_texts(tmp_path):
    from kdjax import losses, objectives
    from kdjax.data import Data
    from kdjax.training import Training, optimizers, teacher

    rows = {n: np.concatenate([batch(i)[n] for i in range(3)]) for n in batch()}
    large = models.decoder(replace(SHAPE, layers=2))
    weights = large.init(jax.random.key(1), {})
    one = Training(
        models.decoder(SHAPE),
        objectives.on_tokens(losses.skew_forward_kl),
        epochs=4,
        batch_size=4,
        optimizer=optimizers.adam,
        teacher=teacher.live(large),
        view=view(first_share=0.5, steps=12),
        select=None,
    )
    trained = train(
        one,
        {"learning_rate": 1e-2, "skew": 0.1},
        data=Data(rows, rows),
        key=jax.random.key(0),
        fixed={"teacher": weights},
        directory=tmp_path,
    )
    curve = trained.curves["validation_teacher_kl"].to_numpy()
    assert curve[-1] < curve[0]
