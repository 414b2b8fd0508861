"""Tasks of GLUE, labelled subsets of three more, and sentences without a download.

GLUE's test sets have no labels. So a tenth of the training split, or of a large one
about 1,000 texts, is held out as ``validation``, for selection, and GLUE's validation
split is the ``test`` split here.
"""

from importlib import import_module
import itertools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax import files, progress
from kdjax.data import prepared
from kdjax.data.splits import every
from kdjax.data.types import Info

HELD_OUT = 10  # one in ten training texts is for selection,
MOST_HELD_OUT = 1000  # or about as many of a large task


class Texts(NamedTuple):
    """Texts, or pairs of them, with labels."""

    first: list[str]
    second: list[str] | None
    label: np.ndarray  # [N], int32 classes, or float32 scores from 0 to 5

    def at(self, rows: np.ndarray) -> "Texts":
        """The texts in these places, or of this mask."""
        places = np.arange(len(self.label))[rows]
        second = None if self.second is None else [self.second[i] for i in places]
        return Texts([self.first[i] for i in places], second, self.label[places])


class Task(NamedTuple):
    """What a task asks for."""

    fields: tuple[str, ...]  # of its texts
    classes: int  # 0: a score
    metric: str  # by which settings are selected: of GLUE's table, but no F1
    labels: tuple[str, ...] = ()  # where they are words


_PAIR = ("sentence1", "sentence2")
_SUBSET = ("text_a", "text_b")
TASKS = {
    "cola": Task(("sentence",), 2, "matthews"),
    "sst2": Task(("sentence",), 2, "accuracy"),
    "mrpc": Task(_PAIR, 2, "accuracy"),
    "rte": Task(_PAIR, 2, "accuracy"),
    "stsb": Task(_PAIR, 0, "pearson"),
    "wnli": Task(_PAIR, 2, "accuracy"),
    "mnli_9k": Task(_SUBSET, 3, "accuracy", ("entailment", "neutral", "contradiction")),
    "qnli_9k": Task(_SUBSET, 2, "accuracy", ("entailment", "not_entailment")),
    "qqp_9k": Task(_SUBSET, 2, "accuracy", ("0", "1")),
    "sentences": Task(_PAIR, 2, "accuracy"),
}


PREPARED = ("cola", "sst2", "mrpc", "rte", "stsb", "wnli")  # by tensorflow-datasets


def load(task: str, data_dir: str | None = None) -> tuple[dict[str, Texts], Info]:
    """Loads the splits ``train``, ``validation`` and ``test`` of a task.

    Args:
      task: ``cola``, ``sst2``, ``mrpc``, ``rte``, ``stsb`` or ``wnli`` of GLUE;
        ``mnli_9k``, ``qnli_9k`` or ``qqp_9k``, which are labelled subsets of 10,000
        pairs and not GLUE's own; or ``sentences``, 320 pairs in simple words, which
        need no download and say the same or not.
      data_dir: A directory prepared by tensorflow-datasets, for GLUE's own tasks. By
        default its own is used, and the data are downloaded if necessary.

    Raises:
      ValueError: if the task is unknown, or a data_dir is given and not used.
      FileNotFoundError: if the data are missing and cannot be downloaded, saying where
        they come from.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, but takes one of {', '.join(TASKS)}")
    if task not in PREPARED and data_dir is not None:
        raise ValueError(f"data_dir is {data_dir!r}, but {task} is not in it")
    if task == "sentences":
        version, train, test = "1", *_sentences()
    elif task not in PREPARED:
        version = "9k"
        train, test = (_subset(task, part) for part in ("train", "dev"))
    else:
        version, train, test = _glue(task, data_dir)
    one_in = max(HELD_OUT, len(train.label) // MOST_HELD_OUT)
    held_out = every(one_in, np.round(train.label))
    splits = {"train": train.at(~held_out), "validation": train.at(held_out)}
    splits["test"] = test
    sizes = [len(split.label) for split in splits.values()]
    return splits, Info(task, version, TASKS[task].classes, *sizes)


def _glue(task: str, data_dir: str | None) -> tuple[str, Texts, Texts]:
    import_module("tensorflow_datasets.text.glue")  # which its index leaves out
    builder = prepared.builder(f"glue/{task}", data_dir, instead="sentences")
    train, test = (_rows(builder, task, split) for split in ("train", "validation"))
    return str(builder.info.version), train, test


def _rows(builder: Any, task: str, split: str) -> Texts:
    """A split in its original order; it is decoded once."""
    stamp = Path(builder.data_path, "dataset_info.json").read_bytes()
    name = f"glue-{task}-{split}-{files.fingerprint(stamp.hex())}.json"
    path = files.cache("data") / name
    if not path.is_file():
        source = builder.as_data_source(split=split)
        count = progress.track(range(len(source)), f"decoding {task} {split}, once")
        rows = sorted((source[i] for i in count), key=lambda row: row["idx"])
        columns = [[r[f].decode() for r in rows] for f in TASKS[task].fields]
        with files.atomic(path) as temporary:
            temporary.write_text(
                json.dumps([columns, [float(row["label"]) for row in rows]])
            )
    columns, label = json.loads(path.read_text())
    kind = np.int32 if TASKS[task].classes else np.float32
    second = columns[1] if len(columns) > 1 else None
    return Texts(columns[0], second, np.array(label, kind))


def _subset(task: str, part: str) -> Texts:
    root = Path(os.environ.get("KDJAX_GLUE_SUBSETS") or files.cache("data"))
    name = task.removesuffix("_9k").upper()
    path = root / f"{name}-{part}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{task} is not in {path}: download data/glue_pretrain/{name}/{part}.json "
            f"of github.com/ZhengxiangShi/PowerfulPromptFT as {path.name} to a folder, "
            f"and set KDJAX_GLUE_SUBSETS to it"
        )
    rows = list(json.loads(path.read_text()).values())
    first, second = ([row[name] for row in rows] for name in _SUBSET)
    words = TASKS[task].labels
    label = np.array([words.index(row["label"]) for row in rows], np.int32)
    return Texts(first, second, label)


# Who does what, each in two ways.
_WHO = (
    ("A boy", "A young lad"),
    ("The teacher", "The woman who teaches"),
    ("A farmer", "A man with a farm"),
    ("The nurse", "A hospital nurse"),
    ("An old sailor", "A sailor of great age"),
    ("The cook", "The chef"),
    ("A painter", "An artist"),
    ("The doctor", "A physician"),
)
_WHAT = (
    ("is eating an apple", "eats a piece of fruit"),
    ("is reading a book", "looks through a novel"),
    ("rides a bicycle to town", "cycles into the city"),
    ("sleeps under a tree", "is napping in the shade of a tree"),
    ("sings a sad song", "is singing something sorrowful"),
    ("bought a new coat", "has purchased a coat"),
    ("runs along the beach", "is jogging by the sea"),
    ("writes a letter to a friend", "is writing to somebody dear"),
    ("closed the window", "shut the window"),
    ("is cooking soup", "makes a pot of broth"),
)


def _sentences() -> tuple[Texts, Texts]:
    """Pairs that say the same in other words, and as many that do not."""
    who, what = range(len(_WHO)), range(len(_WHAT))
    rows = []
    for i, j in itertools.product(who, what):
        one = f"{_WHO[i][0]} {_WHAT[j][0]}."
        rows.append((one, f"{_WHO[i][1]} {_WHAT[j][1]}.", 1))
        rows.append((f"{_WHO[i][1]} {_WHAT[j][0]}.", f"{_WHO[i][0]} {_WHAT[j][1]}.", 1))
        rows.append((one, f"{_WHO[i][1]} {_WHAT[(j + i + 1) % len(what)][1]}.", 0))
        rows.append((one, f"{_WHO[(i + 1 + j % 7) % len(who)][1]} {_WHAT[j][1]}.", 0))
    label = np.array([row[2] for row in rows], np.int32)
    every_pair = Texts([row[0] for row in rows], [row[1] for row in rows], label)
    test = every(5, label)
    return every_pair.at(~test), every_pair.at(test)
