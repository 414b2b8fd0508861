"""How long a step on a student's own texts takes, and which share of it writes them.

    make bench    # on an idle machine

A decoder of two layers of 128 learns from one of four layers of 256 by reverse KL, in
batches of 32: of given texts, or of its own after prompts of 8 tokens. The difference
is the time to write. Both take turns, and the fastest turn of each counts.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
import rich
from rich.table import Table
import tyro

from benchmarks import turns
from kdjax import data, losses, models, objectives, progress
from kdjax.models import DecoderShape
from kdjax.training import Training, checkpoint, optimizers, writing
from kdjax.training.teacher import live

TEXTS, PROMPT, STEPS = 32, 8, 2


@dataclass(frozen=True)
class Config(turns.Timing):
    vocabularies: tuple[int, ...] = (512, 2048, 8192)
    """Numbers of tokens, with texts of the first length."""
    lengths: tuple[int, ...] = (32, 64, 128)
    """Tokens of a text, of the second vocabulary."""


def students(vocabulary: int, length: int) -> list[turns.Students]:
    """A student of given texts, and one of its own."""
    small = DecoderShape(vocabulary, 2, 128, 4, 4, 344)
    taught = models.decoder(DecoderShape(vocabulary, 4, 256, 8, 8, 680))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocabulary, (256, length), dtype=np.int32)
    examples = turns.rows(tokens)
    given = Training(
        models.decoder(small),
        objectives.on_tokens(losses.reverse_kl),
        epochs=100,
        batch_size=TEXTS,
        optimizer=optimizers.adamw,
        teacher=live(taught),
        select=None,
    )
    own = replace(given, view=writing.by_student(small, prompt=PROMPT))
    fixed = {"teacher": taught.init(jax.random.key(0), examples)}
    return [
        turns.Students(each, data.Data(examples), fixed, learning_rate=1e-4)
        for each in (given, own)
    ]


def main(config: Config) -> None:
    turns.limit(config.cores)
    checkpoint.cache_compilations()
    sizes = [(size, config.lengths[0]) for size in config.vocabularies]
    middle = config.vocabularies[len(config.vocabularies) // 2]
    sizes += [(middle, length) for length in config.lengths[1:]]
    table = Table(title=f"seconds of a step of {TEXTS} texts; jax {jax.__version__}")
    for name in ("vocabulary", "length", "given texts", "own texts", "to write them"):
        table.add_column(name, justify="right")
    for size in progress.track(sizes, "timing, in turns"):
        both, seconds = students(*size), ([], [])
        for _ in range(config.turns):
            for each, times in zip(both, seconds, strict=True):
                times.append(each(STEPS) / len(jax.devices()) / STEPS)
        given, own = map(min, seconds)
        times = f"{given:.2f}", f"{own:.2f}", f"{1 - given / own:.0%}"
        table.add_row(*map(str, size), *times)
    rich.print(table)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
