"""Each measure of beliefs, the choice of images, and the tables of networks."""

import numpy as np
import pytest
from scipy import special, stats

from experiments.cifar10 import belief_tables, beliefs

RNG = np.random.default_rng(0)
LABELS = np.arange(300) % 10
SHARES = special.softmax(RNG.normal(size=(300, 10)) + 3 * np.eye(10)[LABELS], axis=-1)
LOGITS = 2 * RNG.normal(size=(300, 10)) + 3 * np.eye(10)[LABELS]
GRID = (0.5, 1.0, 2.0, 8.0)


def test_outputs_are_softened_by_one_temperature_or_by_one_for_each_image():
    z = np.log([[1.0, 4.0], [9.0, 1.0]])
    found = beliefs.softened(z, 2.0)
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3], [3 / 4, 1 / 4]])
    each = beliefs.softened(z, np.array([1.0, 2.0]))
    np.testing.assert_allclose(each, [[1 / 5, 4 / 5], [3 / 4, 1 / 4]])


def test_kl_is_from_people_in_nats_and_a_class_without_answers_adds_nothing():
    people, own = np.array([[0.5, 0.5, 0.0]]), np.array([[0.25, 0.5, 0.25]])
    np.testing.assert_allclose(beliefs.kl(people, own), [0.5 * np.log(2)])


def test_a_temperature_is_fitted_on_the_half_that_it_is_not_measured_on():
    z = np.tile([4.0, 0.0], (6, 1))
    reference = beliefs.softened(z, np.array([1, 2, 1, 2, 1, 2.0]))
    found = beliefs.fitted(reference, z, (1.0, 2.0, 4.0))
    np.testing.assert_array_equal(found, [2, 1, 2, 1, 2, 1])
    changed = np.where(np.arange(6)[:, None] == 0, [0.1, 0.9], reference)
    assert beliefs.fitted(changed, z, (1.0, 2.0, 4.0))[0] == 2


def test_confusions_are_means_over_the_images_of_a_class():
    own = np.array([[0.8, 0.2, 0.0], [0.4, 0.2, 0.4], [0.1, 0.7, 0.2]])
    found = beliefs.confusions(own, np.array([0, 0, 1]))
    np.testing.assert_allclose(found[:2], [[0.6, 0.2, 0.2], [0.1, 0.7, 0.2]])
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(
        beliefs.off_diagonal(np.arange(9).reshape(3, 3)), [1, 2, 3, 5, 6, 7]
    )


def test_correlations_are_spearmans():
    own = beliefs.softened(LOGITS, 2.0)
    cells = []
    for p in (SHARES, own):
        means = np.array([p[LABELS == c].mean(0) for c in range(10)])
        cells.append([means[i, j] for i in range(10) for j in range(10) if i != j])
    assert beliefs.confusion_correlation(SHARES, own, LABELS) == pytest.approx(
        stats.spearmanr(*cells).statistic
    )
    entropies = [-np.sum(p * np.log(p), -1) for p in (SHARES, own)]
    assert beliefs.entropy_correlation(SHARES, own) == pytest.approx(
        stats.spearmanr(*entropies).statistic
    )


def test_the_second_class_is_compared_where_people_disagree():
    people = np.array(
        [
            [0.7, 0.3, 0.0],  # the same second class
            [0.7, 0.3, 0.0],  # another
            [0.6, 0.2, 0.2],  # either of two counts
            [0.4, 0.4, 0.2],  # so does either of the first two
            [0.8, 0.2, 0.0],  # people agree
        ]
    )
    own = np.array([[3, 2, 1], [3, 1, 2], [3, 1, 2], [3, 2, 1], [3, 1, 2.0]])
    assert list(beliefs.disagree(people)) == [True] * 4 + [False]
    assert beliefs.same_second(people, own) == 3 / 4
    assert np.isnan(beliefs.same_second(people[4:], own[4:]))


def two(first):
    """Beliefs of this probability for the first of two classes."""
    first = np.array(first)
    return np.stack([first, 1 - first], 1)


def test_telling_images_are_those_where_hard_labels_alone_are_far_from_people():
    people = two([0.6, 0.6, 0.6, 0.6, 0.7, 0.6])
    teacher = two([0.6, 0.6, 0.9, 0.5, 0.7, 0.6])
    distilled = two([0.5, 0.6, 0.6, 0.6, 0.7, 0.6])
    hard = two([1.0, 0.9, 1.0, 0.95, 0.1, 0.85])
    np.testing.assert_allclose(beliefs.distance(people, hard)[:2], [0.4, 0.3])
    # Margins are 0.3, 0.3, 0.1, 0.25 and 0.25; on image 4 people are not divided.
    labels = np.array([0, 1, 0, 1, 0, 1])
    given = (people, teacher, distilled, hard, labels)
    assert list(beliefs.telling(*given, count=9)) == [0, 1, 3, 2]
    assert list(beliefs.telling(*given, count=9, per_class=3)) == [0, 1, 3, 5, 2]
    assert list(beliefs.telling(*given, count=3, per_class=1)) == [0, 1]
    assert list(beliefs.telling(*given, count=2)) == [0, 1]


def compared():
    """A teacher that is the reference but for noise, and students ever farther off."""
    rows = [("teacher", "big", None, 0, 0.1)]
    for seed in (0, 1):
        rows += [
            ("hard", "none", None, seed, 2),
            ("kl", "big", 1.0, seed, 1),
            ("kl", "big", 4.0, seed, 0.5 + 0.1 * seed),
        ]
    networks = []
    for i, (*row, noise) in enumerate(rows):
        z = np.log(SHARES) * (1 if row[0] == "teacher" else 2)  # T = 2 undoes it
        z += noise * np.random.default_rng(i).normal(size=z.shape)
        columns = dict(zip(belief_tables.NETWORK, row, strict=True))
        networks.append((columns | {"more": 1}, z))
    return belief_tables.compare("people", SHARES, LABELS, GRID, networks)


@pytest.fixture(scope="module")
def all_of():
    return compared()


def test_a_network_has_a_row_for_each_temperature_and_one_for_its_best(all_of):
    table = belief_tables.by_temperature(all_of)
    assert len(table) == 7 * (len(GRID) + 1) and "more" not in table
    own = table.query("arm == 'kl' and temperature == 4 and seed == 1")
    assert own["evaluated_at"].tolist() == [*GRID, own["evaluated_at"].iloc[-1]]
    assert own["fitted"].tolist() == [False] * 4 + [True]
    network = all_of.networks[6]
    right = np.mean(network.logits.argmax(-1) == LABELS)
    np.testing.assert_allclose(own["accuracy"], right)
    for row in own.to_dict("records"):
        t = network.fitted if row["fitted"] else row["evaluated_at"]
        p = beliefs.softened(network.logits, t)
        assert row["kl"] == pytest.approx(beliefs.kl(SHARES, p).mean())
        assert row["entropy"] == beliefs.entropy_correlation(SHARES, p)
        assert row["confusions"] == beliefs.confusion_correlation(SHARES, p, LABELS)
        assert row["second"] == beliefs.same_second(SHARES, p)


def test_students_are_compared_where_they_and_hard_labels_are_right(all_of):
    table = belief_tables.both_right(all_of)
    assert table["arm"].tolist() == ["kl"] * 4
    row = table.query("temperature == 4 and seed == 1").iloc[0]
    hard, student = all_of.networks[4], all_of.networks[6]
    right = (hard.logits.argmax(-1) == LABELS) & (student.logits.argmax(-1) == LABELS)
    assert 100 < row["images"] == right.sum() < 300
    for name, each in (("", student), ("_hard", hard)):
        p, q, y = SHARES[right], each.beliefs[right], LABELS[right]
        assert row[f"confusions{name}"] == beliefs.confusion_correlation(p, q, y)
        assert row[f"second{name}"] == beliefs.same_second(p, q)


def test_confusions_have_a_row_for_each_class_of_people_and_networks(all_of):
    table = belief_tables.confusions(all_of)
    assert len(table) == 8 * 10
    cells = [f"class{c}" for c in range(10)]
    people = table.query("arm == 'reference'")[cells]
    np.testing.assert_allclose(people, beliefs.confusions(SHARES, LABELS))
    own = table.query("arm == 'hard' and seed == 1")
    expected = beliefs.confusions(all_of.networks[4].beliefs, LABELS)
    np.testing.assert_allclose(own[cells], expected)
    assert own["label"].tolist() == list(range(10))


def test_of_teachers_there_are_estimates_over_images(all_of, monkeypatch):
    monkeypatch.setattr(belief_tables, "DRAWS", 50)
    table = belief_tables.of_teachers(all_of).set_index("statistic")
    assert set(table["teacher"]) == {"big"}
    teacher = all_of.networks[0]
    exact = beliefs.confusion_correlation(SHARES, teacher.beliefs, LABELS)
    assert table.loc["confusions", "value"] == exact
    assert 0.5 < table.loc["confusions", "low"] < table.loc["confusions", "high"] < 1
    # Outputs are people's shares at T = 1, so every higher temperature is worse.
    softer = beliefs.kl(SHARES, beliefs.softened(teacher.logits, 2.0))
    saved = beliefs.kl(SHARES, beliefs.softened(teacher.logits, 1.0)) - softer
    assert table.loc["softening", "value"] == pytest.approx(saved.mean())
    assert table.loc["softening", "high"] < 0


def test_pictures_have_pixels_and_the_mean_beliefs_of_all(all_of):
    image = RNG.integers(0, 256, (300, 2, 2, 3))
    test = {"image": np.float32(image) / 255}
    table = belief_tables.pictures(all_of, test, count=12)
    assert len(table) == 12 and (table.groupby("label").size() <= 2).all()
    row, i = table.iloc[3], table["test_index"][3]
    assert row["label"] == LABELS[i]
    np.testing.assert_array_equal(row[[f"pixel{k}" for k in range(12)]], image[i].flat)
    known = all_of.networks
    means = {"reference": SHARES, "teacher": known[0].beliefs}
    means["hard"] = (known[1].beliefs + known[4].beliefs) / 2
    means["distilled"] = (known[3].beliefs + known[6].beliefs) / 2
    for name, p in means.items():
        cells = row[[f"{name}{c}" for c in range(10)]].to_numpy(float)
        np.testing.assert_allclose(cells, p[i])
    far, near = (
        beliefs.distance(SHARES, means[kind])[beliefs.disagree(SHARES)]
        for kind in ("hard", "distilled")
    )
    counts = {"images": len(far), "distilled": sum(near < far), "hard": sum(far < near)}
    assert belief_tables.nearer(all_of) == counts


def test_without_images_that_divide_people_there_are_no_pictures(all_of):
    agreed = all_of._replace(shares=np.eye(10)[LABELS])
    test = {"image": np.zeros((300, 2, 2, 3), np.float32)}
    assert belief_tables.pictures(agreed, test, count=12).empty
    assert belief_tables.nearer(agreed)["images"] == 0
