"""Views in which the student writes the texts that it learns from.

A batch of texts has ``tokens``, ``mask`` and ``label`` ``[B, L]``, and the length of
each prompt, ``prompt_length`` ``[B]``, if they differ. The label at a place is the next
token, or -1 where none is to be predicted.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.data.language import next_tokens
from kdjax.losses.ranges import FRACTION, POSITIVE, Positive, require
from kdjax.models import Batch, DecoderShape
from kdjax.models.generation import Mixed, Written, generate
from kdjax.training.views import View

TEXT = ("tokens", "mask", "label")  # arrays of what is written


def by_student(
    shape: DecoderShape,
    *,
    prompt: int,
    end: int | None = None,
    share: float = 1.0,
    temperature: Positive = 1.0,
    teacher: DecoderShape | None = None,
    teacher_share: float = 0.0,
) -> View:
    """A view in which the student continues the prompts, of some of the texts.

    The first texts of the batch are continued, a fixed number of them, but for those
    with a longer prompt, which stay as they are. The batch gets ``from_student``
    ``[B]``, as `kdjax.losses.gkd` takes it.

    Args:
      shape: The sizes of the student.
      prompt: Number of tokens of each prompt, or, with ``prompt_length``, the largest.
        The student writes at most ``L - prompt`` more, for texts of ``L`` places.
      end: The token that ends a text, if any.
      share: Share of the texts that the student writes, in [0, 1].
      temperature: Temperature at which it samples.
      teacher: The sizes of a teacher whose variables are ``fixed["teacher"]``, if
        tokens are sampled from a mixture of both, as `kdjax.losses.minillm` takes them.
      teacher_share: Its share of the mixture, in [0, 1]; 0.2 in MiniLLM.

    Raises:
      ValueError: if a share or the temperature is out of range, or the teacher has a
        share, but no sizes; before the training, if texts have no more places than a
        prompt, or a share strictly between 0 and 1 rounds to no text or all of a batch.
    """
    require("share", share, FRACTION)
    require("teacher_share", teacher_share, FRACTION)
    require("temperature", temperature, POSITIVE)
    if teacher_share and teacher is None:
        raise ValueError(f"teacher_share is {teacher_share!r}, but teacher is None")
    write = Writer(shape, prompt, end, temperature, teacher, teacher_share)
    return partial(_by_student, write, share)


class Writer(NamedTuple):
    """How a student continues prompts."""

    shape: DecoderShape
    prompt: int
    end: int | None
    temperature: Positive
    teacher: DecoderShape | None = None
    teacher_share: float = 0.0

    def __call__(self, key: jax.Array, texts: Batch, params: Any, fixed: Any) -> Batch:
        """The texts, with what the student writes after prompts of a fitting length."""
        count, length = texts["tokens"].shape
        if self.prompt >= length:
            raise ValueError(
                f"prompt is {self.prompt}, but takes fewer than the {length} places of "
                f"a text"
            )
        tokens, mask = texts["tokens"][:, : self.prompt], jnp.ones((count, self.prompt))
        if "prompt_length" in texts:
            mask = jnp.arange(self.prompt)[None] < texts["prompt_length"][:, None]
        mixed = None
        if self.teacher_share and self.teacher is not None:
            own = fixed["teacher"]["params"]
            mixed = Mixed(self.teacher, own, self.teacher_share)
        written = generate(
            self.shape,
            params,
            tokens,
            mask,
            key,
            new=length - self.prompt,
            end=self.end,
            temperature=self.temperature,
            mixed=mixed,
        )
        new = continued(tokens, mask, written)
        fits = self.fits(texts)[:, None]
        return {**texts, **{n: jnp.where(fits, new[n], texts[n]) for n in new}}

    def fits(self, texts: Batch) -> jax.Array:
        """Whether a text's prompt is not too long, ``[B]``."""
        if "prompt_length" not in texts:
            return jnp.ones(len(texts["tokens"]), bool)
        return texts["prompt_length"] <= self.prompt


def _by_student(
    write: Writer, share: float, key: jax.Array, batch: Batch, params: Any, fixed: Any
) -> Batch:
    count = len(batch["tokens"])
    own = round(share * count)
    if 0 < share < 1 and own in (0, count):
        raise ValueError(f"share is {share}, but of a batch of {count} it is {own}")
    by_student = (jnp.arange(count) < own) & write.fits(batch)
    texts = dict(batch, from_student=by_student)
    if own == 0:
        return texts
    first = {name: array[:own] for name, array in batch.items() if name != "teacher"}
    written = write(key, first, params, fixed)
    for name in TEXT:
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
