"""Each student learns from the teacher in its row; how claims are decided."""

from dataclasses import replace
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.mnist import capacity_gap, setup
from kdjax import losses, objectives
from kdjax.data import Data, Info
from kdjax.models import Outputs
from kdjax.study import arms as study_arms
from kdjax.study import statistics
from kdjax.study.statistics import rank_correlation
from kdjax.study.study import Outcome
from kdjax.sweep import SweepResult
from kdjax.training import teacher
from paper_figs import fig09_capacity_gap, fig10_capacity_gap_explained
from tests import arms

STUDY = capacity_gap.STUDY
CONFIG = capacity_gap.Config()
TINY = replace(
    CONFIG,
    student_widths=(16, 64),
    teacher_widths=(256, 64, 32),
    temperatures=(1.0, 4.0),
    learning_rates=(0.01, 0.03),
    seeds=2,
)
ARMS = ["kl", "kl_tuned", "dist", "standardized"]
PARAMETERS = {32: 26506, 64: 55050, 256: 269322}
INFO = Info("digits", "1", 10, 700, 100, 200)


@pytest.fixture(scope="module")
def images(digits):
    return Data(*({n: split[n] for n in ("image", "label")} for split in digits))


@pytest.fixture
def fitted(monkeypatch):
    """Trainings of teachers; teacher i is confident and right for 10 i examples."""
    trainings = []

    def fit(training, seen, *, learning_rate):
        trainings.append(training)

        def answers(batch):
            wrong = np.arange(len(batch["label"])) >= 10 * len(trainings)
            return 40 * np.eye(10, dtype=np.float32)[(batch["label"] + wrong) % 10]

        assert learning_rate == 1e-3 and "teacher" not in seen.train
        metrics = {"accuracy": 0.5, "ece": 0.1, "errors": 5.0, "nll": len(trainings)}
        quality = {"validation": metrics, "test": metrics, "seconds": 7}
        return setup.WithTeacher(teacher.store(answers, seen, batch_size=700), quality)

    monkeypatch.setattr(setup, "fit", fit)
    return trainings


def test_teachers_of_every_kind_and_width_lie_side_by_side(fitted, images):
    data, teachers = capacity_gap.with_teachers(TINY, images)
    kinds = itertools.product(("early", "full", "over"), (32, 64, 256))
    assert list(zip(teachers["kind"], teachers["width"], strict=True)) == list(kinds)
    assert [t.epochs for t in fitted] == list(np.repeat([2, 20, 60], 3))
    assert list(teachers["epochs"]) == [t.epochs for t in fitted]
    batch = {"image": np.zeros((1, 28, 28))}
    for training, size in zip(fitted, teachers["parameters"], strict=True):
        shapes = jax.eval_shape(training.model.init, jax.random.key(0), batch)
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == size
    assert dict(zip(teachers["width"], teachers["parameters"], strict=True)) == (
        PARAMETERS
    )
    assert data.train["teacher"].logits.shape == (700, 9, 10)
    right = data.train["teacher"].logits.argmax(-1) == images.train["label"][:, None]
    np.testing.assert_array_equal(right.sum(0), 10 * np.arange(1, 10))
    np.testing.assert_allclose(teachers["train_accuracy"], right.mean(0))
    np.testing.assert_allclose(teachers["train_entropy"], 0, atol=1e-12)
    assert list(teachers["test_nll"]) == list(range(1, 10))
    assert arms.same(data.train, images.train) and data.test is images.test
    assert "teacher" not in data.validation


@pytest.fixture(scope="module")
def prepared(images):
    logits = np.zeros((700, 21, 10), np.float32)
    data = images._replace(train={**images.train, "teacher": Outputs(logits)})
    return data, list(capacity_gap.arms(CONFIG, data))


def test_every_student_learns_from_every_teacher(prepared):
    data, cells = prepared
    sizes = {4: 3210, 8: 6442, 16: 13002, 32: 26506, 64: 55050}
    families = ["hard", "kl", "dist", "standardized"]
    assert [arm.columns for arm in cells] == [
        {"student_width": width, "student_parameters": size, "arm": name}
        for width, size in sizes.items()
        for name in families
    ]
    for arm, name in zip(cells, 5 * families, strict=True):
        settings = 5 if name == "kl" else 1
        searched = 3 if name == "hard" else 21 * settings * 3
        kept = {"hard": 1, "kl": 2 * 21}.get(name, 21)
        assert arms.sizes(arm) == (searched, 10 * kept)
        assert arm.training.epochs == 6 and arm.seeds == 10 and arm.data is data
        if name != "hard":
            assert set(arm.settings["teacher"]) == set(range(21))
    assert arms.runs(cells) == 6470 and "6,470 runs" in capacity_gap.__doc__
    for arm in cells[:4]:  # the others differ in width
        arms.check(arm)


def test_losses_are_weighed_as_the_config_says(prepared):
    cells = {arm.columns["arm"]: arm.settings for arm in prepared[1]}
    assert (cells["kl"]["alpha"] == np.float32(0.9)).all()
    assert set(cells["kl"]["temperature"]) == {1, 2, 4, 8, 16}
    for name, weighed in (("dist", [1, 1]), ("standardized", [2, 9])):
        assert (cells[name][["temperature", "weight"]] == weighed).all().all()


def test_a_loss_takes_the_teacher_it_is_told():
    rng = np.random.default_rng(0)
    student = rng.normal(size=(5, 10)).astype(np.float32)
    teachers = 3 * rng.normal(size=(5, 4, 10)).astype(np.float32)
    labels = np.array([0, 3, 9, 9, 1])

    @jax.jit
    def found_and_expected():
        hard, one = losses.cross_entropy(student, labels), teachers[:, 2]
        spread = [z - z.mean(-1, keepdims=True) for z in (student, one)]
        spread = [z / z.std(-1, ddof=1, keepdims=True) for z in spread]
        soft = losses.soft_kl(student, one, temperature=3.0)
        alike = losses.dist(student, one, temperature=3.0)
        evenly = losses.soft_kl(*spread, temperature=3.0)
        by_hand = [
            (setup.HINTON, {"alpha": 0.9}, 0.9 * soft + 0.1 * hard),
            (capacity_gap.dist, {"weight": 2.0}, hard + 2 * alike),
            (capacity_gap.standardized, {"weight": 2.0}, hard + 2 * evenly),
        ]
        outputs = Outputs(student), Outputs(teachers), {"label": labels}
        told = {"teacher": jnp.float32(2), "temperature": 3.0}
        return [
            (objectives.from_several(loss)(*outputs, **told, **weight), expected)
            for loss, weight, expected in by_hand
        ]

    for found, expected in found_and_expected():
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def searched(errors, teachers=21, temperatures=(1, 4, 8), rates=(0.003, 0.01, 0.03)):
    """A shuffled search with ``errors(teacher, temperature, rate)``."""
    rows = itertools.product(range(teachers), temperatures, rates)
    rows = [(*row, errors(*row)) for row in rows]
    axes = ["teacher", "temperature", "learning_rate"]
    table = pd.DataFrame(rows, columns=[*axes, "validation_errors_last"])
    return table.sample(frac=1, random_state=0), axes


def test_a_kind_shares_its_rate_and_a_pair_has_its_temperature():
    """Kind i is best at rate i, or i + 1 at T = 4, except for one teacher."""
    rates = np.array((0.003, 0.01, 0.03))

    def errors(teacher, temperature, rate):
        lucky = teacher % 7 == 3  # at another rate
        best = rates[(teacher // 7 + (temperature == 4) + lucky) % 3]
        return 100 * (rate != best) + (temperature != (4 if teacher % 2 else 1))

    chosen = capacity_gap.best_of_both(*searched(errors))
    teachers = np.arange(21)
    odd = teachers % 2
    for arm, own in (("kl", np.full(21, 4)), ("kl_tuned", np.where(odd, 4, 1))):
        rows = chosen[chosen["arm"] == arm]
        np.testing.assert_array_equal(rows["teacher"], teachers)
        np.testing.assert_array_equal(rows["temperature"], own)
        expected = rates[(teachers // 7 + (own == 4)) % 3]
        np.testing.assert_array_equal(rows["learning_rate"], expected)


def test_between_equals_the_smallest_is_chosen():
    chosen = capacity_gap.best_of_each(*searched(lambda *row: 5))
    assert (chosen["temperature"] == 1).all()
    assert (chosen["learning_rate"] == 0.003).all()


def test_a_rate_at_which_most_diverge_is_not_chosen():
    def errors(teacher, temperature, rate):
        return 9.0 if rate < 0.03 else np.nan if teacher % 7 > 2 else 1

    chosen = capacity_gap.best_of_each(*searched(errors))
    assert (chosen["learning_rate"] == 0.003).all()
    gone = searched(lambda t, *_: np.nan if t == 5 else 9)
    assert sorted(capacity_gap.best_of_each(*gone)["teacher"]) == list(range(21))


def swept(training, columns, *, data, seeds, **_):
    """Made-up results of `kdjax.sweep.sweep`, better for larger teachers."""
    columns, seeds = pd.DataFrame(columns), list(seeds)
    runs = pd.concat([columns.assign(seed=seed) for seed in seeds], ignore_index=True)
    runs["diverged"] = False
    splits = ("validation", "test") if data.test is not None else ("validation",)
    for split in splits:
        runs[f"{split}_accuracy_last"] = (
            0.5 + runs.get("teacher", 0 * runs["seed"]) / 99
        )
        runs[f"{split}_errors_last"] = 99 - 9 * runs[f"{split}_accuracy_last"]
        runs[f"{split}_nll_last"] = 0.1
    curves = runs.loc[runs.index.repeat(3)].assign(epoch=3 * len(runs) * [1])
    return SweepResult(runs, curves.reset_index(drop=True), 2.0, {})


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    bootstrap = statistics.bootstrap
    monkeypatch.setattr(
        statistics, "bootstrap", lambda *of, draws: bootstrap(*of, draws=20)
    )


@pytest.fixture
def tables(fitted, images, monkeypatch):
    monkeypatch.setattr(study_arms, "sweep", swept)
    outcome = capacity_gap.run(TINY, images, INFO)
    assert outcome.facts == {"seconds": 9 * 7 + 2 * 8 * 2}
    for title, make in STUDY.derived.items():
        outcome.tables[title] = make(outcome)
    return outcome.tables


def test_rows_say_who_taught_them(tables):
    runs, search = tables["runs"], tables["search"]
    assert "curves" not in tables and list(runs)[:5] == list(INFO.columns())
    of_family = [("kl", 9), ("kl_tuned", 9), ("kl", 9), ("kl_tuned", 9)]
    expected = [("hard", 2), *of_family, ("dist", 18), ("standardized", 18)]
    order = [(a, len(list(own))) for a, own in itertools.groupby(runs["arm"])]
    assert order == 2 * expected
    hard, distilled = (
        runs[(runs["arm"] == "hard") == alone] for alone in (True, False)
    )
    assert (hard["kind"] == "none").all() and hard["ratio"].isna().all()
    assert list(distilled["teacher"]) == 2 * 8 * list(range(9))
    assert list(distilled["kind"]) == 16 * list(np.repeat(["early", "full", "over"], 3))
    assert list(distilled["teacher_width"]) == 16 * 3 * [32, 64, 256]
    sizes = distilled["teacher_width"].map(PARAMETERS)
    students = distilled["student_width"].map({16: 13002, 64: 55050})
    np.testing.assert_allclose(distilled["ratio"], students / sizes)
    assert (runs.query("arm == 'kl'")["temperature"] == 4).all()
    assert (runs.query("arm == 'kl_tuned'")["temperature"] == 1).all()
    assert set(search["arm"]) == {"hard", "kl", "dist", "standardized"}
    assert not [n for n in search if n.startswith("test_") and n != "test_size"]


def test_tables_that_are_made_of_rows_can_be_shown(tables, capsys):
    assert list(tables["explains"]["trait"]) == 8 * list(
        fig10_capacity_gap_explained.TRAITS
    )
    gaps = tables["gaps"]
    assert list(gaps["arm"].unique()) == ARMS and len(gaps) == 2 * 4 * 3
    np.testing.assert_allclose(gaps["value"], 0, atol=1e-9)  # the largest is the best
    STUDY.show(tables, {})
    assert "gaps: full" in capsys.readouterr().out
    STUDY.show({"runs": tables["runs"]}, {})


SHARES = (0.5, 0.2, 0.05, 0.01)  # of the teachers' parameters, ascending


def rows(accuracy, arm="kl", kind="full", seeds=4, first=7):
    """Rows of four teachers: ``accuracy(student, teacher, seed)`` in percent."""
    found = [
        (arm, kind, width, first + i, share, seed, accuracy(width, i, seed) / 100)
        for seed in range(seeds)
        for width in (8, 4, 16)
        for i, share in enumerate(SHARES)
    ]
    names = ["arm", "kind", "student_width", "teacher", "ratio", "seed"]
    table = pd.DataFrame(found, columns=[*names, capacity_gap.TEST])
    table[capacity_gap.ERRORS] = 5000 * (1 - table[capacity_gap.TEST])
    return table.sample(frac=1, random_state=0)  # the order of rows must not matter


def both(kl, tuned):
    """Students with accuracy 90 plus the given values and a term of the seed."""
    return pd.concat(
        [
            rows(lambda width, i, seed, a=a: 90 + a[i] + seed, arm)
            for a, arm in ((kl, "kl"), (tuned, "kl_tuned"))
        ]
    )


def test_claims_are_decided_by_the_rows():
    values, verdicts = arms.decided(STUDY, both(kl=(2, 3, 1, 0), tuned=(0, 1, 2, 3)))
    assert values == pytest.approx(
        {
            "capacity_gap": 3,
            "capacity_gap_tuned": 0,
            "sweet_spot": 1,  # 3 minus 2 of the smaller teacher
            "sweet_spot_tuned": -2,  # 1 minus 3 of the largest
        }
    )
    assert verdicts == {
        "capacity_gap": "supported",
        "capacity_gap_tuned": "refuted",
        "sweet_spot": "supported",
        "sweet_spot_tuned": "refuted",
    }


def test_seeds_that_disagree_decide_nothing():
    noisy = rows(lambda width, i, seed: 90 + i * (seed - 1.5))
    _, verdicts = arms.decided(STUDY, pd.concat([noisy, noisy.assign(arm="kl_tuned")]))
    assert set(verdicts.values()) == {"undecided"}


def test_the_median_student_of_a_seed_decides():
    def accuracy(width, i, seed):
        return 50 - i * (10 if width == 4 else 1 if width == 8 else 0.1)

    table = rows(accuracy)
    found = capacity_gap.points(capacity_gap.gap, table, "kl")
    assert list(found) == [4, 8, 16]
    for width, lost in ((4, 30), (8, 3), (16, 0.3)):
        np.testing.assert_allclose(found[width], lost)
    median = capacity_gap.median_student(table, capacity_gap.gap, "kl")
    np.testing.assert_allclose(median, 3 * np.ones(4))
    gaps = capacity_gap.gaps(Outcome({"runs": table}))
    assert list(gaps["student_width"]) == [4, 8, 16]
    np.testing.assert_allclose(gaps["value"], (30, 3, 0.3))


def test_a_student_without_larger_and_smaller_teachers_has_no_sweet_spot():
    table = both(kl=(0, 1, 0, 0), tuned=(0, 1, 0, 0))
    small = table["student_width"] == 4
    lowest = table["ratio"].where(~small, table["ratio"] / 3)  # none above 0.3
    found = capacity_gap.points(
        capacity_gap.sweet_spot, table.assign(ratio=lowest), "kl"
    )
    assert list(found) == [8, 16]
    for ratio in (table["ratio"] / 3, table["ratio"].clip(lower=0.15)):
        undecided = arms.undecided(STUDY, table.assign(ratio=ratio))
        assert undecided == ["sweet_spot", "sweet_spot_tuned"]


def test_a_seed_does_not_choose_its_own_luck():
    """Each seed has a lucky teacher, but others select for it, so nothing is gained."""
    lucky = rows(lambda width, i, seed: 90 + (i == seed))
    points = capacity_gap.points(capacity_gap.gap, lucky, "kl")
    assert all((values <= 1e-9).all() for values in points.values())


def test_a_run_that_diverged_is_averaged_over_by_no_claim():
    table = both(kl=(2, 3, 1, 0), tuned=(0, 1, 2, 3))
    scores = [capacity_gap.TEST, capacity_gap.ERRORS]
    table.loc[(table["seed"] == 1) & (table["teacher"] == 8), scores] = np.nan
    values, verdicts = arms.decided(STUDY, table)
    # The gap is that of the best teacher of the others; the range had none but this.
    assert values["capacity_gap"] == pytest.approx(2)
    assert values["capacity_gap_tuned"] == 0
    unknown = {name for name, each in verdicts.items() if each == "not evaluated"}
    assert unknown == {"sweet_spot", "sweet_spot_tuned"}
    assert all(np.isnan(values[name]) for name in unknown)
    table.loc[table["seed"] == 1, scores] = np.nan
    assert set(arms.decided(STUDY, table)[1].values()) == {"not evaluated"}


def test_claims_about_a_temperature_that_was_not_tried_are_not_evaluated():
    settings = replace(TINY, temperatures=(1.0, 2.0))
    cells = list(capacity_gap.arms(settings, Data(None)))
    assert arms.sizes(cells[1]) == (9 * 2 * 2, 2 * 9)  # no more than the tuned ones
    tuned = both(kl=(2, 3, 1, 0), tuned=(0, 1, 2, 3)).query("arm == 'kl_tuned'")
    assert arms.undecided(STUDY, tuned) == ["capacity_gap", "sweet_spot"]


def test_a_students_accuracy_goes_with_the_right_trait():
    """Larger full teachers are better; brief ones are worse, in reverse order."""
    full = rows(lambda width, i, seed: 87 + i + 0.01 * seed, first=4)
    brief = rows(lambda width, i, seed: 63 - i + 0.01 * seed, kind="early", first=0)
    teachers = pd.DataFrame(
        {
            "kind": np.repeat(["early", "full"], 4),
            "parameters": 2 * [1, 2, 3, 4],
            "validation_nll": 2 * [0.4, 0.3, 0.2, 0.1],
            "train_entropy": np.repeat([0.2, 0.1], 4),
        }
    )
    tables = {"runs": pd.concat([brief, full]), "teachers": teachers}
    found = capacity_gap.explains(Outcome(tables))
    assert list(found["trait"]) == 2 * list(fig10_capacity_gap_explained.TRAITS)
    assert list(found["kind"]) == 3 * ["all"] + 3 * ["full"]
    for name in ("value", "low", "high"):
        # All full teachers have the same entropy, so its correlation is undefined.
        expected = [0, 0, -32 / np.sqrt(32 * 42), 1, -1, np.nan]
        np.testing.assert_allclose(found[name], expected, atol=1e-9)


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (3, 8)).astype(float)
    other = rng.normal(size=8)
    expected = [stats.spearmanr(row, other).statistic for row in values]
    np.testing.assert_allclose(rank_correlation(values, other), expected)
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4)))
    assert np.isnan(rank_correlation([1, np.nan, 2], [1, 2, 3]))


def test_the_figures_are_drawn():
    assert len(fig09_capacity_gap.draw(STUDY.name).axes) == 5 + 1
    assert len(fig10_capacity_gap_explained.draw(STUDY.name).axes) == 3
    assert list(fig09_capacity_gap.ARMS) == ARMS


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"student_widths": (0,)}, "student_widths is 0"),
        ({"teacher_widths": (32, 32)}, "each value only once"),
        ({"teacher_learning_rate": 0.0}, "teacher_learning_rate is 0.0"),
        ({"temperatures": (0.0, 4.0)}, "temperatures is 0.0"),
        ({"alpha": 2.0}, "alpha is 2.0"),
        ({"dist_temperature": 0.0}, "dist_temperature is 0.0"),
        ({"learning_rates": ()}, "learning_rates is"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changed)
