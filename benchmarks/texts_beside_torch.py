"""Training of encoders in kdjax beside a PyTorch loop with its fused operations.

    make bench    # on an idle machine

Both train encoders with Hinton's loss on texts of 64 tokens, in batches of 32, with
dropout and AdamW. They take turns, and the fastest turn of each counts, because other
work on the machine can only add time.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import tyro

from benchmarks import turns
from benchmarks.sweep_beside_torch import serve
from kdjax import data, losses, models, objectives
from kdjax.models import Shape
from kdjax.training import Training, checkpoint, optimizers

BATCH, LENGTH, VOCABULARY = 32, 64, 30522
STUDENTS = {
    "2x128": Shape(VOCABULARY, 2, 128, 4, 512),
    "4x192": Shape(VOCABULARY, 4, 192, 12, 768),
    "6x384": Shape(VOCABULARY, 6, 384, 12, 1536),
}


@dataclass(frozen=True)
class Config(turns.Config):
    students: tuple[str, ...] = tuple(STUDENTS)
    """Layers and widths of the encoders to time."""


def texts() -> data.Data:
    """Random tokens, labels, and a teacher's logits."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCABULARY, (1024, LENGTH), dtype=np.int32)
    labels = rng.integers(0, 2, len(tokens), dtype=np.int32)
    train = {
        "tokens": tokens,
        "mask": np.ones_like(tokens),
        "segments": np.zeros_like(tokens),
        "label": labels,
        "teacher": models.Outputs(turns.teacher_logits(labels, 2)),
    }
    return data.Data(train)


def student(name: str, examples: data.Data) -> turns.Students:
    training = Training(
        models.bert(STUDENTS[name], dropout=0.1),
        objectives.on_logits(losses.hinton),
        epochs=100,
        batch_size=BATCH,
        optimizer=optimizers.adamw,
        select=None,
    )
    settings = {"temperature": 4.0, "alpha": 0.5, "learning_rate": 1e-4}
    return turns.Students(training, examples, **settings)


def main(config: Config) -> None:
    turns.limit(config.cores)
    checkpoint.cache_compilations()
    examples = texts()
    arrays = {**examples.train}
    logits = arrays.pop("teacher").logits
    server = serve(
        config.torch_python,
        "torch_texts",
        vocabulary=np.array(VOCABULARY),
        teacher_logits=logits,
        **arrays,
    )
    turns.compare(
        server,
        config.students,
        partial(student, examples=examples),
        unit="tokens",
        per_step=lambda name: BATCH * LENGTH,
        steps=lambda name: 2 if name == "6x384" else 8,
        turns=config.turns,
    )


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
