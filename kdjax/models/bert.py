"""Transformer encoders, in the form of BERT and of MPNet."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.losses.ranges import FRACTION, require
from kdjax.models.linen import from_linen
from kdjax.models.types import Model, Outputs

_FAR = 128  # tokens; relative positions beyond share a bucket
_INITIAL = nn.initializers.normal(0.02)
_Logits = Literal["classes", "words", "masked_words"]


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder.

    Args:
      vocabulary: Number of tokens.
      layers: Number of layers.
      width: Size of hidden states.
      heads: Number of attention heads; must divide the width.
      feed_forward: Width of the hidden layer of each block.
      positions: Rows of the table of positions.
      first_position: Row of the first token; 2 in MPNet.
      segments: Number of token types, or 0 for none, as in MPNet.
      buckets: Number of buckets of relative positions, whose bias all layers add to
        attention; 0 for none, as in BERT, and 32 in MPNet.
      epsilon: Added to the variance in layer normalisation.
      word_head: Whether there are parameters to predict masked words.
    """

    vocabulary: int
    layers: int
    width: int
    heads: int
    feed_forward: int
    positions: int = 512
    first_position: int = 0
    segments: int = 2
    buckets: int = 0
    epsilon: float = 1e-12
    word_head: bool = False

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}, but takes at least 1")
        if self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}, but must divide the width, {self.width}"
            )


def bert(
    shape: Shape,
    *,
    classes: int = 2,
    logits: _Logits = "classes",
    dropout: float = 0.0,
) -> Model:
    """An encoder of the batch's ``tokens``, ``mask`` and ``segments``, ``[B, L]`` each.

    The mask is 1 for tokens and 0 for padding, which must be at the end. Features are
    the hidden states ``[B, L, width]``: the embeddings, then one of each layer.
    Attention holds the scores of each layer before the softmax, ``[B, heads, L, L]``,
    without the mask. Extras have ``queries``, ``keys`` and ``values``, tuples of ``[B,
    L, width]`` over layers with the heads concatenated, and ``pooled``, ``[B, width]``.

    Args:
      shape: The sizes.
      classes: Number of logits of a text, 1 for regression.
      logits: What the logits are of: ``"classes"``, ``[B, classes]``; ``"words"``,
        ``[B, L, vocabulary]``; or ``"masked_words"``, those at the batch's ``places``
        ``[B, K]`` alone, ``[B, K, vocabulary]``. The last two need a ``word_head``.
        Parameters are the same, so that a training can have phases of all.
      dropout: Rate of dropout of hidden states and attention, in training mode.

    Raises:
      ValueError: if logits is none of these, the shape has no head for words, or
        dropout is out of range.

    References:
      Devlin et al., `BERT <https://arxiv.org/abs/1810.04805>`_, 2019; Song et al.,
      `MPNet <https://arxiv.org/abs/2004.09297>`_, 2020.
    """
    if logits not in (known := get_args(_Logits)):
        raise ValueError(f"logits is {logits!r}, but takes one of {', '.join(known)}")
    if logits != "classes" and not shape.word_head:
        raise ValueError(f"logits is {logits!r}, but the shape has word_head=False")
    require("dropout", dropout, FRACTION)
    network = _Encoder(shape, classes, logits, dropout)
    inputs = ("tokens", "mask", "segments")
    model = from_linen(network, inputs)
    if logits == "masked_words":  # parameters do not depend on the places
        return Model(model.init, from_linen(network, (*inputs, "places")).apply)
    return model


class _Encoder(nn.Module):
    shape: Shape
    classes: int
    logits: str
    dropout: float

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        mask: jax.Array,
        segments: jax.Array,
        places: jax.Array | None = None,
        *,
        train: bool,
    ) -> Outputs:
        shape, length = self.shape, tokens.shape[1]
        if length > shape.positions - shape.first_position:
            raise ValueError(
                f"tokens has {length} places, but the table of positions has "
                f"{shape.positions - shape.first_position}"
            )
        embed = partial(nn.Embed, features=shape.width, embedding_init=_INITIAL)
        words = embed(shape.vocabulary, name="words")
        positions = jnp.arange(shape.first_position, shape.first_position + length)
        # Padding may be outside the vocabulary.
        tokens = jnp.where(mask != 0, tokens, 0)
        x = words(tokens) + embed(shape.positions, name="positions")(positions)[None]
        if shape.segments:
            x = x + embed(shape.segments, name="segments")(segments)
        drop = partial(_drop, self, self.dropout if train else 0.0)
        x = drop(nn.LayerNorm(shape.epsilon, name="norm")(x))
        bias: jax.Array | float = 0.0
        if shape.buckets:
            table = nn.Embed(shape.buckets, shape.heads, name="relative_positions")
            bias = jnp.moveaxis(table(_relative(length, shape.buckets)), -1, 0)[None]
        hidden, scores, projected = [x], [], []
        for layer in range(shape.layers):
            block = _Layer(shape, self.dropout, name=f"layer{layer}")
            x, score, own = block(x, mask, bias, train)
            hidden.append(x)
            scores.append(score)
            projected.append(own)
        dense = partial(nn.Dense, kernel_init=_INITIAL)
        pooled = nn.tanh(dense(shape.width, name="pooler")(x[:, 0]))
        of_text = dense(self.classes, name="classifier")(drop(pooled))
        queries, keys, values = (tuple(each) for each in zip(*projected, strict=True))
        extras = {"queries": queries, "keys": keys, "values": values, "pooled": pooled}
        logits = of_text
        if shape.word_head:
            if places is not None:
                x = jnp.take_along_axis(x, places[..., None], 1)
            y = _gelu(dense(shape.width, name="word_dense")(x))
            y = nn.LayerNorm(shape.epsilon, name="word_norm")(y)
            zeros = nn.initializers.zeros
            of_each = self.param("word_bias", zeros, (shape.vocabulary,))
            of_words = words.attend(y) + of_each[None, None]
            logits = of_text if self.logits == "classes" else of_words
        return Outputs(logits, tuple(hidden), tuple(scores), extras)


class _Layer(nn.Module):
    shape: Shape
    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array, bias: jax.Array | float, train: bool
    ) -> tuple[jax.Array, jax.Array, tuple[jax.Array, ...]]:
        shape, heads = self.shape, self.shape.heads
        drop = partial(_drop, self, self.dropout if train else 0.0)
        norm = partial(nn.LayerNorm, shape.epsilon)
        dense = partial(nn.Dense, kernel_init=_INITIAL)
        # One product for all three, which is faster than three.
        projected = jnp.split(dense(3 * shape.width, name="attention")(x), 3, -1)
        by_head = [p.reshape(*p.shape[:2], heads, -1) for p in projected]
        queries, keys, values = by_head
        queries = queries * queries.shape[-1] ** -0.5  # fewer than the scores
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) + bias
        seen = jnp.where(
            mask[:, None, None, :] != 0, scores, jnp.finfo(scores.dtype).min
        )
        weights = drop(jax.nn.softmax(seen, -1))
        context = jnp.einsum("bhqk,bkhd->bqhd", weights, values).reshape(x.shape)
        x = norm(name="attention_norm")(
            x + drop(dense(shape.width, name="attention_out")(context))
        )
        y = dense(shape.feed_forward, name="up")(x)
        y = dense(shape.width, name="down")(_gelu(y))
        return norm(name="norm")(x + drop(y)), scores, tuple(projected)


def _drop(module: nn.Module, rate: float, x: jax.Array) -> jax.Array:
    return dropped(x, rate, module.make_rng("dropout")) if rate else x


def dropped(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """``x`` with this share of its numbers zero, and the others scaled to its mean.

    Each number takes 16 random bits, because drawing flax's 32 takes twice as long on a
    CPU. The share is rounded to a multiple of 2^-16.
    """
    kept = round((1 - rate) * 2**16)
    both = jax.random.bits(key, (-(-x.size // 2),), jnp.uint32)
    bits = jnp.concatenate([both & 0xFFFF, both >> 16])[: x.size].reshape(x.shape)
    return jnp.where(bits < kept, x * (2**16 / kept), 0)


def _gelu(x: jax.Array) -> jax.Array:
    """GELU by the error function; flax's, by its complement, takes twice as long."""
    return x * (1 + jax.lax.erf(x * 2**-0.5)) / 2


def _relative(length: int, buckets: int) -> jax.Array:
    """Buckets ``[L, L]`` of the key's place relative to the query's, as in T5.

    Half of the buckets are for keys after the query. Of each half, half are for one
    distance each, and the others grow by a constant factor.
    """
    places = jnp.arange(length)
    ahead = places[None, :] - places[:, None]
    half = buckets // 2
    exact = half // 2
    distance = jnp.abs(ahead)
    growth = jnp.log(jnp.maximum(distance, 1) / exact) / jnp.log(_FAR / exact)
    wide = jnp.minimum(exact + (growth * (half - exact)).astype(int), half - 1)
    return half * (ahead > 0) + jnp.where(distance < exact, distance, wide)
