"""Tasks have the sizes, labels and texts that their sources say."""

from collections import Counter

import numpy as np
import pytest

from kdjax.data import glue
from tests.published import SHARED

TFDS = SHARED.parent / "tfds"
needs_glue = pytest.mark.skipif(
    not (TFDS / "glue").is_dir(), reason="GLUE is not beside the checkout"
)
needs_subsets = pytest.mark.skipif(
    not (SHARED / "glue_subsets").is_dir(), reason="subsets are not beside the checkout"
)
SIZES = {  # of GLUE's own train and validation splits
    "cola": (8551, 1043),
    "sst2": (67349, 872),
    "mrpc": (3668, 408),
    "rte": (2490, 277),
    "stsb": (5749, 1500),
    "wnli": (635, 71),
}


@needs_glue
@pytest.mark.parametrize("task", SIZES)
def test_a_tenth_of_the_training_texts_or_a_thousand_is_for_selection(task):
    splits, info = glue.load(task, str(TFDS))
    train, test = SIZES[task]
    assert (info.train + info.validation, info.test) == (train, test)
    one_in = 67 if task == "sst2" else 10
    assert info.validation == pytest.approx(train / one_in, abs=7)
    assert info.name == task and info.version == "2.0.0"
    pair = len(glue.TASKS[task].fields) == 2
    for name, split in splits.items():
        assert len(split.first) == len(split.label) == getattr(info, name)
        assert (split.second is not None) == pair
    if task != "stsb":
        shares = [splits[n].label.mean() for n in ("train", "validation")]
        assert shares[0] == pytest.approx(shares[1], abs=0.01)
        assert splits["train"].label.dtype == np.int32 and info.classes == 2
    else:
        assert splits["train"].label.max() == 5 and info.classes == 0


@needs_glue
def test_texts_have_their_own_labels():
    splits, _ = glue.load("mrpc", str(TFDS))
    for split in splits.values():
        pairs = zip(split.first, split.second, split.label, strict=True)
        for first, second, label in pairs:
            if second.startswith("The rovers act as robotic geologists"):
                assert first.startswith("The identical rovers") and label == 0
                return
    raise AssertionError("the pair is in no split")


@needs_subsets
@pytest.mark.parametrize(
    "task, labels", [("mnli_9k", 3), ("qnli_9k", 2), ("qqp_9k", 2)]
)
def test_subsets_have_ten_thousand_pairs(task, labels, monkeypatch):
    monkeypatch.setenv("KDJAX_GLUE_SUBSETS", str(SHARED / "glue_subsets"))
    splits, info = glue.load(task)
    assert (info.train + info.validation, info.test) == (8999, 1000)
    assert info.classes == labels == len(np.unique(splits["train"].label))
    if task == "qqp_9k":
        assert splits["train"].label.mean() == pytest.approx(0.36, abs=0.01)


def test_sentences_say_the_same_or_not():
    splits, info = glue.load("sentences")
    assert (info.train, info.validation, info.test) == (230, 26, 64)
    texts = [p for s in splits.values() for p in zip(*s[:2], strict=True)]
    assert len(set(texts)) == len(texts) == 320
    labels = np.concatenate([split.label for split in splits.values()])
    assert Counter(labels.tolist()) == {0: 160, 1: 160}
    same = {name: i for i, names in enumerate(glue._WHO) for name in names}
    done = {name: i for i, names in enumerate(glue._WHAT) for name in names}
    for (first, second), label in zip(texts, labels, strict=True):
        (who, what), (other, deed) = (
            next((w, t[len(w) + 1 : -1]) for w in same if t.startswith(f"{w} "))
            for t in (first, second)
        )
        assert (same[who] == same[other] and done[what] == done[deed]) == label


def test_missing_data_say_where_they_come_from(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="task is 'mnli', but takes one of cola, sst2"):
        glue.load("mnli")
    with pytest.raises(FileNotFoundError, match="does not contain it.*sentences needs"):
        glue.load("cola", str(tmp_path))
    for task in ("qqp_9k", "sentences"):
        with pytest.raises(ValueError, match=f"but {task} is not in it"):
            glue.load(task, str(tmp_path))
    monkeypatch.setenv("KDJAX_GLUE_SUBSETS", str(tmp_path))
    says = "qqp_9k is not in .*QQP-train.json: download data/glue_pretrain/QQP/train"
    with pytest.raises(FileNotFoundError, match=says):
        glue.load("qqp_9k")
