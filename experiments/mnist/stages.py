"""Measurements of students at the start, middle and end of training.

Shared by `temperature_gradients` and `jensen_shannon_ends`. The students use settings
that `temperature_alpha` selected on the validation set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.mnist import setup
from kdjax.data import Data, Info
from kdjax.data.source import feeder
from kdjax.models import Model, Variables
from kdjax.progress import track
from kdjax.study.arms import labelled
from kdjax.study.study import Outcome
from kdjax.study.types import Count, Fraction, Positive
from kdjax.training import programs


@dataclass(frozen=True)
class Students(setup.Images):
    student_width: Count = 300
    """Hidden units in each of a student's two layers."""
    temperature: Positive = 4.0
    """Temperature at which students learn from the teacher."""
    alpha: Fraction = 0.9
    """Weight of the teacher in the students' loss."""
    learning_rate: Positive = 1e-2
    """Peak learning rate of the students (Adam, cosine decay)."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""
    epochs: Count = 15
    """Epochs of a student's training."""
    batch_size: Count = 128
    """Images per step, for students and teacher."""
    teacher_width: Count = 1200
    """Hidden units in each of the teacher's two layers."""
    teacher_epochs: Count = 60
    """Epochs of the teacher's training."""


QUICK = setup.QUICK_TEACHER | {"student_width": 30, "epochs": 6}


def run(
    measure: Callable[[Any, Data, Model, Variables], pd.DataFrame],
    config: Students,
    images: Data,
    info: Info,
) -> Outcome:
    """Collects ``measure(config, data, model, variables)`` for each seed and stage."""
    with_teacher, quality = setup.plain_teacher(config, images)
    began, rows = time.monotonic(), []
    for seed, stage, model, variables in students(config, with_teacher):
        columns = {**info.columns(), "stage": stage, "seed": seed}
        rows.append(labelled(measure(config, with_teacher, model, variables), columns))
    seconds = round(quality["seconds"] + time.monotonic() - began)
    facts = {"teacher": quality, "seconds": seconds}
    return Outcome({"runs": pd.concat(rows, ignore_index=True)}, facts)


def students(
    config: Students, images: Data
) -> Iterator[tuple[int, str, Model, Variables]]:
    """Yields each seed and stage, with the model and its variables."""
    sizes = {"epochs": config.epochs, "batch_size": config.batch_size}
    training = setup.student(config.student_width, setup.HINTON, **sizes)
    phase = programs.phase(training, feeder(images.train, config.batch_size))
    arrays, steps = jax.device_put(images.train), phase.feed.steps
    names = ("temperature", "alpha", "learning_rate")
    chosen = {name: np.float32(getattr(config, name)) for name in names}
    stages = {0: "start", (config.epochs + 1) // 2: "middle", config.epochs: "end"}
    for seed in track(range(config.seeds), "students"):
        init_key, key = jax.random.split(jax.random.key(seed))
        run = phase.begin(init_key, chosen, phase.feed.example(), None, None)
        for epoch in range(config.epochs + 1):
            if epoch > 0:
                order, noise = jax.random.split(jax.random.fold_in(key, epoch))
                fed = phase.feed.feed(order, 0, steps)
                keys = jax.random.split(noise, steps)
                run, _ = phase.advance(run, fed, keys, arrays, None)
            if epoch in stages:
                variables = jax.tree.map(jnp.copy, programs.student_of(run.state))
                yield seed, stages[epoch], training.model, variables
