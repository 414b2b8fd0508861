"""Views: transformations of a batch, such as augmentation.

A view is a function ``(key, batch, params, fixed) -> batch`` that keeps the number of
examples. It augments images, or generates text with the student's ``params``. The
student and a live teacher see its result, and no gradient flows through it. Stored
outputs do not follow it, except with `of_stored`. A view that depends on earlier steps
is a `Remembering`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax.losses.ranges import SHARE, require
from kdjax.models import Batch


def _kept(memory: Any, metrics: object) -> Any:
    return memory


class Remembering(NamedTuple):
    """A view with a memory, such as texts that the student wrote in earlier steps.

    The memory is part of the training's state, and of its checkpoints.

    Args:
      init: ``init(batch, params, fixed)`` returns the memory before the first step.
      apply: ``apply(key, batch, params, fixed, memory)`` returns a batch of the same
        shapes, and the memory after the step.
      measured: ``measured(memory, metrics)`` returns the memory after the student was
        measured on the validation examples, with ``metrics`` such as
        ``validation_nll``.
    """

    init: Callable[[Batch, Any, Any], Any]
    apply: Callable[[jax.Array, Batch, Any, Any, Any], tuple[Batch, Any]]
    measured: Callable[[Any, dict[str, jax.Array]], Any] = _kept


View = Callable[..., Batch] | Remembering
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]  # (key, images) -> images


def seen(
    view: View, key: jax.Array, batch: Batch, params: Any, fixed: Any, memory: Any
) -> tuple[Batch, Any]:
    """What a view makes of a batch, and its memory after that."""
    if isinstance(view, Remembering):
        return view.apply(key, batch, params, fixed, memory)
    return view(key, batch, params, fixed), memory


def watches(view: View) -> bool:
    """Whether a view takes the metrics of validation examples."""
    return isinstance(view, Remembering) and view.measured is not _kept


def beginning(view: View, batch: Batch, params: Any, fixed: Any) -> Any:
    """The memory of a view before the first step; empty if it has none."""
    return view.init(batch, params, fixed) if isinstance(view, Remembering) else {}


def unchanged(key: jax.Array, batch: Batch, params: object, fixed: object) -> Batch:
    """Returns the batch unchanged."""
    return batch


def augmented(*augmentations: Augmentation) -> View:
    """A view that applies augmentations to the images in turn.

    Stored teacher outputs do not follow the augmentation. Use a live teacher if they
    should, or `of_stored`.

    Args:
      *augmentations: Functions ``(key, images) -> images``, as `kdjax.data.jitter`.
    """
    return partial(_augmented, augmentations)


def of_stored(views: Sequence[Callable[[jax.Array], jax.Array]]) -> View:
    """A view that draws one of a finite set of views per example, for a stored teacher.

    The teacher's outputs are stored for every view, ``[B, views, ...]``, in this order.
    Of these the batch keeps the outputs for the view that was drawn.

    Args:
      views: Deterministic functions of images ``[B, ...]``.

    Raises:
      ValueError: before the training, if outputs of more or fewer views are stored.
    """
    return partial(_of_stored, tuple(views))


def masked_words(
    mask_token: int,
    *,
    vocabulary: int,
    special: Sequence[int] = (),
    share: float = 0.15,
) -> View:
    """A view that hides words which the student is to predict, as BERT's pretraining.

    Of each text ``share`` of the words are drawn, at least one. Of these, 80 % become
    the mask token, 10 % another word, and 10 % stay. The batch gets ``places`` ``[B,
    K]`` of the drawn words, and their tokens as ``label``, -1 where a text has fewer.

    Args:
      mask_token: The token of a hidden word.
      vocabulary: Number of tokens, from which other words are drawn.
      special: Tokens that are no words and are not drawn.
      share: Share of words that are drawn, in (0, 1]; 0.15 in BERT.

    Raises:
      ValueError: if the share is outside this range.

    References:
      Devlin et al., `BERT <https://arxiv.org/abs/1810.04805>`_, 2019, section 3.1.
    """
    require("share", share, SHARE)
    return partial(_masked_words, mask_token, vocabulary, tuple(special), share)


def _masked_words(
    mask_token: int,
    vocabulary: int,
    special: tuple[int, ...],
    share: float,
    key: jax.Array,
    batch: Batch,
    params: object,
    fixed: object,
) -> Batch:
    tokens = jnp.asarray(batch["tokens"])
    keys = jax.random.split(key, 3)
    words = (batch["mask"] != 0) & ~jnp.isin(tokens, jnp.array(special, tokens.dtype))
    order = jnp.where(words, jax.random.uniform(keys[0], tokens.shape), -1.0)
    ranks, places = jax.lax.top_k(order, max(1, round(share * tokens.shape[1])))
    count = jnp.maximum(1, jnp.round(share * jnp.sum(words, 1, keepdims=True)))
    drawn = (jnp.arange(places.shape[1])[None] < count) & (ranks >= 0)
    own = jnp.take_along_axis(tokens, places, 1)
    fate = jax.random.uniform(keys[1], places.shape)
    other = jax.random.randint(keys[2], places.shape, 0, vocabulary, tokens.dtype)
    new = jnp.where(fate < 0.8, mask_token, jnp.where(fate < 0.9, other, own))
    rows = jnp.arange(len(tokens))[:, None]
    hidden = tokens.at[rows, places].set(jnp.where(drawn, new, own))
    label = jnp.where(drawn, own, -1)
    return {**batch, "tokens": hidden, "places": places, "label": label}


def _augmented(
    augmentations: tuple[Augmentation, ...],
    key: jax.Array,
    batch: Batch,
    params: object,
    fixed: object,
) -> Batch:
    images = batch["image"]
    keys = [key]  # a single augmentation takes the key of the view
    if len(augmentations) > 1:
        keys = jax.random.split(key, len(augmentations))
    for augmentation, own in zip(augmentations, keys, strict=True):
        images = augmentation(own, images)
    return {**batch, "image": images}


def _of_stored(
    views: tuple[Callable, ...],
    key: jax.Array,
    batch: Batch,
    params: object,
    fixed: object,
) -> Batch:
    images = batch["image"]
    for leaf in jax.tree.leaves(batch["teacher"]):
        if leaf.shape[1:2] != (len(views),):
            raise ValueError(
                f"teacher's outputs have shape {leaf.shape}, but {len(views)} views "
                f"take {(len(images), len(views), '...')}"
            )
    rows = jnp.arange(len(images))
    drawn = jax.random.randint(key, (len(images),), 0, len(views))
    seen = jnp.stack([view(images) for view in views], axis=1)
    teacher = jax.tree.map(lambda stored: stored[rows, drawn], batch["teacher"])
    return {**batch, "image": seen[rows, drawn], "teacher": teacher}
