"""Sentences for the experiment on embeddings: to learn from, and to be judged on."""

from collections.abc import Mapping, Sequence
from functools import partial
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.glue import setup
from kdjax.data import Data, glue, text
from kdjax.models import Batch, Model, Outputs
from kdjax.study.statistics import rank_correlation
from kdjax.training import metrics

LONGEST = 32  # tokens of a sentence
SEED = 0  # of the sample of sentences


def as_sentences(encoder: Model) -> Model:
    """An encoder whose only features are embeddings of sentences, as are its logits."""

    def apply(variables: Any, batch: Batch, key: Any = None) -> tuple[Outputs, Any]:
        outputs, state = encoder.apply(variables, batch, key)
        mask = batch["mask"][..., None]
        mean = jnp.sum(outputs.features[-1] * mask, 1) / jnp.sum(mask, 1)
        unit = of_length_one(mean)
        return Outputs(unit, (unit,)), state

    return Model(encoder.init, apply)


def of_length_one(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


class Search(NamedTuple):
    """A task of retrieval, as places of sentences in the test split."""

    queries: np.ndarray
    answers: np.ndarray  # of each query
    candidates: np.ndarray
    same: np.ndarray  # [queries, candidates], whether a candidate is the query itself


class Sentences(NamedTuple):
    """All sentences: to train on, held-out pairs, and those to judge students on."""

    train: list[str]
    validation: list[str]  # pairs in turns
    test: list[str]
    scores: tuple[np.ndarray, np.ndarray]  # of validation and test; NaN for no pair
    searches: dict[str, Search]

    def tokens(self, own: setup.Encoder) -> Data:
        """The sentences as tokens of an encoder, in the same order for all encoders."""
        make = partial(text.tokenized, own.tokenizer, longest=LONGEST)
        validation, test = (
            {**make(texts), "score": scores}
            for texts, scores in zip(
                (self.validation, self.test), self.scores, strict=True
            )
        )
        return Data(make(self.train), validation, test)


def gathered(
    tasks: Mapping[str, dict[str, glue.Texts]],
    *,
    corpus: Sequence[str],
    count: int,
    scored: str,
    retrieved: Sequence[str],
) -> Sentences:
    """The sentences of some tasks.

    Args:
      tasks: The splits of all tasks by name.
      corpus: Tasks whose training sentences are to train on, but for those by which
        students are judged.
      count: Number of sentences to draw from these, if there are more.
      scored: Task with scores of pairs.
      retrieved: Tasks in which paraphrases are retrieved.
    """
    validation, selected = in_turns(tasks[scored]["validation"])
    test, judging = in_turns(tasks[scored]["test"])
    searches = {}
    for name in retrieved:
        searches[name], new = search(tasks[name], len(test))
        test += new
    known = {*validation, *test}
    texts = setup.distinct(tasks[name]["train"] for name in corpus)
    found = [each for each in texts if each not in known]
    drawn = np.random.default_rng(SEED).permutation(len(found))[:count]
    train = sorted((found[i] for i in drawn), key=by_length)
    none = np.full(len(test) - len(judging), np.nan, np.float32)
    scores = selected, np.concatenate([judging, none])
    return Sentences(train, validation, test, scores, searches)


def by_length(sentence: str) -> tuple[int, str]:
    """From the shortest to the longest, so that batches have little padding."""
    return len(sentence.split()), sentence


def in_turns(pairs: glue.Texts) -> tuple[list[str], np.ndarray]:
    """The sentences of pairs in turns, and each pair's score twice."""
    both = zip(pairs.first, pairs.second or [], strict=True)
    return list(itertools.chain(*both)), np.repeat(pairs.label, 2).astype(np.float32)


def search(splits: dict[str, glue.Texts], start: int) -> tuple[Search, list[str]]:
    """Paraphrases of the test split among all second sentences, and all of these.

    A query that is among the candidates is left out of its own search; other sentences
    that say the same count as wrong. Places are counted from ``start``. There is an
    even number of sentences.
    """
    test = splits["test"]
    true = np.flatnonzero(test.label == 1)
    parts = [splits[part].second or [] for part in ("test", "validation", "train")]
    candidates = sorted({*itertools.chain(*parts)}, key=by_length)
    place = {sentence: start + i for i, sentence in enumerate(candidates)}
    answers = np.array([place[parts[0][i]] for i in true])
    queries = [test.first[i] for i in true]
    own = start + len(candidates) + np.arange(len(queries))
    same = np.array(queries)[:, None] == np.array(candidates)
    sentences = candidates + queries
    sentences += sentences[-1:] * (len(sentences) % 2)
    places = start + np.arange(len(candidates))
    return Search(own, answers, places, same), sentences


def pearson() -> metrics.Measure:
    """Correlation of the cosines of pairs, which are in turns, with their scores."""
    of_scores = metrics.regression()

    def sums(student: Outputs, teacher: Any, batch: Batch) -> metrics.Sums:
        x = student.features[0]
        cosines = jnp.sum(x[::2] * x[1::2], -1)
        own = {"score": batch["score"][::2]}
        return of_scores.sums(Outputs(cosines[:, None]), None, own)

    return metrics.Measure(sums, of_scores.finish)


def judged(x: np.ndarray, sentences: Sentences) -> dict[str, float]:
    """The quality of embeddings of the test split, in percent."""
    x = np.asarray(x, np.float32)
    scores = sentences.scores[1]
    pairs = ~np.isnan(scores)
    cosines = (x[pairs][::2] * x[pairs][1::2]).sum(1)
    found = {"spearman": float(rank_correlation(cosines, scores[pairs][::2]))}
    for name, each in sentences.searches.items():
        similar = x[each.queries] @ x[each.candidates].T
        own = (x[each.queries] * x[each.answers]).sum(1, keepdims=True)
        # Not less: equal or NaN embeddings find nothing. The answer itself is one.
        before = (~(similar < own - 1e-6) & ~each.same).sum(1) - 1
        for k in (1, 10):
            found[f"recall{k}_{name}"] = float(np.mean(before < k))
    return {name: 100 * value for name, value in found.items()}
