"""A view that uses the student's texts again, from a buffer, as in DistiLLM."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.losses.ranges import FRACTION, POSITIVE, Positive, require
from kdjax.models import Batch, DecoderShape
from kdjax.training.views import Remembering, View
from kdjax.training.writing import TEXT, Writer


class Replay(NamedTuple):
    """The memory of `distillm`."""

    texts: Batch  # [batches, B, ...], of the student
    filled: jax.Array  # number of batches written so far
    step: jax.Array  # number of steps taken
    share: jax.Array  # of batches that are the student's
    reference: jax.Array  # the loss to compare with


def distillm(
    shape: DecoderShape,
    *,
    prompt: int,
    steps: int,
    end: int | None = None,
    batches: int = 16,
    first_share: float = 0.0,
    tolerance: float = 0.1,
    metric: str = "validation_nll",
    temperature: Positive = 1.0,
) -> View:
    """The student's texts, written in some of the steps and used again in others.

    With a probability ``share`` a batch is the student's. It is newly written while the
    buffer is not full, and after that with a chance that falls linearly to 0 over the
    training; otherwise it is drawn from the buffer, whose oldest batch makes room for a
    new one. The share rises by 0.1 whenever the validation loss has risen since it was
    first measured, or last rose; in the authors' code, since before the training.
    Vectorized runs write in every step, whether they use it or not.

    Args:
      shape: The sizes of the student.
      prompt: As in `by_student`.
      steps: Total number of steps of the training.
      end: The token that ends a text, if any.
      batches: How many batches the buffer holds; 1,000 texts in the paper.
      first_share: The share at the beginning; 0 in the authors' scripts.
      tolerance: How much the validation loss may rise.
      metric: The validation loss.
      temperature: Temperature at which the student samples.

    Raises:
      ValueError: if the share or the temperature is out of range; before the training,
        if there are no validation examples, or they are not measured by the metric.

    References:
      Ko et al., `DistiLLM <https://arxiv.org/abs/2402.03898>`_, 2024, section 3.2, and
      its code.
    """
    require("first_share", first_share, FRACTION)
    require("temperature", temperature, POSITIVE)
    write = Writer(shape, prompt, end, temperature)
    return Remembering(
        partial(_empty, batches, first_share),
        partial(_distillm, write, steps),
        partial(_adapted, metric, tolerance),
    )


def _empty(
    batches: int, first_share: float, batch: Batch, params: Any, fixed: Any
) -> Replay:
    texts = {
        name: jnp.zeros((batches, *batch[name].shape), batch[name].dtype)
        for name in _remembered(batch)
    }
    zero = jnp.int32(0)
    return Replay(texts, zero, zero, jnp.float32(first_share), jnp.float32(jnp.inf))


def _remembered(batch: Batch) -> list[str]:
    """The names of the arrays of a batch that belong to its texts."""
    return [n for n in (*TEXT, "prompt_length") if n in batch]


def _distillm(
    write: Writer,
    steps: int,
    key: jax.Array,
    batch: Batch,
    params: Any,
    fixed: Any,
    memory: Replay,
) -> tuple[Batch, Replay]:
    choice, drawn, sampled = jax.random.split(key, 3)
    names, size = _remembered(batch), len(memory.texts["tokens"])
    own = {name: batch[name] for name in names}
    left = memory.share * (1 - memory.step / steps)
    full, chance = memory.filled >= size, jax.random.uniform(choice)
    writes = (chance < left) | ((chance < memory.share) & ~full)

    def written() -> tuple[Batch, Batch]:
        texts = write(sampled, own, params, fixed)
        place = memory.filled % size
        kept = {
            name: memory.texts[name].at[place].set(texts[name].astype(own[name].dtype))
            for name in names
        }
        return {name: texts[name].astype(own[name].dtype) for name in names}, kept

    def recalled() -> tuple[Batch, Batch]:
        count = jnp.minimum(memory.filled, size) * len(batch["tokens"])
        rows = jax.random.randint(drawn, (len(batch["tokens"]),), 0, count)
        flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[rows], memory.texts)
        return flat, memory.texts

    again = ~writes & (chance < memory.share)
    case = jnp.where(writes, 0, jnp.where(again, 1, 2))
    texts, kept = jax.lax.switch(case, [written, recalled, lambda: (own, memory.texts)])
    by_student = (case < 2) & write.fits(texts)
    after = memory._replace(
        texts=kept, filled=memory.filled + writes, step=memory.step + 1
    )
    return {**batch, **texts, "from_student": by_student}, after


def _adapted(
    metric: str, tolerance: float, memory: Replay, metrics: dict[str, jax.Array]
) -> Replay:
    if metric not in metrics:
        raise ValueError(
            f"metric is {metric!r}, but the measures give {', '.join(metrics)}"
        )
    loss = metrics[metric].astype(jnp.float32)
    first = jnp.isinf(memory.reference)
    rose = ~first & (loss >= memory.reference + tolerance)
    return memory._replace(
        share=jnp.where(rose, jnp.minimum(memory.share + 0.1, 1), memory.share),
        reference=jnp.where(first | rose, loss, memory.reference),
    )
