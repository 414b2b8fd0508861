"""Greedy generation in kdjax beside transformers, by a decoder of SmolLM2's sizes.

    make bench    # on an idle machine

Both continue prompts of 16 tokens in float32, with a cache and all cores. They take
turns, and the fastest turn of each counts, because other work on the machine can only
add time; the prompt is part of it. For each token that one text gains, all 538 MB of
parameters have to be read: the last column is this over the time of a token, as a share
of the bandwidth that a product of a large matrix with a vector has.
"""

from dataclasses import dataclass
from functools import partial
import time

import jax
import jax.numpy as jnp
import numpy as np
import rich
from rich.table import Table
import tyro

from benchmarks import turns
from benchmarks.sweep_beside_torch import least, serve
from kdjax import models, progress
from kdjax.models import DecoderShape
from kdjax.models.generation import generate

SIZES = 49152, 30, 576, 9, 3, 1536
PROMPT, NEW = 16, 32


@dataclass(frozen=True)
class Config(turns.Config):
    batches: tuple[int, ...] = (1, 16)
    """Numbers of texts to write at a time."""


def bandwidth() -> float:
    """Bytes a second that a product of a matrix with a vector reads."""
    matrix, vector = jnp.ones((49152, 2304)), jnp.ones(2304)
    return matrix.nbytes / least(jnp.matmul, matrix, vector)


def main(config: Config) -> None:
    turns.limit(config.cores)
    shape = DecoderShape(*SIZES)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, SIZES[0], (max(config.batches), PROMPT), dtype=np.int32)
    sizes = np.array(SIZES)
    server = serve(config.torch_python, "torch_generation", tokens=tokens, sizes=sizes)
    batch = {"tokens": tokens, "mask": np.ones_like(tokens)}
    params = models.decoder(shape).init(jax.random.key(0), batch)["params"]
    size = sum(each.nbytes for each in jax.tree.leaves(params))
    write = jax.jit(partial(generate, shape, new=NEW))
    table = Table(title=f"tokens a second; {turns.greeting(server)}")
    for name in ("texts", "transformers", "kdjax", "kdjax / transformers", "bandwidth"):
        table.add_column(name, justify="right")
    rate = bandwidth()
    for count in progress.track(list(config.batches), "timing, in turns"):
        given = tokens[:count], batch["mask"][:count]
        ours, theirs = [], []
        jax.block_until_ready(write(params, *given))
        for _ in range(config.turns):
            theirs.append(turns.asked(server, str(count), NEW))
            began = time.perf_counter()
            jax.block_until_ready(write(params, *given))
            ours.append(time.perf_counter() - began)
        a, b = (NEW * count / min(each) for each in (theirs, ours))
        share = size * NEW / min(ours) / rate
        table.add_row(
            str(count), f"{a:.1f}", f"{b:.1f}", f"{b / a:.2f}", f"{share:.0%}"
        )
    server.communicate()
    rich.print(table)
    rich.print(f"jax {jax.__version__}")


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
