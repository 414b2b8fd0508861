"""Projectors: learned maps between student and teacher outputs.

They are regressors to the width of the teacher, the variances of VID, the fusion of
stages of knowledge review, or the embedding heads and memory of CRD. Projectors are
initialised from the shapes of both `Outputs`, learn with the student, and are discarded
after training.
"""

from collections.abc import Callable, Sequence
from functools import partial
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax import losses
from kdjax.losses.ranges import Fraction, Positive
from kdjax.models.convolution import convolve
from kdjax.models.types import Batch, Outputs, Variables

Pairs = Sequence[tuple[int, int]]  # indices of student and teacher features


class Projector(NamedTuple):
    """Two pure functions, like those of a `kdjax.models.Model`, of both outputs.

    They are ``init(key, student, teacher) -> variables`` and ``apply(variables,
    student, teacher, batch, key) -> ((student, teacher), state)``. Keyword-only
    arguments of ``apply`` are hyperparameters, as in an objective.
    """

    init: Callable[[jax.Array, Outputs, Outputs], Variables]
    apply: Callable[..., tuple[tuple[Outputs, Outputs], Any]]


def _nothing(key: jax.Array, student: Outputs, teacher: Outputs) -> Variables:
    return {"params": {}, "state": {}}


def _as_they_are(
    variables: Variables, student: Outputs, teacher: Outputs, batch: Batch, key: Any
) -> tuple[tuple[Outputs, Outputs], Any]:
    return (student, teacher), variables["state"]


identity = Projector(_nothing, _as_they_are)  # returns both outputs unchanged


def paired(pairs: Pairs) -> Projector:
    """Selects the paired features, as `linear` does, but without a map."""
    return Projector(_nothing, partial(_apply_linear, tuple(pairs)))


def linear(pairs: Pairs = ((-1, -1),)) -> Projector:
    """Linear maps from student features to the widths of teacher features.

    The objective receives only the paired features: the projected
    ``student.features[i]`` has the shape of ``teacher.features[i]``. This is the
    regressor of FitNets and the projection of PKD.

    Args:
      pairs: Pairs of a student and a teacher feature by index, of shapes ``[B, ...,
        width]`` that differ only in width.
    """
    pairs = tuple(pairs)
    return Projector(partial(_init_linear, pairs), partial(_apply_linear, pairs))


def variational(pairs: Pairs = ((-1, -1),)) -> Projector:
    """Linear maps as in `linear`, and learned variances for `kdjax.losses.vid`.

    The variances of pair ``i`` are ``student.extras["raw_variance"][i]``, ``[width]``.
    """
    pairs = tuple(pairs)
    return Projector(partial(_init_variational, pairs), partial(_apply_linear, pairs))


def review(pairs: Pairs, *, width: int = 64) -> Projector:
    """Fuses each stage of the student with its later ones, as knowledge review does.

    From the last pair to the first, the student's map is brought to ``width`` channels
    and mixed with the fusion of the later stages, enlarged to its size, by learned
    weights for each place. A 3 x 3 convolution then gives the channels of the teacher's
    map. The objective receives only these maps and the paired ones of the teacher, for
    `kdjax.losses.hierarchical_context`. There is no batch normalisation, unlike in the
    authors' code.

    Args:
      pairs: Pairs of a student and a teacher map ``[B, H, W, channels]`` by index, from
        the first stage to the last. Maps of a pair agree in height and width.
      width: Number of channels while stages are mixed.

    Chen et al., `Distilling Knowledge via Knowledge Review
    <https://arxiv.org/abs/2104.09044>`_, 2021, section 3.
    """
    pairs = tuple(pairs)
    return Projector(partial(_init_review, pairs, width), partial(_apply_review, pairs))


def contrastive(
    *,
    dataset_size: int,
    negatives: int = 4096,
    width: int = 128,
    pair: Sequence[int] = (-1, -1),
) -> Projector:
    """The embedding heads and the memory of `kdjax.losses.crd_with_memory`.

    The objective receives both embeddings as ``features[0]``, and ``memory`` and
    ``negatives`` in ``student.extras``. Examples are identified by ``batch["index"]``.
    Hyperparameters are ``temperature``, which should equal that of the objective, and
    ``memory_momentum``, the decay rate of embeddings in the memory.

    Args:
      dataset_size: Number of training examples.
      negatives: Number of negatives drawn for each example.
      width: Width of the embeddings.
      pair: Indices of the student and the teacher feature to embed.
    """
    return Projector(
        partial(_init_contrastive, dataset_size, width, tuple(pair)),
        partial(_apply_contrastive, negatives, tuple(pair)),
    )


def _paired(pairs: Pairs, student: Outputs, teacher: Outputs) -> Sequence[Outputs]:
    both = ((student.features[i], teacher.features[j]) for i, j in pairs)
    s, t = zip(*both, strict=True)
    return student._replace(features=s), teacher._replace(features=t)


def _dense(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
    kernel = jax.nn.initializers.lecun_normal()(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def _through(dense: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    bias = dense["bias"].reshape((1,) * (x.ndim - 1) + (-1,))
    return x @ dense["kernel"] + bias


def _check_places(i: int, s: Sequence[int], j: int, t: Sequence[int]) -> None:
    if tuple(s[:-1]) != tuple(t[:-1]):
        raise ValueError(
            f"projector: student feature {i} has shape {s} and teacher feature {j} "
            f"{t}, but all axes except the last must agree"
        )


def _init_linear(
    pairs: Pairs, key: jax.Array, student: Outputs, teacher: Outputs
) -> Variables:
    dense = []
    for own, (i, j) in zip(jax.random.split(key, len(pairs)), pairs, strict=True):
        s, t = student.features[i].shape, teacher.features[j].shape
        _check_places(i, s, j, t)
        dense.append(_dense(own, s[-1], t[-1]))
    return {"params": {"dense": tuple(dense)}, "state": {}}


def _apply_linear(
    pairs: Pairs,
    variables: Variables,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    key: Any,
) -> tuple[tuple[Outputs, Outputs], Any]:
    params = dict(variables["params"])
    student, teacher = _paired(pairs, student, teacher)
    if dense := params.pop("dense", None):
        projected = tuple(map(_through, dense, student.features))
        student = student._replace(features=projected)
    student = student._replace(extras={**student.extras, **params})
    return (student, teacher), variables["state"]


def _init_variational(
    pairs: Pairs, key: jax.Array, student: Outputs, teacher: Outputs
) -> Variables:
    variables = _init_linear(pairs, key, student, teacher)
    start = math.log(math.expm1(5))  # a variance of 5, as in the authors' code
    widths = [teacher.features[j].shape[-1] for _, j in pairs]
    raw = tuple(jnp.full(width, start, jnp.float32) for width in widths)
    return {**variables, "params": {**variables["params"], "raw_variance": raw}}


def _init_review(
    pairs: Pairs, width: int, key: jax.Array, student: Outputs, teacher: Outputs
) -> Variables:
    stages = []
    for own, (i, j) in zip(jax.random.split(key, len(pairs)), pairs, strict=True):
        s, t = student.features[i].shape, teacher.features[j].shape
        _check_places(i, s, j, t)
        of_width, of_mixture, of_kernel = jax.random.split(own, 3)
        initial = jax.nn.initializers.lecun_normal()
        stages.append(
            {
                "in": _dense(of_width, s[-1], width),
                "mix": _dense(of_mixture, 2 * width, 2),
                "out": initial(of_kernel, (3, 3, width, t[-1])),
            }
        )
    return {"params": {"stages": tuple(stages)}, "state": {}}


def _apply_review(
    pairs: Pairs,
    variables: Variables,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    key: Any,
) -> tuple[tuple[Outputs, Outputs], Any]:
    student, teacher = _paired(pairs, student, teacher)
    fused, later = [], None
    stages = zip(variables["params"]["stages"], student.features, strict=True)
    for stage, own in reversed(list(stages)):
        x = _through(stage["in"], own)
        if later is not None:
            later = jax.image.resize(later, x.shape, "nearest")
            both = jnp.concatenate([x, later], -1)
            share, rest = jnp.split(jax.nn.sigmoid(_through(stage["mix"], both)), 2, -1)
            x = share * x + rest * later
        fused.append(convolve(x, stage["out"]))
        later = x
    student = student._replace(features=tuple(reversed(fused)))
    return (student, teacher), variables["state"]


def _init_contrastive(
    dataset_size: int,
    width: int,
    pair: tuple[int, ...],
    key: jax.Array,
    student: Outputs,
    teacher: Outputs,
) -> Variables:
    *heads, memory = jax.random.split(key, 3)
    params = {
        name: _dense(head, math.prod(outputs.features[i].shape[1:]), width)
        for name, head, outputs, i in zip(
            ("student", "teacher"), heads, (student, teacher), pair, strict=True
        )
    }
    bank = losses.crd_memory(memory, dataset_size=dataset_size, width=width)
    return {"params": params, "state": {"memory": bank}}


def _apply_contrastive(
    negatives: int,
    pair: tuple[int, ...],
    variables: Variables,
    student: Outputs,
    teacher: Outputs,
    batch: Batch,
    key: jax.Array,
    *,
    temperature: Positive = 0.07,
    memory_momentum: Fraction = 0.5,
) -> tuple[tuple[Outputs, Outputs], Any]:
    params, memory = variables["params"], variables["state"]["memory"]
    embedded = [
        _through(
            params[name], outputs.features[i].reshape(len(outputs.features[i]), -1)
        )
        for name, outputs, i in zip(
            ("student", "teacher"), (student, teacher), pair, strict=True
        )
    ]
    count, rows = len(memory.student), batch["index"]
    further = jax.random.randint(key, (len(rows), negatives), 1, count)
    others = (rows[:, None] + further) % count  # never the example itself
    _, remembered = losses.crd_with_memory(
        embedded[0],
        embedded[1],
        memory,
        rows,
        others,
        temperature=temperature,
        momentum=memory_momentum,
    )
    extras = {**student.extras, "memory": memory, "negatives": others}
    outputs = (
        student._replace(features=(embedded[0],), extras=extras),
        teacher._replace(features=(embedded[1],)),
    )
    return outputs, {"memory": jax.lax.stop_gradient(remembered)}
