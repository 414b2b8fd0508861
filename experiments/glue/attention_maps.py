"""Where the last layers of teacher and students look in one text of each task."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd

from experiments.glue import setup, teachers
from kdjax.data import Data, text
from kdjax.models import Model, Variables
from kdjax.study.arms import Arm, Tuned
from kdjax.units import Extras

TOKENS = 12  # of the text that is shown, or nearly


def shown(task: setup.Task) -> tuple[int, int]:
    """The first test text with the number of tokens nearest to `TOKENS`, and this."""
    lengths = text.lengths_of(task.data.test)
    row = int(np.argmin(abs(lengths - TOKENS)))
    return row, int(lengths[row])


def extras(model: Model, task: setup.Task) -> Extras:
    """``extras`` of an arm: attention ``[L, L]`` in this text, mean over heads.

    Of tasks with scores also the predictions for all test texts: a rank correlation is
    no mean over texts.
    """
    return partial(_extras, model, *shown(task), task.info.classes == 0)


def _extras(
    model: Model, row: int, length: int, scores: bool, variables: Variables, data: Data
) -> dict[str, jax.Array]:
    batch = {n: data.test[n][row : row + 1, :length] for n in text.TOKEN_ARRAYS}
    last = model.apply(variables, batch)[0].attention[-1][0]
    found = {"attention": jax.nn.softmax(last, -1).mean(0)}
    if scores:
        found["test"] = model.apply(variables, data.test)[0].logits
    return found


def table(
    found: Iterable[tuple[Arm, Tuned]],
    tasks: Mapping[str, setup.Task],
    taught: Mapping[str, teachers.Teacher],
    own: setup.Encoder,
) -> pd.DataFrame:
    """One row for each pair of tokens: of the teacher, and of each arm's first seed."""
    from tokenizers import Tokenizer

    opened = Tokenizer.from_file(str(own.tokenizer))
    rows = []

    def add(weights: Any, **columns: Any) -> None:
        task = tasks[columns["task"]]
        row, length = shown(task)
        tokens = [opened.id_to_token(i) for i in task.data.test["tokens"][row, :length]]
        query, key = np.indices((length, length)).reshape(2, -1)
        names = {"query": query, "key": key, "token": np.array(tokens)[key]}
        rows.append(
            pd.DataFrame({**names, "weight": np.ravel(weights)}).assign(**columns)
        )

    for name, its in taught.items():
        task = tasks[name]
        its_own = _extras(its.model, *shown(task), False, its.variables, task.data)
        add(its_own["attention"], task=name, arm="teacher", student="", start="")
    for arm, each in found:
        columns = {n: arm.columns[n] for n in ("task", "arm", "student", "start")}
        add(each.extras["attention"][0], **columns)
    return pd.concat(rows, ignore_index=True)
