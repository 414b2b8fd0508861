"""CIFAR-10's experiments: views, teachers, arms and statistics, on small data."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from experiments.cifar10 import (
    all_images,
    capacity_gap,
    families,
    published,
    setup,
    teacher_assistant,
)
from experiments.cifar10 import losses as losses_of
from kdjax import data
from kdjax.data import Data
from kdjax.data.source import feeder
from kdjax.models import Model, Outputs
from kdjax.study.types import InvalidConfig
from kdjax.training import step as stepping

RNG = np.random.default_rng(0)
ERRORS, TEST = "validation_errors_last", "test_accuracy_last"


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
        for arm, score in (("hard", 50), ("hard_long", 54), ("kl_long", 58)):
            rows.append({"arm": arm, "family": "none", "seed": seed, "score": score})
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
    np.testing.assert_allclose(capacity_gap.gain(table, "hard_long"), [9, 9, 9])
    np.testing.assert_allclose(capacity_gap.gain_long(table), [4, 4, 4])


def test_every_teacher_has_kl_and_the_last_teaches_longer(digits):
    teachers = [
        setup.Teacher(name, 1, Data({"label": np.zeros(9)}), {})
        for name in ("plain-4", "plain-6", "resnet-56")
    ]
    config, network = capacity_gap.Config(), setup.model("plain-2", digits[1].name)
    found = list(capacity_gap.arms(config, teachers, network))
    assert all(arm.axes["learning_rate"] == (4e-3, 8e-3) for arm in found)
    cells = {(arm.columns["arm"], arm.columns["teacher"]): arm for arm in found}
    losses = ("kl", "dist", "standardized")
    ends = [(loss, t) for t in ("plain-4", "resnet-56") for loss in losses]
    controls = [(name, "none") for name in ("hard", "hard_long", "smoothing")]
    long = ("kl_long", "resnet-56")
    assert set(cells) == {*controls, *ends, ("kl", "plain-6"), long}
    assert len(cells) == len(found)
    epochs = {cell: arm.training.epochs for cell, arm in cells.items()}
    longer = {cell for cell, n in epochs.items() if n == 2 * config.epochs}
    assert longer == {("hard_long", "none"), long}
    assert {n for cell, n in epochs.items() if cell not in longer} == {config.epochs}
    assert cells["kl", "plain-6"].data is teachers[1].data
    assert cells[long].axes["temperature"] == [4.0]
    searched = cells["kl", "plain-6"].settings
    assert len(searched) == 5  # other temperatures at one rate
    assert set(searched["temperature"]) == {1, 2, 4, 8}


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
    arms = ("hard", "hard_long", "smoothing", "kl", "kl_long", "dist", "standardized")
    assert counts == dict.fromkeys(arms, 2)
    assert rows["ratio"].dropna().eq(1).all() and rows["student"].eq("plain-2").all()
    measured = ["test_agreement_last", "test_teacher_kl_last", "test_nll_last"]
    assert np.isfinite(rows[measured]).all(axis=None)
    assert rows.query("arm == 'kl'")["tuned"].all()
    (teacher,) = outcome.tables["teachers"].to_dict("records")
    assert teacher["family"] == "plain" and 0 < teacher["train_entropy"] <= np.log(10)
    assert outcome.facts["stored"]["plain-2"]["type"] == "float16"
    capacity_gap.show(outcome.tables, {})


def scores(rows):
    """A table of runs of losses: (arm, features, kl) -> accuracy of three seeds."""
    table = [
        {"arm": arm, "features": features, "kl": kl, "seed": seed}
        | {"test_accuracy_last": (accuracy + seed) / 100}
        | {"validation_errors_last": 100 - accuracy}
        for (arm, features, kl), accuracy in rows.items()
        for seed in range(3)
    ]
    return pd.DataFrame(table).sample(frac=1, random_state=0)


def test_losses_on_features_are_compared_with_kl_alone_by_seed():
    table = scores(
        {
            ("kl", "trained", 0.0): 60,
            ("mse", "trained", 0.0): 58,
            ("hint", "trained", 0.0): 55,
            ("hint", "trained", 9.0): 59,
            ("pkt", "trained", 0.0): 57,
            ("pkt", "trained", 9.0): 63,
            ("hint", "random", 0.0): 56,
            ("pkt", "random", 0.0): 53,
            ("hard", "none", 0.0): 50,
        }
    )
    assert losses_of.on_features(table.sort_values("arm")) == ["hint", "pkt"]
    np.testing.assert_allclose(losses_of.richer(table, False), [-3, -3, -3])
    np.testing.assert_allclose(losses_of.richer(table, True), [3, 3, 3])
    np.testing.assert_allclose(losses_of.taught(table), [1, 1, 1])  # 57 over 56
    hard = (table["arm"] == "hard") & (table["kl"] == 0)
    better = table.assign(test_accuracy_last=table[TEST].where(~hard, 0.58))
    better.loc[hard, ERRORS] = 42
    expected = 57 + np.arange(3) - 58
    np.testing.assert_allclose(losses_of.taught(better), expected)
    expected = 0.02 / np.mean([0.40, 0.39, 0.38])
    np.testing.assert_allclose(losses_of.excess(table, "mse"), expected)


def test_the_order_of_losses_is_compared_with_the_published_one():
    names = sorted(losses_of.CRD_TABLE, key=losses_of.CRD_TABLE.get)
    names.remove("hint")
    same = {(name, "trained", 0.0): 50 + i for i, name in enumerate(names)}
    np.testing.assert_allclose(losses_of.order(scores(same)), 1)
    opposite = {(name, "trained", 0.0): 50 - i for i, name in enumerate(names)}
    np.testing.assert_allclose(losses_of.order(scores(opposite)), -1)


def test_every_family_trains_a_student(digits):
    images, info = digits
    images = setup.in_colour(images)
    config = losses_of.Config(negatives=20)
    network = families.with_small_maps(setup.model("plain-2", info.name))
    rng = np.random.default_rng(0)
    outputs = network.init(jax.random.key(0), images.train)
    student = jax.eval_shape(network.apply, outputs, images.train)[0]
    shapes = [a.shape[1:] for a in student.features]
    assert shapes == [(16, 16, 16), (16, 16, 16), (2, 2, 16)]
    other = setup.model("resnet-8", info.name)
    variables = jax.eval_shape(other.init, jax.random.key(0), images.train)
    whole = jax.eval_shape(lambda v, b: other.apply(v, b)[0], variables, images.train)
    small_maps = jax.eval_shape(families.kept, whole)
    assert [a.shape[1:] for a in small_maps.features] == [
        (16, 16, 16),
        (16, 16, 32),
        (64,),
    ]
    stored = jax.tree.map(
        lambda a: rng.normal(size=(a.shape[0], 6, *a.shape[1:])).astype(np.float16),
        small_maps,
    )
    train = {**images.train, "teacher": stored}
    found = families.families(config, len(train["label"]))
    assert list(found) == list(families.ALL)
    for name, family in found.items():
        trainings = losses_of.trainings(replace(config, epochs=2), family, network)
        trainings = trainings if isinstance(trainings, list) else [trainings]
        assert [t.epochs for t in trainings] == ([1, 1] if name == "hint" else [2])
        for training in trainings:
            feed = feeder(train, training.batch_size)
            hyperparameters = {"learning_rate": 1e-3, "weight": 1.0, "kl": 1.0}
            chosen = {n: np.float32(v) for n, v in hyperparameters.items()}
            state = jax.eval_shape(
                partial(stepping.init, training, 4),
                jax.random.key(0),
                chosen,
                feed.example(),
                None,
            )
            step = partial(stepping.step, training, 4)
            arguments = state, feed.example(), jax.random.key(0), None
            _, metrics = jax.eval_shape(step, *arguments)
            assert metrics["loss"].shape == ()


def test_losses_are_tried_alone_with_kl_and_with_an_untrained_teacher(digits):
    config = losses_of.Config(families=("kl", "skew_kl", "hint", "pkt"))
    trained, untrained = Data({"label": np.zeros(9)}), Data({"label": np.ones(9)})
    network = families.with_small_maps(setup.model("plain-2", digits[1].name))
    found = {
        (arm.columns["arm"], arm.columns["features"]): arm
        for arm in losses_of.arms(config, trained, untrained, network)
    }
    controls = [(name, "none") for name in ("hard", "long", "smoothing")]
    names = ("hint", "pkt")
    both = [(name, kind) for name in names for kind in ("trained", "random")]
    divergences = [(name, "trained") for name in ("kl", "skew_kl")]
    assert list(found) == [*controls, *divergences, *both]
    assert found["pkt", "random"].data is untrained
    assert found["pkt", "trained"].data is trained
    axes = {
        cell: (arm.axes.get("weight"), arm.axes.get("kl"))
        for cell, arm in found.items()
    }
    for cell in divergences:
        assert axes[cell] == ([0.9, 9, 90], [0.0])
    assert axes["pkt", "trained"] == ([3e3, 3e4, 3e5], [0.0, 9.0])
    assert axes["pkt", "random"] == ([3e3, 3e4, 3e5], [0.0])
    assert axes["hint", "trained"] == ([1], [0.0, 9.0])
    assert found["long", "none"].training.epochs == 2 * config.epochs


def test_layers_are_compared_by_cka_on_test_images():
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(40, 3, 2)), rng.normal(size=(40, 5))]
    test = {
        "image": rng.normal(size=(40, 1)),
        "label": np.zeros(40, int),
        "teacher": Outputs(None, (features[1], 3 * features[0].reshape(40, 6))),
    }

    def apply(variables, batch):
        return Outputs(None, tuple(features)), {}

    found = families.alike(Model(None, apply), {}, Data(None, None, test))["cka"]
    centred = [f.reshape(40, -1) - f.reshape(40, -1).mean(0) for f in features]
    a, b = (c @ c.T for c in centred)
    other = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(found, [[other, 1], [1, other]], rtol=1e-4)


def test_a_small_run_of_losses(digits):
    images, info = digits
    config = losses_of.Config(
        dataset="mnist5k",
        teacher="plain-2",
        families=("kl",),
        factors=(1.0,),
        teacher_epochs=1,
        epochs=1,
        seeds=2,
    )
    outcome = losses_of.run(config, images, info)
    counts = outcome.tables["runs"].groupby(["arm", "kl"]).size().to_dict()
    cells = [("hard", 0), ("long", 0), ("long", 9), ("smoothing", 0), ("kl", 0)]
    assert counts == dict.fromkeys(cells, 2)
    assert (outcome.tables["costs"]["seconds"] > 0).all()
    table = outcome.tables["cka"]
    assert len(table) == 5 * 2 * 9 and table["cka"].between(0, 1 + 1e-5).all()
    cells = table.groupby(["arm", "kl"])["seed"].value_counts()
    assert (cells == 9).all() and len(cells) == 10
    losses_of.show(outcome.tables, {})


def test_paths_of_assistants_share_their_beginnings(monkeypatch):
    trained = []

    def teacher(name, config, images, info, of=None):
        trained.append((name, of))
        return f"{of}-{name}" if of else name

    monkeypatch.setattr(setup, "teacher", teacher)
    config = teacher_assistant.Config(paths=("direct", "6", "6, 4", "8, 6, 4"))
    found = teacher_assistant.last_teachers(config, None, None)
    assert found[()] == "plain-10" and found[6, 4] == "plain-10-plain-6-plain-4"
    assert found[8, 6, 4] == "plain-10-plain-8-plain-6-plain-4"
    assert len(trained) == len(found) == 6


def test_assistants_are_compared_with_the_direct_path():
    rows = {"direct": 60, "8": 61, "6": 63, "4": 62, "8, 6, 4": 61, "direct_long": 64}
    rows |= {"8 alone": 59, "6 alone": 58, "4 alone": 61.5}
    table = scores({(arm, "", 0.0): accuracy for arm, accuracy in rows.items()})
    gain = teacher_assistant.gain
    np.testing.assert_allclose(gain(table, "direct", ["8", "6"]), [3, 3, 3])
    claims = teacher_assistant.CLAIMS
    rest = claims["assistant_budget"].measure(table)
    np.testing.assert_allclose(rest, [-1, -1, -1])
    np.testing.assert_allclose(claims["assistant_full"].measure(table), [-2, -2, -2])
    own = claims["assistant_alone"].measure(table)
    np.testing.assert_allclose(own, [1.5, 1.5, 1.5])


def test_a_small_run_of_assistants(digits):
    images, info = digits
    config = teacher_assistant.Config(
        dataset="mnist5k",
        teacher="plain-2",
        paths=("direct", "4"),
        teacher_epochs=1,
        epochs=1,
        seeds=2,
    )
    outcome = teacher_assistant.run(config, images, info)
    counts = outcome.tables["runs"].groupby("arm").size().to_dict()
    arms = ("hard", "hard_long", "direct", "4", "4 alone", "direct_long")
    assert counts == dict.fromkeys(arms, 2)
    found = outcome.tables["teachers"].set_index("path")
    teachers = {"direct": "plain-2", "4": "plain-4", "4 alone": "plain-4"}
    assert found["teacher"].to_dict() == teachers
    assert found["nll"].nunique() == 3
    teacher_assistant.show(outcome.tables, {})


def test_an_assistant_learns_from_another_teacher(digits):
    images, info = digits
    images = setup.in_colour(images)
    config = setup.Students(dataset="mnist5k", teacher_epochs=1)
    first = setup.teacher("plain-2", config, images, info)
    second = setup.teacher("plain-2", config, images, info, of=first)
    agreement = [t.quality["validation"].get("agreement") for t in (first, second)]
    assert agreement == [None, None]  # quality is against labels alone
    logits = [t.data.train["teacher"].logits for t in (first, second)]
    assert logits[0].shape == logits[1].shape == (256, 6, 10)
    assert (logits[0] != logits[1]).any()


def test_all_images_are_compared_by_seed():
    cells = {
        ("hard", "none"): 58,
        ("hard_long", "none"): 60,
        ("kl", "resnet-20"): 63,
        ("kl", "resnet-56"): 62,
    }
    cells |= {("dist", "resnet-56"): 62.5}
    table = pd.concat(
        scores({(arm, "", 0.0): value}).assign(teacher=teacher, student="plain-2")
        for (arm, teacher), value in cells.items()
    )
    other = table.assign(student="resnet-8", test_accuracy_last=0.9)
    table = pd.concat([table, other])
    claims = all_images.CLAIMS
    leads = {"gap": 1, "dist": 0.5, "gain_hard": 5, "gain_hard_long": 3}
    for name, expected in leads.items():
        found = claims[f"{name}_plain_2"].measure(table)
        np.testing.assert_allclose(found, [expected] * 3)
        np.testing.assert_allclose(claims[f"{name}_resnet_8"].measure(table), [0] * 3)


def test_all_students_have_the_arms_of_their_learning_rate(digits):
    teachers = [
        setup.Teacher(name, 1, Data({"label": np.zeros(9)}), {})
        for name in ("resnet-20", "resnet-56")
    ]
    config, rates = all_images.Config(), {"plain-2": 0.1, "resnet-8": 0.2}
    arms = list(all_images.others(config, rates, teachers, digits[1]))
    names = [tuple(arm.columns.values()) for arm in arms]
    assert names[2:5] == [
        ("plain-2", "kl", "resnet-20"),
        ("plain-2", "kl", "resnet-56"),
        ("plain-2", "dist", "resnet-56"),
    ]
    assert [n[1:] for n in names[:5]] == [n[1:] for n in names[5:]]
    assert [arm.seeds for arm in arms] == [5] * 5 + [3] * 5
    assert [arm.axes["learning_rate"] for arm in arms] == [[0.1]] * 5 + [[0.2]] * 5
    assert [arm.training.epochs for arm in arms] == [3, 6, 3, 3, 3] * 2
    assert arms[2].data is teachers[0].data and arms[3].data is teachers[1].data
