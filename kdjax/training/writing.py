"""Views in which the student writes the texts that it learns from.

A batch of texts has ``tokens``, ``mask`` and ``label`` ``[B, L]``, and the length of
each prompt, ``prompt_length`` ``[B]``, if they differ. The label at a place is the next
token, or -1 where none is to be predicted.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kdjax.data.language import next_tokens
from kdjax.losses.ranges import Positive
from kdjax.models import Batch, DecoderShape
from kdjax.models.generation import Written, generate
from kdjax.training.views import View


def by_student(
    shape: DecoderShape,
    *,
    prompt: int,
    end: int | None = None,
    share: float = 1.0,
    temperature: Positive = 1.0,
) -> View:
    """A view in which the student continues the prompts, of some of the texts.

    The first texts of the batch are continued, a fixed number of them. The batch gets
    ``from_student`` ``[B]``, as `kdjax.losses.gkd` takes it.

    Args:
      shape: The sizes of the student.
      prompt: Number of tokens of each prompt, or, with ``prompt_length``, the largest.
        The student writes at most ``L - prompt`` more, for texts of ``L`` places.
      end: The token that ends a text, if any.
      share: Share of the texts that the student writes, in [0, 1].
      temperature: At which it samples.

    Raises:
      ValueError: if the share is outside this range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share!r}, but takes a number in [0, 1]")
    return partial(_by_student, shape, prompt, end, share, temperature)


def _by_student(
    shape: DecoderShape,
    prompt: int,
    end: int | None,
    share: float,
    temperature: Positive,
    key: jax.Array,
    batch: Batch,
    params: Any,
    fixed: object,
) -> Batch:
    count, length = batch["tokens"].shape
    own = round(share * count)
    texts = dict(batch, from_student=jnp.arange(count) < own)
    if own == 0:
        return texts
    tokens, mask = batch["tokens"][:own, :prompt], jnp.ones((own, prompt), bool)
    if "prompt_length" in batch:
        mask = jnp.arange(prompt)[None] < batch["prompt_length"][:own, None]
    new = length - prompt
    settings = {"new": new, "end": end, "temperature": temperature}
    written = continued(
        tokens, mask, generate(shape, params, tokens, mask, key, **settings)
    )
    for name in ("tokens", "mask", "label"):
        texts[name] = jnp.concatenate([written[name], batch[name][own:]])
    return texts


def continued(prompts: jax.Array, mask: jax.Array, written: Written) -> Batch:
    """Prompts ``[B, P]`` with what was written after each, as a batch of texts.

    Args:
      prompts: Tokens, without padding between them and what was written.
      mask: ``[B, P]``, nonzero for tokens and 0 for padding, which is at the end.
      written: At most ``N`` tokens, which are to be predicted.

    Returns:
      ``tokens``, ``mask`` and ``label``, ``[B, P + N]``.
    """
    longest, new = prompts.shape[1], written.tokens.shape[1]
    lengths = jnp.sum(mask != 0, 1)
    place = jnp.arange(longest + new)[None] - lengths[:, None]  # in what was written
    inside = (place >= 0) & (place < new)
    at = jnp.clip(place, 0, new - 1)
    answer, counts = (
        jnp.take_along_axis(array, at, 1) for array in (written.tokens, written.mask)
    )
    counts = inside & (counts != 0)
    padded = jnp.pad(prompts, ((0, 0), (0, new)))
    tokens = jnp.where(counts, answer, jnp.where(place < 0, padded, 0))
    return {
        "tokens": tokens.astype(prompts.dtype),
        "mask": ((place < 0) | counts).astype(jnp.int32),
        "label": next_tokens(tokens, counts),
    }
