"""Stories are read and tokenised, and students of them compared as papers do."""

from dataclasses import replace
from functools import partial
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.language import (
    size_equivalence,
    sparse_teachers,
    stories,
    temperature_vocabulary,
)
from kdjax import losses
from kdjax.data import Data, glue, language
from kdjax.data import stories as tiny
from kdjax.models import Outputs
from kdjax.study import claims
from tests.published import SHARED

FILE = Path(os.environ.get("KDJAX_TINYSTORIES", SHARED / "text/tinystories/sample.txt"))
needs_stories = pytest.mark.skipif(not FILE.is_file(), reason="needs KDJAX_TINYSTORIES")
RNG = np.random.default_rng(0)


@needs_stories
def test_stories_are_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("KDJAX_TINYSTORIES", str(FILE))
    splits, info = tiny.load()
    assert (info.train, info.validation, info.test) == (1854, 231, 231)
    assert splits["train"][0].startswith("One day, a little girl named Lily found")
    every = [story for split in splits.values() for story in split]
    assert all("<|" not in story and story == story.strip() for story in every)
    (cut := tmp_path / "cut.txt").write_bytes(FILE.read_bytes()[:9999])
    monkeypatch.setenv("KDJAX_TINYSTORIES", str(cut))
    with pytest.raises(ValueError, match=r"cut.txt has \d+ stories.* takes 2316"):
        tiny.load()


def test_a_user_is_told_where_the_stories_come_from(monkeypatch, tmp_path):
    monkeypatch.setenv("KDJAX_TINYSTORIES", str(tmp_path / "none.txt"))
    with pytest.raises(FileNotFoundError, match="none.txt: download TinyStories-train"):
        tiny.load()


def test_characters_are_tokens_and_rare_ones_are_one():
    tokenizer = language.characters(["aab\nab ", "a?"], 5, ["<end>"])
    ids = tokenizer.encode("ab\nz<end>A").ids
    assert tokenizer.get_vocab_size() == 5
    assert ids == [1, 2, 3, 4, 0, 4]  # the new line comes before other single ones
    assert tokenizer.decode(tokenizer.encode("ab ba").ids) == "ab\ufffdba"
    frequent = language.characters(["a|||b\ufffd\ufffd"], 4, ["|"])
    assert frequent.get_vocab_size() == 4
    assert frequent.encode("|ab\ufffd").ids == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="vocabulary is 2, but takes at least 3"):
        language.characters(["ab"], 2, ["<end>"])
    with pytest.raises(ValueError, match="vocabulary is 9, .* only 2 different"):
        language.characters(["ab"], 9, ["<end>"])


@pytest.fixture(scope="module")
def task():
    splits, _ = glue.load("sentences")
    texts = {name: each.first + each.second for name, each in splits.items()}
    return stories.task(texts, 24, {"validation": 20, "test": 20})


def test_epochs_are_equal_and_make_the_steps(task):
    rows = len(task.data.train["tokens"])
    each = rows // stories.BATCH_SIZE
    assert each >= 4 and task.data.test["tokens"].shape == (20, stories.LENGTH)
    for steps, share, epochs in ((3 * each, 1.0, 3), (2, 1.0, 1), (each + 1, 1.0, 2)):
        found, data = task.divided(steps, share)
        assert found == epochs
        count = len(data.train["tokens"])
        assert count == steps // epochs * stories.BATCH_SIZE <= rows
    few = int(0.5 * rows) // stories.BATCH_SIZE
    epochs, data = task.divided(each, share=0.5)
    assert epochs == -(-each // few)
    assert len(data.train["tokens"]) <= few * stories.BATCH_SIZE


def logits(*shape):
    return jnp.asarray(2 * RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("way", ["renormalised", "raw", "tail"])
def test_with_all_tokens_a_part_is_the_whole(way):
    loss = getattr(sparse_teachers, way)
    s, t = logits(3, 7), logits(3, 7)
    found = loss(7, s, t)
    np.testing.assert_allclose(found, losses.forward_kl(s, t), rtol=1e-5)


def test_gradients_are_those_of_the_part_that_is_kept():
    s, t = logits(7), jnp.log(jnp.array([0.4, 0.3, 0.1, 0.08, 0.06, 0.05, 0.01]))
    q, p = jax.nn.softmax(s), jax.nn.softmax(t)
    kept = jnp.arange(7) < 2

    def gradient(loss):
        return jax.jit(jax.grad(lambda z: loss(2, z, t)))(s)

    part = jnp.where(kept, p, 0)
    expected = {
        "renormalised": q - part / 0.7,
        "raw": 0.7 * q - part,  # papers: biased towards the renormalised one
        "tail": jnp.where(kept, q - p, q - 0.3 * q / jnp.sum(q, where=~kept)),
    }
    for way, each in expected.items():
        found = gradient(getattr(sparse_teachers, way))
        np.testing.assert_allclose(found, each, atol=1e-6)


def test_drawn_tokens_are_other_ones_for_each_text_and_right_on_average():
    s, t = logits(1, 4, 6), logits(1, 4, 6)
    many = 4000
    label = np.tile(np.array([[0, 1, 2, -1]]), (many, 1))
    batch = {"tokens": label, "label": label}
    batch = sparse_teachers.seeded(jax.random.key(0), batch, None, None)
    assert len(np.unique(batch["seed"])) > many - 5
    both = (Outputs(jnp.tile(z, (many, 1, 1))) for z in (s, t))
    found = jax.jit(partial(sparse_teachers.sampled, draws=5))(*both, batch)
    expected = losses.forward_kl(s, t)[0, :3].mean()
    assert np.std(found) > 0.01
    error = np.std(found) / many**0.5
    np.testing.assert_allclose(np.mean(found), expected, atol=4 * error)


def test_the_true_token_and_a_part_are_half_each():
    s, t, labels = logits(3, 7), logits(3, 7), jnp.array([0, 1, 6])
    found = sparse_teachers.mixed(2, s, t, labels)
    each = losses.cross_entropy(s, labels), sparse_teachers.tail(2, s, t)
    np.testing.assert_allclose(found, sum(each) / 2, rtol=1e-6)


def test_overconfidence_is_of_the_places_that_are_predicted(task):
    rows = {n: np.array(array[:3]) for n, array in task.data.test.items()}
    rows["label"][0, :10] = -1
    z = logits(3, stories.LENGTH, 9)

    def apply(variables, batch):
        at = jnp.argmax((rows["tokens"] == batch["tokens"]).all(-1))
        return Outputs(z[at][None]), {}

    model = stories.models.Model(None, apply)
    found = sparse_teachers.overconfidence(model, {}, Data(None, rows, rows))
    counts = rows["label"] >= 0
    sure = np.asarray(jax.nn.softmax(z)).max(-1)[counts].mean()
    right = (np.asarray(z).argmax(-1) == rows["label"])[counts].mean()
    np.testing.assert_allclose(found["test_overconfidence"], sure - right, 1e-4)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(
    "module, change, arms",
    [
        (temperature_vocabulary, {"temperatures": (8.0,)}, ["labels", "distilled"]),
        (
            sparse_teachers,
            {"ways": ("mixed", "sampled")},
            ["full", "labels", "mixed", "sampled"],
        ),
    ],
)
def test_a_small_run(task, module, change, arms, capsys):
    config = replace(module.STUDY.quick_config(), steps=4, teacher_steps=8, **change)
    found = module.run(config, [task])
    runs = found.tables["runs"]
    assert runs["arm"].drop_duplicates().tolist() == arms
    assert (runs["test_nll_last"] > 0).all() and not runs["diverged"].any()
    assert found.facts["seconds"] > 0
    assert found.tables["teachers"]["steps"].tolist() == [8]
    module.show(found.tables, {})
    assert "nats per token" in capsys.readouterr().out


def test_arms_are_those_of_all_sizes_and_shares(task):
    its = stories.Teacher(None, None, {})
    config = size_equivalence.Config(widths=(16, 32), distilled=(16,), steps=40)
    arms = list(size_equivalence.arms(config, task, its))
    cells = pd.DataFrame([arm.columns for arm in arms])
    long, hard = (arms[i].training for i in (2, 0))
    assert long.objective == hard.objective == stories.LIKELIHOOD
    assert long.epochs == 2 * hard.epochs
    every = [("hard", 16), ("distilled", 16), ("hard_long", 16), ("hard", 32)]
    few = [("hard", 16)] * 3 + [("distilled", 16)] + [("hard", 32)] * 3
    found = list(zip(cells["arm"], cells["width"], strict=True))
    assert found == every + few
    assert cells["share"].tolist() == 4 * [1.0] + 7 * [0.1]
    assert cells["part"].tolist()[:4] == [1.0, 1.0, 2.0, 1.0]
    parts = cells.loc[cells["share"] < 1, "part"].round(3)
    assert parts.tolist() == [1, 0.333, 0.1, 1, 1, 0.333, 0.1]
    assert cells["parameters"].nunique() == 2
    with pytest.raises(
        ValueError, match=r"distilled is \(32,\), but takes some of \[16"
    ):
        size_equivalence.Config(widths=(16, 32), distilled=(32,))


def test_the_best_part_of_the_steps_is_taken_for_each_cell():
    cells = [(16, 1.0, 2.0), (16, 0.1, 3.0), (32, 1.0, 2.0), (32, 0.1, 1.5)]
    runs = pd.DataFrame(
        [
            {"share": 0.1, "arm": "hard", "width": width, "part": part, "seed": seed}
            | {"validation_nll_best": nll + seed}
            for width, part, nll in cells
            for seed in range(2)
        ]
    )
    found = size_equivalence.best_part(runs)
    assert found["width"].tolist() == [16, 16, 32, 32]
    assert found["part"].tolist() == [1.0, 1.0, 0.1, 0.1]
    runs.loc[[0, 4, 6], "validation_nll_best"] = np.nan  # without a best epoch
    found = size_equivalence.best_part(runs)
    assert found["part"].iloc[:2].tolist() == [0.1, 0.1] and len(found) == 4


def rows_of(values, **columns):
    """Runs of five seeds, around a value each."""
    noise = 0.001 * np.random.default_rng(0).normal(size=5)
    return [
        columns
        | dict(zip(names, cell, strict=True))
        | {"seed": seed, "test_nll_last": value + each}
        | {"validation_nll_last": value + each, "test_nll_best": value + each}
        for (names, *cells) in [values]
        for *cell, value in cells
        for seed, each in enumerate(noise)
    ]


def verdicts(module, runs):
    found = {
        name: claims.verdict(each, claims.measured(each, {"runs": runs}))
        for name, each in module.CLAIMS.items()
    }
    return found


@pytest.mark.parametrize("best, low, rises", [(8.0, 8.0, "refuted"), (2.0, 1.0, "")])
def test_claims_on_temperatures_follow_the_runs(best, low, rises):
    runs = []
    for size in (64, 512, 4096):
        peak = low if size == 64 else best
        cells = [("labels", np.nan, 2.5)]
        cells += [
            ("distilled", t, 2 + 0.1 * abs(np.log2(t / peak)))
            for t in (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0)
        ]
        runs += rows_of((("arm", "temperature"), *cells), vocabulary=size)
    found = verdicts(temperature_vocabulary, pd.DataFrame(runs))
    assert found["article"] == ("supported" if best == 8 else "refuted")
    assert found["vocabulary"] == ("supported" if best != low else "undecided")
    assert found["worth_64"] == found["worth_4096"] == "supported"


def test_a_seed_with_a_run_that_diverged_has_no_best_temperature():
    cells = [("distilled", t, 2 + t) for t in (1.0, 2.0, 4.0)]
    runs = pd.DataFrame(rows_of((("arm", "temperature"), *cells), vocabulary=64))
    runs.loc[0, "test_nll_last"] = np.nan
    found = temperature_vocabulary.best(runs, 64)
    assert np.isnan(found[0]) and (found[1:] == 0).all()


def test_the_best_temperature_is_between_those_that_were_tried():
    x = np.array([-1.0, 0.0, 1.0, 2.0, 3.3])
    for lowest in (0.2, 0.9, 2.0):
        found = temperature_vocabulary.lowest_point(x, 3 + 0.1 * (x - lowest) ** 2)
        assert found == pytest.approx(lowest)
    assert temperature_vocabulary.lowest_point(x, x) == -1
    assert temperature_vocabulary.lowest_point(x, -x) == 3.3


@pytest.mark.parametrize("worse", [0.0, 0.3])
def test_claims_on_parts_follow_the_runs(worse):
    cells = [("full", 0, 2.0), ("labels", 0, 2.5), ("mixed", 1, 2.1), ("tail", 5, 2.05)]
    # Of the half nat that the whole saves, 98 % or 40 %.
    cells += [("tail", 50, 2.01 + worse), ("sampled", 50, 2.01 + worse)]
    cells += [("renormalised", 5, 2.06)]
    runs = pd.DataFrame(rows_of((("arm", "tokens"), *cells), vocabulary=4096))
    # The five most probable tokens are too sure; one class mends it, or does not.
    over = {"full": 0.1, "renormalised": 0.3, "tail": 0.28 if worse else 0.12}
    runs["test_overconfidence"] = runs["arm"].map(over) + runs["test_nll_last"] / 1e3
    found = verdicts(sparse_teachers, runs)
    enough = "refuted" if worse else "supported"
    assert found == {
        "suffice": enough,
        "sampled": enough,
        "confident": "supported",
        "mended": enough,
        "one": "supported",
    }


def test_different_tokens_are_counted(task):
    even = stories.models.Model(
        None, lambda variables, batch: (Outputs(jnp.zeros((1, 3, 4))), {})
    )
    rows = {n: array[:2] for n, array in task.data.test.items()}
    its = stories.Teacher(even, None, {})
    found = sparse_teachers.different(its, Data(None, rows), 3)
    assert float(found) == pytest.approx(4 * (1 - 0.75**3))


def test_a_ladder_that_ends_with_few_stories_is_enough():
    sizes = {16: 10_000, 32: 30_000, 48: 60_000, 128: 400_000}
    runs = []
    for share, gain in ((1.0, 0.1), (0.1, 9.0)):
        cells = [("hard", w, n, 6 - 0.4 * np.log(n)) for w, n in sizes.items()]
        cells.append(("distilled", 32, 30_000, 6 - 0.4 * np.log(30_000) - gain))
        runs += rows_of((("arm", "width", "parameters"), *cells), share=share)
    runs = pd.DataFrame(runs)
    few, every = (size_equivalence.of_each_seed(runs, s, 32) for s in (0.1, 1.0))
    assert (few == 400_000 / 30_000).all()
    np.testing.assert_allclose(every, np.exp(0.1 / 0.4), rtol=0.02)
    found = size_equivalence.scarcer(runs, 32)
    assert found.low > 1
    other = runs.assign(share=(1.1 - runs["share"]).round(1))
    assert np.isnan(
        size_equivalence.scarcer(other, 32)
    ).all()  # the ladder ends for all


@pytest.mark.parametrize("gain, verdict", [(0.2, "refuted"), (0.8, "supported")])
def test_a_factor_of_size_follows_the_runs(gain, verdict, capsys):
    sizes = {16: 10_000, 32: 30_000, 48: 60_000, 64: 100_000, 96: 200_000, 128: 400_000}
    runs = []
    for share, more in ((1.0, 0.0), (0.1, 0.2)):
        cells = []
        for width, size in sizes.items():
            nll = 6 - 0.4 * np.log(size)
            cells.append(("hard", width, size, nll))
            if width < 128:
                cells.append(("distilled", width, size, nll - gain - more))
        names = ("arm", "width", "parameters")
        runs += rows_of((names, *cells), share=share)
    runs = pd.DataFrame(runs)
    found = verdicts(size_equivalence, runs)
    assert found["four_times_all"] == verdict
    # exp(gain / 0.4) times the size
    factors = size_equivalence.factors(runs)
    each = factors.query("share == 1.0 and width == 32")
    assert each["factor"].item() == pytest.approx(np.exp(gain / 0.4), rel=0.01)
    size_equivalence.show({"runs": runs, "factors": factors}, {})
    assert f"{each['factor'].item():.3g} (" in capsys.readouterr().out
    assert found["scarce"] == "supported"
