"""Seconds of a step of several trainings, in turns, without compiling."""

from collections.abc import Callable, Mapping
import time
from typing import Any, NamedTuple

import jax
import pandas as pd

from kdjax import progress
from kdjax.data import Data
from kdjax.data.source import feeder
from kdjax.training import Training, programs, strategy


class Timed(NamedTuple):
    """A training, and for how many of its steps it is timed, from the first."""

    training: Training
    data: Data
    steps: int


def in_turns(
    every: Mapping[str, Timed], hyperparameters: Any, fixed: Any, *, rounds: int
) -> pd.DataFrame:
    """A row for each ``method`` and ``round``, with ``seconds`` of a step."""
    timers = {
        name: _timer(each, hyperparameters, fixed) for name, each in every.items()
    }
    turns = [(number, name) for number in range(rounds) for name in timers]
    for name in progress.track(list(timers), "compiling"):
        timers[name]()
    rows = [
        {"method": name, "round": number, "seconds": timers[name]()}
        for number, name in progress.track(turns, "timing, in turns")
    ]
    return pd.DataFrame(rows)


def _timer(own: Timed, hyperparameters: Any, fixed: Any) -> Callable[[], float]:
    """A function that trains anew, and returns the mean seconds of a step."""
    feed = feeder(own.data.train, own.training.batch_size)
    scanned = strategy.scans_well(own.training, own.data, jax.devices()[0])
    phase = programs.phase(own.training, feed, scanned=scanned)
    key = jax.random.key(0)
    keys = jax.random.split(key, own.steps)

    def timed() -> float:
        feed.begin(key, None)
        fed = feed.feed(key, 0, own.steps)
        run = phase.begin(key, hyperparameters, feed.example(), fixed, None)
        jax.block_until_ready(run)
        began = time.perf_counter()
        jax.block_until_ready(phase.advance(run, fed, keys, feed.arrays, fixed))
        return (time.perf_counter() - began) / own.steps

    return timed
