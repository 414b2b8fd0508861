"""Text that a decoder writes after prompts: sampled, greedy, or by beam search.

All of it can be compiled, so that a view can write text in a training step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.losses.ranges import FRACTION, POSITIVE, Fraction, Positive, require
from kdjax.models.decoder import Cache, DecoderShape, continued, empty_cache


class Written(NamedTuple):
    """Text after each of ``B`` prompts, of at most ``N`` tokens."""

    tokens: jax.Array  # [B, N], int32; 0 after the end
    mask: jax.Array  # [B, N], 1 for tokens up to the end, with it
    log_probabilities: (
        jax.Array
    )  # [B, N], of the tokens by the decoder; 0 after the end


class Mixed(NamedTuple):
    """Another decoder, and its share of the mixture from which tokens are sampled."""

    shape: DecoderShape
    params: Any
    share: float  # in [0, 1]


def generate(
    shape: DecoderShape,
    params: Any,
    prompts: jax.Array,
    mask: jax.Array,
    key: jax.Array | None = None,
    *,
    new: int,
    end: int | None = None,
    temperature: Positive = 1.0,
    top_p: Fraction = 1.0,
    mixed: Mixed | None = None,
) -> Written:
    """Writes text token by token, each sampled, or without a key the most probable.

    Args:
      shape: The sizes of the decoder.
      params: Its parameters.
      prompts: ``[B, L]``, tokens to begin from.
      mask: ``[B, L]``, 1 for tokens and 0 for padding, which must be at the end.
      key: Random key, or None for greedy search.
      new: The largest number of tokens to write.
      end: The token that ends a text, if any.
      temperature: Temperature of the distribution from which tokens are sampled.
      top_p: Tokens are sampled from the fewest most probable ones whose probabilities,
        at this temperature, add up to at least this.
      mixed: Another decoder of the same tokens, if they are sampled from a mixture of
        both, as in MiniLLM. The temperature and ``top_p`` then hold for each.

    Returns:
      The text; log-probabilities are those of the decoder itself, at temperature 1.

    Raises:
      ValueError: if a prompt and ``new`` tokens exceed the decoder's context, a prompt
        is empty or has padding before a token, a number is out of range, or another
        decoder is given without a key or with another number of tokens.
    """
    require("temperature", temperature, POSITIVE)
    require("top_p", top_p, FRACTION)
    both = [(shape, params)]
    if mixed is not None:
        require("share", mixed.share, FRACTION)
        if key is None:
            raise ValueError("key is None, but mixed is given, which is for sampling")
        if mixed.shape.vocabulary != shape.vocabulary:
            raise ValueError(
                f"mixed has a vocabulary of {mixed.shape.vocabulary}, but takes one of "
                f"{shape.vocabulary}, as the decoder has"
            )
        both.append((mixed.shape, mixed.params))
    begun = [_begun(*each, prompts, mask, new) for each in both]
    lengths, count = begun[0][2], len(prompts)

    def unfinished(state: Any) -> jax.Array:
        step, _, _, alive = state
        return (step < new) & jnp.any(alive)

    def write(state: Any) -> Any:
        step, decoders, written, alive = state
        every = [logits for logits, _ in decoders]
        if key is None:
            token = jnp.argmax(every[0], -1)
        else:
            kept = [_most_probable(logits / temperature, top_p) for logits in every]
            if mixed is not None:
                kept[0] = _mixture(kept[0], kept[1], mixed.share)
            token = jax.random.categorical(jax.random.fold_in(key, step), kept[0])
        gained = jax.nn.log_softmax(every[0])[jnp.arange(count), token]
        written = _longer(written, step, token, alive, gained)
        if end is not None:
            alive = alive & (token != end)
        places = (lengths + step)[:, None]
        after = [
            continued(*each, cache, token[:, None], places)
            for each, (_, cache) in zip(both, decoders, strict=True)
        ]
        return step + 1, [(each[:, 0], cache) for each, cache in after], written, alive

    empty, alive = _nothing((count, new)), jnp.ones(count, bool)
    state = 0, [(logits, cache) for logits, cache, _ in begun], empty, alive
    return jax.lax.while_loop(unfinished, write, state)[2]


def beam_search(
    shape: DecoderShape,
    params: Any,
    prompts: jax.Array,
    mask: jax.Array,
    *,
    new: int,
    beams: int,
    end: int | None = None,
    length_penalty: float = 1.0,
) -> Written:
    """Searches for the most probable text: the first of `candidates`."""
    every = candidates(
        shape,
        params,
        prompts,
        mask,
        new=new,
        beams=beams,
        end=end,
        length_penalty=length_penalty,
    )
    return Written(*(each[:, 0] for each in every))


def candidates(
    shape: DecoderShape,
    params: Any,
    prompts: jax.Array,
    mask: jax.Array,
    *,
    new: int,
    beams: int,
    end: int | None = None,
    length_penalty: float = 1.0,
) -> Written:
    """Texts of beam search, ``[B, beams, N]``, from the best to the worst.

    A candidate that has ended stays one, while its probability is among the highest. In
    the end they are ordered by the log-probability, divided by the number of tokens to
    the power of ``length_penalty``: 0 for that of the whole text, 1 for the mean. Where
    there are fewer texts than beams, the others are empty, with log-probabilities of
    minus infinity.

    Args:
      shape: The sizes of the decoder.
      params: Its parameters.
      prompts: ``[B, L]``, tokens to begin from.
      mask: ``[B, L]``, 1 for tokens and 0 for padding, which must be at the end.
      new: The largest number of tokens to write.
      beams: Number of candidates.
      end: The token that ends a text, if any.
      length_penalty: See above.

    Raises:
      ValueError: as `generate`, or if there are no beams.
    """
    if beams < 1:
        raise ValueError(f"beams is {beams}, but takes at least 1")
    first, cache, lengths = _begun(shape, params, prompts, mask, new)
    count, vocabulary = first.shape
    cache = Cache(*(jnp.repeat(each, beams, 1) for each in cache))
    logits = jnp.repeat(first[:, None], beams, 1)
    # At first all candidates are the same one, so that only the first may go on.
    scores = jnp.full((count, beams), -jnp.inf).at[:, 0].set(0)
    written = _nothing((count, beams, new))
    # A candidate that has ended goes on in one way, which costs nothing.
    still = jnp.where(jnp.arange(vocabulary) == 0, 0.0, -jnp.inf)[None, None]

    def unfinished(state: Any) -> jax.Array:
        step, *_, alive = state
        return (step < new) & jnp.any(alive)

    def write(state: Any) -> Any:
        step, logits, cache, scores, written, alive = state
        own = jnp.where(alive[..., None], jax.nn.log_softmax(logits), still)
        every = (scores[..., None] + own).reshape(count, -1)
        scores, best = jax.lax.top_k(every, beams)
        parent, token = best // vocabulary, best % vocabulary
        written = Written(
            *(jnp.take_along_axis(each, parent[..., None], 1) for each in written)
        )
        alive = jnp.take_along_axis(alive, parent, 1)
        gained = jnp.take_along_axis(own.reshape(count, -1), best, 1)
        written = _longer(written, step, token, alive, gained)
        if end is not None:
            alive = alive & (token != end)
        rows = (jnp.arange(count)[:, None] * beams + parent).ravel()
        cache = Cache(*(each[:, rows] for each in cache))
        places = jnp.repeat(lengths + step, beams)[:, None]
        after, cache = continued(shape, params, cache, token.reshape(-1, 1), places)
        logits = after.reshape(count, beams, vocabulary)
        return step + 1, logits, cache, scores, written, alive

    state = 0, logits, cache, scores, written, jnp.ones((count, beams), bool)
    *_, scores, written, _ = jax.lax.while_loop(unfinished, write, state)
    none = jnp.isneginf(scores)[..., None]
    fill = jnp.int32(0), jnp.int32(0), -jnp.inf
    written = Written(
        *(jnp.where(none, f, w) for f, w in zip(fill, written, strict=True))
    )
    tokens = jnp.maximum(written.mask.sum(-1), 1)
    order = jnp.argsort(scores / tokens**length_penalty, -1, descending=True)
    return Written(
        *(jnp.take_along_axis(each, order[..., None], 1) for each in written)
    )


def _nothing(size: tuple[int, ...]) -> Written:
    """Room for texts, of which nothing is written."""
    zeros = jnp.zeros(size, jnp.int32)
    return Written(zeros, zeros, jnp.zeros(size))


def _longer(
    written: Written, step: Any, token: jax.Array, alive: jax.Array, gained: jax.Array
) -> Written:
    """The texts with one token more, where they have not ended."""
    columns = jnp.where(alive, token, 0), alive, jnp.where(alive, gained, 0)
    return Written(
        *(
            array.at[..., step].set(column.astype(array.dtype))
            for array, column in zip(written, columns, strict=True)
        )
    )


def _begun(
    shape: DecoderShape, params: Any, prompts: jax.Array, mask: jax.Array, new: int
) -> tuple[jax.Array, Cache, jax.Array]:
    """Logits ``[B, V]`` after the prompts, a cache with room, and their lengths."""
    count, longest = prompts.shape
    if new < 1:
        raise ValueError(f"new is {new}, but takes at least 1")
    if longest + new > shape.context:
        raise ValueError(
            f"prompts of {longest} tokens and {new} new ones exceed the context, "
            f"{shape.context}"
        )
    lengths = jnp.sum(mask != 0, -1)
    if not isinstance(lengths, jax.core.Tracer):
        if not lengths.all():
            raise ValueError(f"prompt {int(jnp.argmin(lengths))} has no token")
        if (jnp.arange(longest)[None] >= lengths[:, None])[mask != 0].any():
            raise ValueError("mask has padding before a token, but takes it at the end")
    prompts = jnp.where(mask != 0, prompts, 0)  # padding may be outside the vocabulary
    positions = jnp.broadcast_to(jnp.arange(longest), prompts.shape)
    cache = empty_cache(shape, count, longest + new)
    logits, cache = continued(shape, params, cache, prompts, positions, lengths - 1)
    # Where the lengths are not known before, an empty prompt gives NaN.
    return jnp.where(lengths[:, None] > 0, logits, jnp.nan), cache, lengths


def _mixture(logits: jax.Array, others: jax.Array, share: float) -> jax.Array:
    """Log-probabilities ``[B, V]`` of a mixture, with a share of the other decoder."""
    own, other = (jax.nn.softmax(each) for each in (logits, others))
    return jnp.log((1 - share) * own + share * other)


def _most_probable(logits: jax.Array, top_p: Fraction) -> jax.Array:
    """The logits ``[B, V]``, with minus infinity for tokens that are not sampled."""
    if isinstance(top_p, float | int) and top_p == 1:
        return logits  # without sorting the vocabulary in every step
    probabilities = jax.nn.softmax(logits)
    ordered = jnp.sort(probabilities, -1, descending=True)
    before = jnp.cumsum(ordered, -1) - ordered
    # The first always is: before it there is nothing.
    kept = (before < top_p).at[:, 0].set(True)
    least = jnp.min(jnp.where(kept, ordered, 1), -1, keepdims=True)
    return jnp.where(probabilities >= least, logits, -jnp.inf)
