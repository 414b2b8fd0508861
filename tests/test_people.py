"""People's answers are read only if they are those of CIFAR-10H, in its order."""

import numpy as np
import pytest

from experiments.cifar10 import people
from tests.published import SHARED, cifar10, needs_cifar10

LABELS = np.random.default_rng(0).integers(0, 10, 400)
SECOND = (LABELS + 3) % 10


def answers():
    """40 answers with the label, and 10 with another class."""
    return 40 * np.eye(10, dtype=int)[LABELS] + 10 * np.eye(10, dtype=int)[SECOND]


@pytest.fixture
def write(tmp_path, monkeypatch):
    path = tmp_path / "counts.npy"
    monkeypatch.setenv("KDJAX_CIFAR10H", str(path))
    return lambda counts: np.save(path, counts)


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_shares_are_the_answers_over_their_number(write, kind):
    counts = answers()
    counts[0, SECOND[0]] += 13  # 63 in all
    write(counts.astype(kind))
    shares = people.shares(LABELS)
    np.testing.assert_allclose(shares[1:, :].max(1), 0.8)
    rows = np.arange(len(LABELS))
    np.testing.assert_allclose(shares[rows, SECOND], [23 / 63, *[0.2] * 399])
    np.testing.assert_allclose(shares.sum(1), 1)


def test_the_file_may_lie_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("KDJAX_CIFAR10H", raising=False)
    monkeypatch.setenv("KDJAX_CACHE", str(tmp_path))
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data/cifar10h-counts.npy", answers())
    assert people.shares(LABELS).shape == (400, 10)


def test_a_missing_file_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KDJAX_CIFAR10H", str(tmp_path / "nowhere.npy"))
    says = "CIFAR-10H is not in .*nowhere.npy: download .*jcpeterson.*KDJAX_CIFAR10H"
    with pytest.raises(FileNotFoundError, match=says):
        people.shares(LABELS)


def one_too_few(counts):
    counts[7, SECOND[7]] = 6
    return counts


@pytest.mark.parametrize(
    "spoilt, says",
    [
        (lambda counts: counts[1:], r"shape \(399, 10\) and type int64"),
        (lambda counts: counts[:, :9], r"shape \(400, 9\)"),
        (lambda counts: counts / 50, "type float64, but CIFAR-10H has integers"),
        (one_too_few, "has 46 to 50 answers"),
        (lambda counts: counts + 14 * np.eye(10, dtype=int)[LABELS], "64 to 64 ans"),
        (lambda counts: counts[::-1], "is the label of .*% of the images, but of more"),
    ],
)
def test_other_answers_are_refused(write, spoilt, says):
    write(spoilt(answers()))
    with pytest.raises(ValueError, match=says):
        people.shares(LABELS)


def test_one_image_in_a_hundred_may_be_taken_for_another_class(write):
    counts = answers()
    counts[:3] = np.roll(counts[:3], 1, axis=1)
    write(counts)
    people.shares(LABELS)
    counts[3] = np.roll(counts[3], 1)
    write(counts)
    with pytest.raises(ValueError, match="99.0% of the images"):
        people.shares(LABELS)


@needs_cifar10
def test_the_published_answers_follow_the_original_order(monkeypatch):
    monkeypatch.setenv("KDJAX_CIFAR10H", str(SHARED / "cifar10/cifar10h_counts.npy"))
    _, labels = cifar10("test")
    agreed = people.shares(labels).argmax(1) == labels
    assert agreed.sum() == 9921
    with pytest.raises(ValueError, match="is the label of"):
        people.shares(np.roll(labels, 1))
