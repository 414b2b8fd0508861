"""CIFAR-10's experiments: views, teachers, arms and statistics, on small data."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.cifar10 import capacity_gap, published, setup
from kdjax import data
from kdjax.data import Data
from kdjax.study.types import InvalidConfig
from tests import small

RNG = np.random.default_rng(0)
ERRORS = "validation_errors_last"


@pytest.fixture(scope="module", autouse=True)
def _fast_compile():
    with small.fast_compile():
        yield


@pytest.fixture(scope="module")
def digits():
    images, info = data.load("mnist5k")
    splits = (
        {name: array[:size] for name, array in split.items()}
        for split, size in zip(images, (256, 60, 60), strict=True)
    )
    return Data(*splits), info


def test_digits_become_colour_images_and_others_stay_as_they_are(digits):
    images, _ = digits
    colour = setup.in_colour(images)
    assert colour.train["image"].shape == (256, 32, 32, 3)
    for channel in range(3):
        inner = colour.train["image"][:, 2:-2, 2:-2, channel]
        np.testing.assert_array_equal(inner, images.train["image"])
    assert colour.train["image"].sum() == pytest.approx(3 * images.train["image"].sum())
    again = setup.in_colour(colour)
    assert again.train is colour.train


def test_views_are_flips_and_crops_from_a_margin():
    image = RNG.normal(size=(2, 8, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(setup.VIEWS[0](image), image)
    np.testing.assert_array_equal(setup.VIEWS[1](image), image[:, :, ::-1])
    down_and_left = np.asarray(setup.VIEWS[2](jnp.asarray(image)))  # by (-3, 2)
    np.testing.assert_array_equal(down_and_left[:, 3:, :4], image[:, :5, 2:])
    assert (down_and_left[:, :3] == 0).all() and (down_and_left[:, :, 4:] == 0).all()


def test_a_published_teacher_that_is_missing_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KDJAX_TEACHERS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="ResNet-20 is not in .*KDJAX_TEACHERS"):
        published.load(20)


def test_published_teachers_are_not_for_digits(digits):
    config = capacity_gap.Config(dataset="mnist5k")
    with pytest.raises(InvalidConfig, match="teachers has resnet-20, but takes plain"):
        config.check_data(digits[1])


def search(errors):
    """Validation errors by temperature and learning rate."""
    rows = [
        {
            "temperature": t,
            "alpha": 0.9,
            "learning_rate": r,
            "validation_errors_last": e,
        }
        for (t, r), e in errors.items()
    ]
    return pd.DataFrame(rows).assign(validation_nll_last=0.0)


AXES = ["temperature", "alpha", "learning_rate"]


def test_the_fixed_and_the_tuned_temperature_are_measured_once_if_they_are_one():
    errors = {(4.0, 0.1): 7, (4.0, 0.2): 5, (1.0, 0.2): 6}
    one = capacity_gap.fixed_and_tuned(search(errors), AXES)
    assert one[["temperature", "learning_rate", "tuned"]].values.tolist() == [
        [4.0, 0.2, True]
    ]
    two = capacity_gap.fixed_and_tuned(search({**errors, (1.0, 0.2): 3}), AXES)
    assert two[["temperature", "learning_rate", "tuned"]].values.tolist() == [
        [1.0, 0.2, True],
        [4.0, 0.2, False],
    ]


def runs():
    """Four teachers of each family; accuracy falls by a point from each to the next."""
    rows = []
    for seed in range(3):
        rows.append({"arm": "hard", "family": "none", "seed": seed, "score": 50})
        for family in ("plain", "resnet"):
            for place, ratio in enumerate((0.5, 0.2, 0.05)):
                row = {"family": family, "ratio": ratio, "seed": seed}
                for arm, temperature, tuned, more in (
                    ("kl", 4.0, False, 0),
                    ("kl", 1.0, True, 3),
                    ("dist", 1.0, False, 2),
                ):
                    score = 60 - place + more
                    rows.append(
                        row
                        | {"arm": arm, "temperature": temperature, "tuned": tuned}
                        | {"score": score}
                    )
    table = pd.DataFrame(rows)
    table["test_accuracy_last"] = table["score"] / 100
    table["validation_errors_last"] = 100 - table["score"]
    table["tuned"] = table["tuned"].fillna(False).astype(bool)
    return table


def test_statistics_are_paired_by_seed_and_selected_by_others():
    table = runs()
    np.testing.assert_allclose(capacity_gap.gap(table, "kl", "resnet"), [2, 2, 2])
    np.testing.assert_allclose(capacity_gap.gap(table, "kl_tuned", "plain"), [2, 2, 2])
    np.testing.assert_allclose(capacity_gap.sweet_spot(table, "kl"), [-1, -1, -1])
    np.testing.assert_allclose(capacity_gap.cure(table, "dist"), [2, 2, 2])
    np.testing.assert_allclose(capacity_gap.gain(table, "hard"), [13, 13, 13])


def test_a_small_run_has_every_arm_and_measures_against_the_teacher(digits):
    images, info = digits
    config = capacity_gap.Config(
        dataset="mnist5k",
        teachers=("plain-2",),
        teacher_epochs=1,
        epochs=1,
        seeds=2,
        temperatures=(4.0,),
        learning_rates=(1e-3,),
    )
    outcome = capacity_gap.run(config, images, info)
    rows = outcome.tables["runs"]
    counts = rows.groupby("arm").size().to_dict()
    arms = ("hard", "hard_long", "smoothing", "kl", "dist", "standardized")
    assert counts == dict.fromkeys(arms, 2)
    assert rows["ratio"].dropna().eq(1).all() and rows["student"].eq("plain-2").all()
    measured = ["test_agreement_last", "test_teacher_kl_last", "test_nll_last"]
    assert np.isfinite(rows[measured]).all(axis=None)
    assert rows.query("arm == 'kl'")["tuned"].all()
    (teacher,) = outcome.tables["teachers"].to_dict("records")
    assert teacher["family"] == "plain" and 0 < teacher["train_entropy"] <= np.log(10)
    assert outcome.facts["stored"]["plain-2"]["type"] == "float16"
    capacity_gap.show(outcome.tables, {})
