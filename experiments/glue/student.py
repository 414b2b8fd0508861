r"""Distils one student for a task, beside its teacher, and saves it for deployment.

    python -m experiments.glue.student --save DIR     # on sentences, without a download
    python -m experiments.glue.student --task mrpc --student 4x192 --recipe pkd_skip \
        --data-dir tfds --save DIR

The folder opens in the package transformers, as ``AutoModelForSequenceClassification``
and ``AutoTokenizer``. The student begins as in experiments.glue.recipes, and its recipe
keeps its usual weight. Latency is for one text of 32 tokens, the median of 29 runs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
import time
from typing import Annotated

import jax
import numpy as np
import pandas as pd
import tyro

from experiments.glue import cells, setup, teachers, terms, unlabelled
from experiments.glue.students import WIDE, Name
from kdjax import models
from kdjax.models import Batch, Model, Shape, Variables, hugging_face
from kdjax.study import flags
from kdjax.study.study import print_table
from kdjax.study.types import InvalidConfig
from kdjax.training import checkpoint, train
from kdjax.training.teacher import logits, measured, store

LENGTH, TURNS = 32, 30  # of the texts whose latency is measured


def distil(
    task: setup.Name = "sentences",
    student: Name = "2x128",
    recipe: terms.Name = "pkd_last",
    learning_rate: float = 5e-4,
    steps: int = 400,
    seed: int = 0,
    encoder: str = "",
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None,
    save: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
) -> None:
    """Distils a student.

    Args:
      task: A task of GLUE or a subset, or sentences.
      student: Layers and width.
      recipe: What it learns from the teacher.
      learning_rate: Peak learning rate (AdamW, cosine decay).
      steps: Steps of its training, rounded to whole epochs.
      seed: For the order of texts, dropout, and initial weights.
      encoder: Folder of the pretrained teacher; all-MiniLM-L6-v2 by default.
      data_dir: Directory prepared by tensorflow-datasets, if not its default.
      save: Folder to write the student to.
    """
    small = {"corpus": ("sentences",), "teacher_epochs": 8, "teacher_rates": (2e-4,)}
    try:
        config = cells.Config(
            tasks=(task,),
            students=(student,),
            recipes=(recipe,),
            learning_rates=(learning_rate,),
            steps=steps,
            encoder=encoder,
            **(small if task == "sentences" else {}),
        )
        tasks, own, texts = setup.load(config, data_dir).arguments
    except (ValueError, FileNotFoundError, InvalidConfig) as error:
        flags.fail(error)
    checkpoint.cache_compilations()
    teacher = teachers.fine_tuned(tasks[task], config, own)
    way = "layers" if student == WIDE else cells.USUAL
    params = unlabelled.beginning(student, way, config, texts, own).params
    cell = cells.Cell(config, tasks[task], teacher, student, {way: params})
    its = cell.student
    chosen = terms.recipes(its, own.shape.width)[recipe]
    trained = train(
        cells.phases(cell, chosen),
        {"learning_rate": learning_rate, **usual(chosen)},
        data=cell.in_batches(teacher.data._replace(test=None)),
        key=jax.random.key(seed),
        fixed={"teacher": teacher.variables, "start": params},
        name=f"{student}, {recipe}",
    )
    model = models.bert(its.shape, classes=max(1, tasks[task].info.classes))
    own_data = store(logits(model, trained.variables), tasks[task].data, batch_size=250)
    metric = tasks[task].metric
    score = 100 * measured(own_data, *tasks[task].measures)["test"][metric]
    both = [(teacher.model, teacher.variables), (model, trained.variables)]
    print_table(
        pd.DataFrame(
            {
                "parameters": map(setup.parameters, (own.shape, its.shape)),
                metric: np.round([teacher.quality["score"], score], 1),
                "ms": np.round(latencies(both, own.shape), 2),
            },
            ["teacher", "student"],
        ),
        f"{task}: {metric} in percent, and the latency of one text",
    )
    if save is not None:
        found = hugging_face.Pretrained(its.shape, trained.variables["params"])
        hugging_face.save(save, found, own.tokenizer)
        print(f"wrote {save}")


def usual(recipe: terms.Recipe) -> dict[str, float]:
    """The hyperparameters of a recipe, as published or of the usual size."""
    found = {"temperature": recipe.temperature, "alpha": recipe.alpha}
    return found if recipe.first else {**found, "weight": recipe.weight}


def latencies(networks: list[tuple[Model, Variables]], shape: Shape) -> np.ndarray:
    """Median milliseconds of each network for one text, in turns."""
    tokens = np.random.default_rng(0).integers(1000, shape.vocabulary, (1, LENGTH))
    tokens = tokens.astype(np.int32)
    ones, zeros = np.ones_like(tokens), np.zeros_like(tokens)
    batch = {"tokens": tokens, "mask": ones, "segments": zeros}
    apply = [partial(_timed, logits(*network), batch) for network in networks]
    times = [[each() for each in apply] for _ in range(TURNS)]
    return 1e3 * np.median(times[1:], 0)  # the first turn compiles


def _timed(apply: Callable, batch: Batch) -> float:
    began = time.perf_counter()
    jax.block_until_ready(apply(batch))
    return time.perf_counter() - began


if __name__ == "__main__":
    flags.run(distil, description=__doc__)
