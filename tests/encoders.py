"""A small encoder with the tokenizer of all-MiniLM-L6-v2."""

import jax
import numpy as np

from experiments.glue import setup
from kdjax import models
from kdjax.models import hugging_face
from tests.published import MINILM

SHAPE = models.Shape(30522, layers=2, width=8, heads=2, feed_forward=8, positions=64)


def small(folder):
    """Writes one to a folder, and opens it."""
    rows = np.zeros((2, 8), np.int32)
    example = {"tokens": rows, "mask": rows + 1, "segments": rows}
    params = models.bert(SHAPE).init(jax.random.key(0), example)["params"]
    tokenizer = MINILM / hugging_face.TOKENIZER
    hugging_face.save(folder, hugging_face.Pretrained(SHAPE, params), tokenizer)
    params = {n: p for n, p in params.items() if n != "classifier"}
    return setup.encoder(str(folder))._replace(params=params)
