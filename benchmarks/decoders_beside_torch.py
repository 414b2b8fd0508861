"""Training of language models in kdjax beside a PyTorch loop with its fused operations.

    make bench    # on an idle machine

Both train decoders with Hinton's loss on random tokens, with AdamW and a live teacher:
two layers of four with 4,096 tokens, as students of translation are, and ten layers of
SmolLM2's thirty. kdjax trains a student on each core, PyTorch one with all cores. They
take turns, and the fastest turn of each counts, because other work on the machine can
only add time.
"""

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import tyro

from benchmarks import turns
from benchmarks.sweep_beside_torch import serve
from kdjax import data, losses, models, objectives
from kdjax.models import DecoderShape
from kdjax.training import Training, checkpoint, optimizers
from kdjax.training.teacher import live


@dataclass(frozen=True)
class Task:
    """A student, its teacher, and the texts and tokens of a batch."""

    student: DecoderShape
    teacher: DecoderShape
    texts: int
    length: int


SMOLLM2 = 576, 9, 3, 1536
TASKS = {
    "2x128": Task(
        DecoderShape(4096, 2, 128, 4, 4, 344),
        DecoderShape(4096, 4, 256, 8, 8, 680),
        64,
        48,
    ),
    "10x576": Task(
        DecoderShape(49152, 10, *SMOLLM2), DecoderShape(49152, 30, *SMOLLM2), 8, 64
    ),
}
HINTON = objectives.on_tokens(partial(losses.hinton, temperature=1.0, alpha=0.5))


@dataclass(frozen=True)
class Config(turns.Config):
    students: tuple[str, ...] = tuple(TASKS)
    """Layers and widths of the decoders to time."""


def student(name: str, tokens: np.ndarray) -> turns.Students:
    task = TASKS[name]
    examples = turns.rows(tokens[:, : task.length] % task.student.vocabulary)
    taught = models.decoder(task.teacher)
    training = Training(
        models.decoder(task.student),
        HINTON,
        epochs=100,
        batch_size=task.texts,
        optimizer=optimizers.adamw,
        teacher=live(taught),
        select=None,
    )
    fixed = {"teacher": taught.init(jax.random.key(0), examples)}
    return turns.Students(training, data.Data(examples), fixed, learning_rate=1e-4)


def main(config: Config) -> None:
    turns.limit(config.cores)
    checkpoint.cache_compilations()
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 49152, (512, 64), dtype=np.int32)
    turns.compare(
        serve(config.torch_python, "torch_decoders", tokens=tokens),
        config.students,
        partial(student, tokens=tokens),
        unit="tokens",
        per_step=lambda name: TASKS[name].texts * TASKS[name].length,
        steps=lambda name: 2 if name == "10x576" else 8,
        turns=config.turns,
    )


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
