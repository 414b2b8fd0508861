"""Shares of the training texts, larger students, and what is claimed of both."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.glue import data_fraction, larger_students
from experiments.glue.students import WIDE
from kdjax.data import Data, Info
from kdjax.models import Outputs

ARMS = ["fine_tuning", "hinton", *data_fraction.Config().recipes]
ALONE = ["alone", "alone_reworded"]


def test_a_share_has_all_classes_and_what_the_teacher_says_of_its_texts():
    label = np.repeat([0, 1], [100, 300])
    train = {"label": label, "teacher": Outputs(np.arange(400.0)[:, None])}
    its = SimpleNamespace(data=Data(train), _replace=lambda data: data)
    info = Info("sst2", "1", 2, 400, 0, 0)
    task = SimpleNamespace(info=info, _replace=lambda **fields: fields)
    found, data = data_fraction.part(task, its, 0.1)
    assert found["info"].train == 40 and found["data"] is data
    assert np.bincount(data.train["label"]).tolist() == [10, 30]
    rows = data.train["teacher"].logits[:, 0].astype(int)
    np.testing.assert_array_equal(label[rows], data.train["label"])
    with pytest.raises(ValueError, match="tasks is .* but takes one"):
        data_fraction.Config(tasks=("sst2", "cola"))
    with pytest.raises(ValueError, match="students is .* but takes narrow ones"):
        data_fraction.Config(students=(WIDE,))
    with pytest.raises(ValueError, match="copies is -1, but takes no negative"):
        data_fraction.Config(copies=-1)


def runs(scores):
    """One row per arm, share and seed, with ``scores[share][arm]`` plus the seed."""
    rows = [
        {"arm": arm, "start": "minilm", "fraction": share, "seed": seed}
        | {"score": score + seed}
        for share, each in scores.items()
        for arm, score in zip(ARMS + ALONE, each, strict=False)
        for seed in range(3)
    ]
    other = [{**row, "start": "none", "score": 0.0} for row in rows]
    return pd.DataFrame([*rows, *other])


def test_gains_and_orders_are_those_of_the_shares():
    few, some, every = (
        [50, 60, 65, 70, 75, 80, 61, 64],
        [1] * 6,
        [90, 91, 85, 80, 75, 70],
    )
    table = runs({0.01: few, 0.1: some, 1.0: every})
    np.testing.assert_allclose(data_fraction.more_with_few(table), [9] * 3)
    np.testing.assert_allclose(data_fraction.reworded(table), [3] * 3)
    assert data_fraction.order(table).value == pytest.approx(-0.942857, abs=1e-6)
    same = runs({0.01: few, 1.0: few})
    assert data_fraction.order(same).value == pytest.approx(1)


def test_larger_students_are_compared_with_their_own_start():
    scores = {
        (WIDE, "layers", "fine_tuning"): 70,
        (WIDE, "layers", "hinton"): 72,
        ("4x192", "minilm", "fine_tuning"): 60,
        ("4x192", "minilm", "hinton"): 59,
        ("4x192", "none", "hinton"): 10,
    }
    table = pd.DataFrame(
        [
            {"student": student, "start": start, "arm": arm, "seed": seed}
            | {"task": task, "score": score + seed + extra, "teacher_score": 80.0}
            for (student, start, arm), score in scores.items()
            for task, extra in (("mrpc", 0), ("stsb", 4))
            for seed in range(2)
        ]
    )
    kept, narrow, wide = (
        larger_students.CLAIMS[name].measure(table)
        for name in ("kept", "gain_4x192", f"gain_{WIDE}")
    )
    np.testing.assert_allclose(kept, [74 / 80, 75 / 80])
    np.testing.assert_allclose([narrow, wide], [[-1, -1], [2, 2]])
