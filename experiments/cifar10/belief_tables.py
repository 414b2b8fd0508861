"""Tables that compare the beliefs of networks with people's, or with a teacher's."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.cifar10 import beliefs
from kdjax.models import Batch
from kdjax.study.arms import labelled
from kdjax.study.statistics import bootstrap, estimate, estimates_table

FIXED = 4.0  # the temperature of distillation in claims and figures
NETWORK = ("arm", "teacher", "temperature", "seed")
DRAWS = 1000  # of the test images, for the intervals of teachers


class Network(NamedTuple):
    """A trained network and its outputs for the test images."""

    columns: dict[str, Any]  # the values of `NETWORK`
    logits: np.ndarray
    fitted: np.ndarray  # its best temperature for each image, see `beliefs.fitted`

    @property
    def beliefs(self) -> np.ndarray:
        """Its beliefs at its own best temperature."""
        return beliefs.softened(self.logits, self.fitted)


class Compared(NamedTuple):
    """Networks and the reference that they are compared with."""

    reference: str  # "people", or the name of a teacher
    shares: np.ndarray  # what the reference believes of the test images
    labels: np.ndarray
    temperatures: Sequence[float]  # at which the networks are evaluated
    networks: list[Network]

    @property
    def teachers(self) -> list[Network]:
        return [each for each in self.networks if each.columns["arm"] == "teacher"]

    def means(self) -> dict[str, np.ndarray]:
        """The beliefs of the last teacher, and the means over seeds of its students."""
        teacher = self.teachers[-1]
        name = teacher.columns["teacher"]
        own: dict[str, list[np.ndarray]] = {"teacher": [teacher.beliefs]}
        own |= {"distilled": [], "hard": []}
        for each in self.networks:
            arm, taught_by, temperature, _ = (each.columns[n] for n in NETWORK)
            if arm == "hard":
                own["hard"].append(each.beliefs)
            elif (arm, taught_by, temperature) == ("kl", name, FIXED):
                own["distilled"].append(each.beliefs)
        return {kind: np.mean(each, 0) for kind, each in own.items()}


def compare(
    reference: str,
    shares: np.ndarray,
    labels: np.ndarray,
    temperatures: Sequence[float],
    networks: Iterable[tuple[Mapping[str, Any], np.ndarray]],
) -> Compared:
    """Fits the temperature of each network, given its columns and its logits."""
    known = []
    for columns, logits in networks:
        logits = np.asarray(logits, float)
        own = {name: columns.get(name) for name in NETWORK}
        known.append(Network(own, logits, beliefs.fitted(shares, logits, temperatures)))
    return Compared(reference, shares, labels, temperatures, known)


def nearer(all_of: Compared) -> dict[str, int]:
    """Of the images on which people disagree, how many each student is nearer to."""
    among = beliefs.disagree(all_of.shares)
    distances = {
        name: beliefs.distance(all_of.shares, each)[among]
        for name, each in all_of.means().items()
    }
    hard, distilled = distances["hard"], distances["distilled"]
    return {
        "images": int(among.sum()),
        "distilled": int(np.sum(distilled < hard)),
        "hard": int(np.sum(hard < distilled)),
    }


def by_temperature(all_of: Compared) -> pd.DataFrame:
    """One row per network and temperature, and one at its own best, ``fitted``."""
    rows = []
    for network in all_of.networks:
        predicted = network.logits.argmax(-1)
        columns = network.columns | {
            "reference": all_of.reference,
            "accuracy": np.mean(predicted == all_of.labels),
            "second": beliefs.same_second(all_of.shares, network.logits),
        }
        for t in all_of.temperatures:
            own = {"fitted": False, "evaluated_at": t}
            found = _measured(all_of, beliefs.softened(network.logits, t))
            rows.append(columns | own | found)
        best = {"fitted": True, "evaluated_at": network.fitted.mean()}
        rows.append(columns | best | _measured(all_of, network.beliefs))
    return pd.DataFrame(rows)


def _measured(all_of: Compared, softened: np.ndarray) -> dict[str, float]:
    shares, labels = all_of.shares, all_of.labels
    return {
        "kl": beliefs.kl(shares, softened).mean(),
        "entropy": beliefs.entropy_correlation(shares, softened),
        "confusions": beliefs.confusion_correlation(shares, softened, labels),
    }


def both_right(all_of: Compared) -> pd.DataFrame:
    """Students and that of hard labels of their seed, where both are right."""
    shares, labels = all_of.shares, all_of.labels
    hard = {
        each.columns["seed"]: each
        for each in all_of.networks
        if each.columns["arm"] == "hard"
    }
    rows = []
    for student in all_of.networks:
        if student.columns["arm"] in ("hard", "teacher"):
            continue
        pair = {"": student, "_hard": hard[student.columns["seed"]]}
        right = np.all([p.logits.argmax(-1) == labels for p in pair.values()], 0)
        row = student.columns | {"reference": all_of.reference, "images": right.sum()}
        for name, each in pair.items():
            there = shares[right], each.beliefs[right]
            row[f"confusions{name}"] = beliefs.confusion_correlation(
                *there, labels[right]
            )
            row[f"second{name}"] = beliefs.same_second(*there)
        rows.append(row)
    return pd.DataFrame(rows)


def confusions(all_of: Compared) -> pd.DataFrame:
    """The confusions of people and of each network, one row per class of the images."""
    known = [({"arm": "reference", "seed": 0}, all_of.shares)]
    known += [(each.columns, each.beliefs) for each in all_of.networks]
    parts = []
    for columns, each in known:
        matrix = beliefs.confusions(each, all_of.labels)
        names = [f"class{c}" for c in range(len(matrix))]
        table = pd.DataFrame(matrix, columns=names).rename_axis("label").reset_index()
        own = {name: columns.get(name) for name in NETWORK}
        parts.append(labelled(table, own | {"reference": all_of.reference}))
    return pd.concat(parts, ignore_index=True)


def of_teachers(all_of: Compared) -> pd.DataFrame:
    """Estimates for each teacher, which is one network, over test images."""
    shares, labels = all_of.shares, all_of.labels
    images = pd.DataFrame({"seed": np.arange(len(labels))})  # images are resampled
    higher = [t for t in all_of.temperatures if t > 1]
    found = {}
    for teacher in all_of.teachers:
        name, logits = teacher.columns["teacher"], teacher.logits
        correlation = partial(_correlation, shares, teacher.beliefs, labels)
        found[name, "confusions"] = bootstrap(correlation, images, draws=DRAWS)
        best = beliefs.fitted(shares, logits, higher)
        kls = [beliefs.kl(shares, beliefs.softened(logits, t)) for t in (1.0, best)]
        found[name, "softening"] = estimate(kls[0] - kls[1])
    table = estimates_table(found, ["teacher", "statistic"])
    return labelled(table, {"reference": all_of.reference})


def _correlation(
    shares: np.ndarray, own: np.ndarray, labels: np.ndarray, images: pd.DataFrame
) -> float:
    rows = images.index
    return beliefs.confusion_correlation(shares[rows], own[rows], labels[rows])


def pictures(all_of: Compared, test: Batch, count: int) -> pd.DataFrame:
    """The most telling test images: everyone's beliefs, and the pixels."""
    known = {"reference": all_of.shares} | all_of.means()
    rows = beliefs.telling(*known.values(), all_of.labels, count=count)
    flat = test["image"].reshape(len(all_of.labels), -1)
    pixels = np.round(255 * flat[rows]).astype(int)
    columns: dict[str, Any] = {"label": all_of.labels[rows], "test_index": rows}
    for name, each in known.items():
        columns |= {f"{name}{c}": column for c, column in enumerate(each[rows].T)}
    columns |= {f"pixel{i}": column for i, column in enumerate(pixels.T)}
    return pd.DataFrame(columns)
