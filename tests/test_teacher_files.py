"""A teacher's outputs on disk: right, resumed, rounded by what is said, and mapped."""

from functools import partial
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data import Data, text
from kdjax.losses import forward_kl
from kdjax.models import Outputs
from kdjax.training import teacher_files, views
from kdjax.training.teacher_files import store_on_disk

RNG = np.random.default_rng(0)
VARIABLES = {"params": RNG.normal(size=(12, 3)).astype(np.float32), "state": {}}


class Linear:
    """A teacher whose logits tell all pixels that it saw."""

    @staticmethod
    def init(key, batch):
        return VARIABLES

    @staticmethod
    def apply(variables, batch, key=None):
        flat = batch["image"].reshape(len(batch["image"]), -1)
        return Outputs(flat @ variables["params"], features=(batch["image"],)), {}


def split(count):
    image = RNG.normal(size=(count, 2, 2, 3)).astype(np.float32)
    return {"image": image, "label": np.zeros(count, np.int32)}


DATA = Data(split(23), split(7), None)
VIEWS = (lambda x: x, lambda x: x[:, :, ::-1], lambda x: x[:, ::-1])
everything = partial(store_on_disk, Linear, VARIABLES, DATA, batch_size=5)


def expected(images):
    return images.reshape(len(images), -1) @ VARIABLES["params"]


def test_outputs_are_those_of_every_view_and_split(tmp_path):
    stored, facts = everything(
        keep=lambda outputs: outputs, views=VIEWS, directory=tmp_path
    )
    teacher = stored.train["teacher"]
    assert teacher.logits.shape == (23, 3, 3) and teacher.logits.dtype == np.float16
    for i, view in enumerate(VIEWS):
        seen = view(DATA.train["image"])
        np.testing.assert_allclose(teacher.logits[:, i], expected(seen), atol=5e-3)
        np.testing.assert_allclose(teacher.features[0][:, i], seen, atol=5e-3)
    logits = stored.validation["teacher"].logits
    np.testing.assert_allclose(logits, expected(DATA.validation["image"]), atol=5e-3)
    assert stored.test is None and stored.train["label"] is DATA.train["label"]
    assert isinstance(teacher.logits, np.memmap) and not teacher.logits.flags.writeable


def test_the_loss_of_rounding_is_what_it_says(tmp_path):
    stored, facts = everything(directory=tmp_path)
    exact = [expected(s["image"]) for s in (DATA.train, DATA.validation)]
    errors = [np.abs(x - x.astype(np.float16).astype(np.float32)).max() for x in exact]
    np.testing.assert_allclose(facts["logit_error"], max(errors), rtol=1e-3)
    assert facts["type"] == "float16" and 0 <= facts["mean_kl"] < 1e-5
    assert stored.train["teacher"].features == ()


def test_student_and_teacher_see_the_same_pixels(tmp_path):
    stored, _ = everything(views=VIEWS, directory=tmp_path)
    batch = {
        "image": jnp.asarray(stored.train["image"]),
        "teacher": jax.tree.map(jnp.asarray, stored.train["teacher"]),
    }
    seen = views.of_stored(VIEWS)(jax.random.key(0), batch, None, None)
    np.testing.assert_allclose(
        seen["teacher"].logits, expected(np.asarray(seen["image"])), atol=5e-3
    )
    assert not np.array_equal(seen["image"], batch["image"])


def test_an_interrupted_call_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    whole, _ = everything(views=VIEWS, directory=tmp_path / "whole")
    monkeypatch.setattr(teacher_files, "_FLUSH", 1)
    flush, seen = teacher_files._flush, []

    def stop_after_two(folder, arrays, record):
        flush(folder, arrays, record)
        seen.append(record["rows"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(teacher_files, "_flush", stop_after_two)
    directory = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        everything(views=VIEWS, directory=directory)
    stored, facts = everything(views=VIEWS, directory=directory)
    assert seen[:5] == [5, 10, 15, 20, 23]
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(stored), strict=True):
        np.testing.assert_array_equal(a, b)
    again, later = everything(views=VIEWS, directory=directory)  # computes nothing
    assert len(seen) == 7 and later == facts


def test_another_teacher_view_or_image_has_files_of_its_own(tmp_path):
    everything(directory=tmp_path)
    folders = set(tmp_path.glob("*/record.json"))
    assert len(folders) == 2  # train and validation
    other = {**VARIABLES, "params": VARIABLES["params"] + 1}
    store_on_disk(Linear, other, Data(DATA.train), directory=tmp_path, batch_size=5)
    everything(views=VIEWS, directory=tmp_path)
    assert len(set(tmp_path.glob("*/record.json"))) == 4


def test_damaged_files_are_computed_again(tmp_path, capsys):
    stored, _ = everything(directory=tmp_path)
    kept = np.array(stored.train["teacher"].logits)
    for path in tmp_path.glob("*/0.npy"):
        path.write_bytes(path.read_bytes()[:60])
    again, _ = everything(directory=tmp_path)
    np.testing.assert_array_equal(again.train["teacher"].logits, kept)
    assert "damaged outputs" in capsys.readouterr().err
    for path in tmp_path.glob("*/record.json"):
        assert json.loads(path.read_text())["rows"] in (23, 7)


def test_files_that_are_computed_again_count_for_nothing_before(tmp_path, monkeypatch):
    stored, _ = everything(directory=tmp_path)
    kept = np.array(stored.train["teacher"].logits)
    for path in tmp_path.glob("*/0.npy"):
        path.unlink()  # but the record says that all rows are there

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(teacher_files, "_rounded_outputs", killed)
        everything(directory=tmp_path)
    again, _ = everything(directory=tmp_path)
    np.testing.assert_array_equal(again.train["teacher"].logits, kept)


def test_a_teacher_is_no_constant_of_its_program(tmp_path, monkeypatch):
    texts = []

    def mark(programs, *given):
        texts.extend(program.as_text() for program in programs)
        return "mark"

    monkeypatch.setattr(teacher_files.checkpoint, "fingerprint", mark)
    everything(directory=tmp_path)
    assert texts and all("@main(%arg0: tensor<12x3xf32>" in text for text in texts)


def test_teachers_that_read_other_arrays_have_files_of_their_own(tmp_path):
    def found(name):
        class Reads(Linear):
            @staticmethod
            def apply(variables, batch, key=None):
                return Outputs(batch[name] @ variables["params"]), {}

        arrays = {n: np.full((5, 12), v, np.float32) for n, v in (("a", 1), ("b", 2))}
        data, _ = store_on_disk(Reads, VARIABLES, Data(arrays), directory=tmp_path)
        return data.train["teacher"].logits

    np.testing.assert_allclose(2 * found("a"), found("b"), rtol=1e-2)


def test_facts_are_of_each_token_and_tell_nan(tmp_path):
    class Tokens(Linear):
        @staticmethod
        def apply(variables, batch, key=None):
            return Outputs(100 * batch["image"].reshape(len(batch["image"]), 4, 3)), {}

    _, facts = store_on_disk(Tokens, VARIABLES, DATA, batch_size=5, directory=tmp_path)
    exact = 100 * DATA.train["image"].reshape(-1, 3)
    rounded = exact.astype(np.float16).astype(np.float32)
    kl = float(forward_kl(rounded, exact).mean())
    assert kl > 0 and facts["mean_kl"] == pytest.approx(kl, rel=1e-3)
    image = DATA.train["image"].copy()
    image[3] = np.nan
    data = Data({**DATA.train, "image": image}, DATA.validation)
    given = Tokens, VARIABLES, data
    _, facts = store_on_disk(*given, batch_size=5, directory=tmp_path)
    assert np.isnan(facts["logit_error"]) and np.isnan(facts["mean_kl"])


def test_a_stream_is_refused_by_name():
    with pytest.raises(TypeError, match="train is list, but takes arrays by name"):
        store_on_disk(Linear, VARIABLES, Data([1, 2]))


def test_a_cut_batch_has_the_outputs_of_the_whole(tmp_path):
    seen = []

    class Mean(Linear):
        @staticmethod
        def apply(variables, batch, key=None):
            seen.append(batch["tokens"].shape)
            total = (batch["tokens"] * batch["mask"]).sum(1, keepdims=True)
            return Outputs(total / batch["mask"].sum(1, keepdims=True)), {}

    lengths = np.array([3, 4, 9, 12])
    mask = (np.arange(20) < lengths[:, None]).astype(np.int32)
    split = {
        "tokens": np.full((4, 20), 7, np.int32),
        "mask": mask,
        "segments": 0 * mask,
    }
    split["tokens"][mask == 0] = 0
    data = Data({**split, "label": np.arange(4)})
    stored, _ = store_on_disk(
        Mean, VARIABLES, data, cut=text.cut, batch_size=2, directory=tmp_path
    )
    np.testing.assert_array_equal(stored.train["teacher"].logits, np.full((4, 1), 7))
    assert {(2, 8), (2, 16)} <= set(seen) and stored.train["label"] is data.train[
        "label"
    ]
