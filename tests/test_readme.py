"""README and the page of results agree with the code and the results."""

from functools import partial
import itertools
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from experiments import __main__ as listing
from experiments import claims
from experiments.cifar10 import (
    all_images,
    capacity_gap,
    human_beliefs,
    losses,
    setup,
    size_equivalence,
    teacher_assistant,
)
from experiments.cifar10 import temperature_alpha as temperature_alpha_cifar10
from experiments.glue import data_fraction, embeddings, recipes
from experiments.glue.embedding_losses import RELATIONS
from experiments.language import divergences, skew_stability
from experiments.mnist import hinton, omitted_digit, temperature_alpha
from kdjax import results
from kdjax.study.claims import measured, verdict
from kdjax.study.statistics import Estimate, estimate, format_mean, interval
from paper_figs import (
    fig23_all_images,
    fig24_recipes,
    fig29_embeddings,
    fig30_divergences,
)
from paper_figs.fig16_losses import GROUPS, LOOKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "results/README.md").read_text()
PAGES = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/claims.md", "docs/data.md"),
    *(
        "docs/language.md",
        "docs/losses.md",
        "results/README.md",
        "kdjax/losses/README.md",
    ),
    "paper_figs/README.md",
    "experiments/README.md",
    "results/cifar10.md",
    "results/glue.md",
    "results/language.md",
)
DECODER = ROOT / "peers/decoders/llama"
ERRORS = "test_errors_last"
SIZES, ASSISTANT = "size_equivalence_cifar10", "teacher_assistant"
LOSSES = "losses_cifar10"
ENDS = ("share_low", "share_high")


def in_words(found, places, sign=1):
    """An estimate with its interval, as pages have it."""
    ends = sorted(sign * end for end in found[1:])
    each = (f"{n:.{places}f}" for n in (sign * found.value, *ends))
    return "{} ({} to {})".format(*each)


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


def run_in(folder, *blocks, **environment):
    return subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_code_runs_and_prints_what_it_says(tmp_path):
    blocks = blocks_of(README)
    assert len(blocks) == 3
    done = run_in(tmp_path, *blocks, "print(len(runs), len(hints))")
    assert done.returncode == 0, done.stderr
    first, *table, last = done.stdout.splitlines()
    assert (first, last) == ("(8,) (8, 10)", "60 2") and first in README
    shown = re.search(r"```\n(temperature.*?)```", README, re.DOTALL)[1].splitlines()
    assert [line.split()[:1] for line in table] == [line.split()[:1] for line in shown]
    here, there = (np.loadtxt(lines[2:])[:, 1:] for lines in (table, shown))
    np.testing.assert_allclose(here, there, atol=0.01)  # another processor's rounding


def test_two_language_models_of_ones_own_train(tmp_path):
    config = json.loads((DECODER / "config.json").read_text())
    words = {"<|endoftext|>": 0, "a": 1, "b": 2, "?": 3, "</s>": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    for name in ("teacher", "student", "other_teacher"):
        shutil.copytree(DECODER, folder := tmp_path / name)
        long = json.dumps(config | {"max_position_embeddings": 128})
        (folder / "config.json").write_text(long)
        tokenizer.save(str(folder / "tokenizer.json"))
    (tmp_path / "texts.txt").write_text("a b b a a b\n\nb a ?\n\n" * 200)
    blocks = blocks_of((ROOT / "docs/language.md").read_text())
    first, last = (
        "\n".join(f"assert trained.curves[{name!r}].notna().all()" for name in names)
        for names in (("validation_nll", "validation_teacher_kl"), ("train_loss",))
    )
    checked = [line for block in blocks[:-1] for line in (block, first)]
    checked += blocks[-1], last
    done = run_in(tmp_path, *checked)
    assert done.returncode == 0, done.stderr


def test_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 150


def test_the_questions_and_verdicts_are_those_of_the_committed_results():
    says = "run: python -m experiments --write"
    assert listing.PAGE.read_text() == listing.page(), says
    count = sum(1 for _ in claims.ledger())
    assert f"{count} tests of claims so far: {claims.verdicts()}." in README


@pytest.mark.parametrize("name", re.findall(r"`make (\w+)`|^make (\w+) ", README, re.M))
def test_make_has_the_targets(name):
    assert re.search(rf"^{''.join(name)}:", (ROOT / "Makefile").read_text(), re.M)


def test_every_variable_that_names_data_is_on_the_page_of_data():
    code = [p for part in ("kdjax", "experiments") for p in (ROOT / part).rglob("*.py")]
    names = {n for p in code for n in re.findall(r"KDJAX_[A-Z0-9_]+", p.read_text())}
    page = (ROOT / "docs/data.md").read_text()
    assert set(re.findall(r"\| `(KDJAX_\w+)` \|", page)) == names - {"KDJAX_CACHE"}


@pytest.mark.parametrize("page", PAGES)
def test_files_it_points_to_are_there(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert link.startswith("http") or ((ROOT / page).parent / link).exists(), link


def test_the_results_table_comes_from_the_committed_results():
    arms = temperature_alpha.summary(results.load("temperature_alpha"))
    for arm, name, setting in (
        ("hard labels", "hard labels", ""),
        ("label_smoothing", "label smoothing", " (s = {smoothing:g})"),
        ("teacher_argmax", "teacher's class as label", ""),
        ("hinton", "distilled", " (T = {temperature:g}, alpha = {alpha:g})"),
    ):
        of = arms.loc[arm].sort_values("units").to_dict("records")
        cells = (row["accuracy"] + setting.format(**row) for row in of)
        assert f"| {name} | {' | '.join(cells)} |" in RESULTS
    meta = results.meta("temperature_alpha")
    assert f"makes {meta['teacher']['test']['errors']:.0f} test errors" in RESULTS
    assert f"from commit {meta['commit']}" in RESULTS


def test_the_table_of_the_gap_on_cifar10_comes_from_the_committed_results():
    page = (ROOT / "results/cifar10.md").read_text()
    runs = results.load("capacity_gap_cifar10")
    own = results.load("capacity_gap_cifar10", "teachers").set_index("teacher")
    runs = runs[~(runs["arm"] == "kl") | (runs["temperature"] == 4)]
    scores = (100 * runs["test_accuracy_last"]).groupby([runs["arm"], runs["teacher"]])
    shown = scores.agg(format_mean)
    for teacher, accuracy in (100 * own["test_accuracy"]).items():
        name = teacher.replace("resnet", "ResNet")
        assert f"| {name} | {accuracy:.1f} | {shown['kl', teacher]} |" in page
    last = f"{100 * own['test_accuracy']['resnet-56']:.1f}"
    long = shown["kl_long", "resnet-56"]
    assert f"| ResNet-56, twice the epochs | {last} | {long} |" in page
    for arm, name in (
        ("hard", "hard labels"),
        ("smoothing", "label smoothing"),
        ("hard_long", "hard labels, twice the epochs"),
    ):
        assert f"| none: {name} | | {shown[arm, 'none']} |" in page
    words, meta = " ".join(page.split()), results.meta("capacity_gap_cifar10")
    assert f"from commit {meta['commit']}:" in words
    tables = {"runs": results.load("capacity_gap_cifar10")}
    found = {n: measured(c, tables) for n, c in capacity_gap.CLAIMS.items()}

    def points(name, sign=1):
        return in_words(found[name], 1, sign)

    assert points("gap_plain_kl") in words and points("gap_plain_kl") in README
    assert f"logits is {points('standardized', -1)} points worse" in words
    assert f"DIST is undecided, {points('dist')}" in words
    others = [shown[arm, "plain-4"] for arm in ("dist", "standardized")]
    assert min(others) > shown["kl", "plain-4"]  # as "both have higher means" says
    arms = runs[runs["arm"].isin(["dist", "standardized"])]
    assert set(arms["teacher"]) == {"plain-4", "resnet-56"}
    assert f"usual number by {points('gain_hard_long', -1)} points" in words
    assert f"twice the epochs adds another {points('gain_long')}." in words


def test_what_is_said_of_all_images_is_so():
    page = (ROOT / "results/cifar10.md").read_text()
    words, tables = " ".join(page.split()), all_images.STUDY.tables("all_images")
    runs, teachers = tables["runs"], tables["teachers"].set_index("teacher")
    scores = (100 * runs["test_accuracy_last"]).groupby(
        [runs["arm"], runs["teacher"], runs["student"]]
    )
    shown = scores.agg(format_mean)
    for (arm, teacher), _ in runs.groupby(["arm", "teacher"]):
        row = fig23_all_images.words(arm, teacher)
        own = (shown[arm, teacher, name] for name in all_images.Config.students)
        assert f"| {row} | {' | '.join(own)} |" in page
    found = {n: measured(c, tables) for n, c in all_images.CLAIMS.items()}

    def both(name, places, sign=1):
        names = (f"{name}_plain_2", f"{name}_resnet_8")
        return [in_words(found[n], places, sign) for n in names]

    one, other = both("gap", 2)
    assert f"costs its students {one} points (plain-2) and {other} (ResNet-8)" in words
    assert f"costs a ResNet-8 {other} points" in README
    better = 100 * (
        teachers["accuracy"]["resnet-56"] - teachers["accuracy"]["resnet-20"]
    )
    assert f"itself {better:.1f} points better" in words
    assert "than no teacher: {} and {} points".format(*both("gain_hard", 1)) in words
    longer = both("gain_hard_long", 1, -1)
    assert "are worth {} and {} points more".format(*longer) in words
    verdicts = {n: verdict(all_images.CLAIMS[n], each) for n, each in found.items()}
    names = ("dist_plain_2", "dist_resnet_8", "gain_hard_plain_2", "gain_hard_resnet_8")
    assert {verdicts[name] for name in names} == {"undecided"}
    assert f"from commit {results.meta('all_images')['commit']}:" in words


def test_what_is_said_of_losses_is_so():
    page = (ROOT / "results/cifar10.md").read_text()
    words, tables = " ".join(page.split()), losses.STUDY.tables(LOSSES)
    runs = tables["runs"].assign(with_kl=tables["runs"]["kl"] > 0)
    arms = runs.assign(score=100 * runs["test_accuracy_last"]).groupby(
        ["arm", "features", "with_kl"]
    )
    shown = arms["score"].agg(format_mean)
    for arm, label in itertools.chain(*(each.items() for each in GROUPS.values())):
        cells = (shown.get((arm, *cell), "") for cell in LOOKS)
        assert f"| {label} | {' | '.join(cells)} |" in page
    for arm, label in (
        ("hard", "hard labels"),
        ("smoothing", "label smoothing"),
        ("long", "hard labels, twice the epochs"),
    ):
        cells = (shown.get((arm, "none", kl), "") for kl in (False, True))
        assert f"| {label} | {' | '.join(cells)} |  |" in page
    found = {n: measured(claim, tables) for n, claim in losses.CLAIMS.items()}

    def points(name, places=1):
        return in_words(found[name], places)

    assert f"{points('richer')} points better than KL" in words
    assert f"beats KL by {points('richer')} points; DIST" in README
    weight = runs.query("arm == 'kl' and features == 'trained' and kl == 0")["weight"]
    assert f"for KL that is {weight.unique().item():g}." in words
    assert f"added to KL {points('adds')} points better" in words
    assert f"the best is {points('taught')} points better" in words
    assert f"rank correlation of {points('order', 2)}" in words
    more = in_words(Estimate(*(100 * n for n in found["mse"])), 1)
    assert more.replace(" (", " % (") + " more errors than KL" in words
    means = arms["score"].mean()
    alone = {"key": ("trained", False), "level": ("features", "with_kl")}
    on_features = means.drop(list(GROUPS["logits"])).xs(**alone)
    assert means["dist", "trained", False] > on_features.max()
    assert on_features["crd"] == on_features.min()
    chosen = arms["weight"].first().xs(**alone)
    tried = tables["search"].query("features == 'trained'").groupby("arm")["weight"]
    ends = np.isclose(chosen, tried.min()[chosen.index])
    ends |= np.isclose(chosen, tried.max()[chosen.index])
    ends &= (tried.nunique()[chosen.index] > 1).to_numpy()
    several = (tried.nunique()[chosen.index] > 1).sum()
    assert f"Of {several} losses alone, {ends.sum()} were best at the least" in words
    meta = results.meta(LOSSES)
    steps = meta["config"]["epochs"] * (meta["dataset"]["train"] // setup.BATCH_SIZE)
    assert f"for six epochs ({steps} steps)" in words and meta["config"]["epochs"] == 6
    assert means["long", "none", False] > means.drop("long").max()
    measures = arms[["test_agreement_last", "test_teacher_kl_last"]].mean()
    assert measures.corrwith(means)["test_agreement_last"] > 0.99
    kl = measures["test_teacher_kl_last"]
    softened = ("kl", "reverse_kl", "skew_kl", "jensen_shannon", "dist")
    assert all(
        kl[arm, "trained", False] > kl["hard", "none", False] for arm in softened
    )
    assert f"from commit {meta['commit']}:" in words


def test_what_is_said_of_teacher_assistants_is_so():
    page = (ROOT / "results/cifar10.md").read_text()
    words, tables = " ".join(page.split()), teacher_assistant.STUDY.tables(ASSISTANT)
    runs, teachers = tables["runs"], tables["teachers"].set_index("path")["accuracy"]
    shown = (100 * runs["test_accuracy_last"]).groupby(runs["arm"]).agg(format_mean)
    for path, layers in teacher_assistant.PATHS.items():
        way = " → ".join(map(str, (10, *layers, 2)))
        alone = f" {shown[f'{path} alone']}" if f"{path} alone" in shown else ""
        row = f"| {way} | {100 * teachers[path]:.1f} | {shown[path]} |{alone} |"
        assert row in page
    last = f"{100 * teachers['direct']:.1f}"
    assert f"| 10 → 2, 45 epochs | {last} | {shown['direct_long']} | |" in page
    for arm, name in (("hard", "hard labels"), ("hard_long", "hard labels, 45 epochs")):
        assert f"| {name} | | {shown[arm]} | |" in page
    rules = teacher_assistant.CLAIMS
    found = {name: measured(claim, tables) for name, claim in rules.items()}
    verdicts = {name: verdict(rules[name], each) for name, each in found.items()}
    assert verdicts.pop("assistant_budget") == "refuted"
    assert set(verdicts.values()) == {"undecided"}
    assert "a teacher assistant is not worth its training" in README
    long = 100 * runs.loc[runs["arm"] == "hard_long", "test_accuracy_last"].mean()
    assert f"hard labels alone for as long give {long:.1f}" in words

    def points(name, places, sign=1):
        return in_words(found[name], places, sign)

    assert f"adds {points('assistant', 2)} points to the direct one" in words
    assert f"together gains {points('assistant_budget', 1, -1)} points more" in words
    assert f"undecided: {points('assistant_alone', 1)} and" in words
    assert f"and {points('assistant_full', 1).replace('-0.0 ', '0.0 ')} points" in words
    assert f"from commit {results.meta(ASSISTANT)['commit']}:" in words


def test_what_is_said_of_sizes_is_so():
    page = (ROOT / "results/cifar10.md").read_text()
    words, tables = " ".join(page.split()), size_equivalence.STUDY.tables(SIZES)
    runs, factors = tables["runs"], tables["factors"].set_index(["arm", "width"])
    scores = (100 * runs["test_accuracy_last"]).groupby([runs["arm"], runs["width"]])
    shown = scores.agg(format_mean)
    for width, parameters in runs.groupby("width")["parameters"].first().items():
        row, last = f"| {parameters} | {shown['hard', width]} |", " | |"
        if width < runs["width"].max():
            own = size_equivalence.in_words(factors.loc["distilled", width])
            last = f" {shown['distilled', width]} | {own} |"
        assert row + last in page
    for name in ("four_times", "four_times_narrow"):
        claim = size_equivalence.CLAIMS[name]
        assert verdict(claim, measured(claim, tables)) == "refuted"
    usual = factors.loc["distilled", size_equivalence.USUAL]
    says = f"as good as one of {usual['factor']:.1f} times"
    assert says in words
    assert f"matches one of {usual['factor']:.1f} times its size" in README
    long = size_equivalence.in_words(factors.loc["hard_long", size_equivalence.USUAL])
    assert f"labels replace a factor of {long}" in words
    assert f"from commit {results.meta(SIZES)['commit']}:" in words


def test_what_is_said_of_temperature_and_alpha_on_cifar10_is_so():
    page = (ROOT / "results/cifar10.md").read_text()
    words, name = " ".join(page.split()), "temperature_alpha_cifar10"
    runs = results.load(name).assign(score=lambda t: 100 * t["test_accuracy_last"])
    hinton = runs[runs["arm"] == "hinton"]
    cells = hinton.groupby(["temperature", "alpha"])["score"].agg(format_mean).unstack()
    for temperature, row in cells.iterrows():
        assert f"| {temperature:g} | {' | '.join(row)} |" in page
    others = runs[runs["arm"] != "hinton"].groupby("arm")["score"].agg(format_mean)
    shares = results.load(name, "shares").set_index(["images", "arm"])
    for arm, cell in others.items():
        row = f"| `{arm}` | {cell} |"
        if arm in ("hard", "whole"):
            row += 2 * f" {int(arm == 'whole')} |"
        else:
            for images in ("all", "alike"):
                found = shares.loc[(images, arm)]
                numbers = (found[f"share{end}"] for end in ("", "_low", "_high"))
                row += " {:.2f} ({:.2f} to {:.2f}) |".format(*numbers)
        assert row in page
    share, low, high = 100 * shares.loc[("all", "dkpp")][["share", *ENDS]]
    assert f"all of it: {share:.0f} % ({low:.0f} to {high:.0f})" in README
    tables = temperature_alpha_cifar10.STUDY.tables(name)
    found = {
        n: measured(claim, tables)
        for n, claim in temperature_alpha_cifar10.CLAIMS.items()
    }
    usual, typical = found["usual"], found["typical_alpha"]
    assert f"{in_words(usual, 0)} more test errors" in words
    assert f"{in_words(typical, 0, -1)} fewer" in words
    assert f"from commit {results.meta(name)['commit']}:" in words


def test_what_is_said_of_peoples_beliefs_is_so():
    words = " ".join((ROOT / "results/cifar10.md").read_text().split())
    tables = human_beliefs.STUDY.tables("human_beliefs")
    found = {n: measured(c, tables) for n, c in human_beliefs.CLAIMS.items()}
    larger = human_beliefs.gain(tables["beliefs"], "kl", "larger")
    cats = human_beliefs.dog_less_truck
    learned = cats(tables["confusions"]) - cats(tables["confusions"], "hard")
    # Looked at after the run, so these are no claims.
    found["kl_larger"], found["cat_learned"] = map(estimate, (larger, learned))

    def said(name, places, sign=1):
        return in_words(found[name], places, sign)

    for depth in (20, 56):
        of_teacher = said(f"soft_labels_resnet-{depth}", 2).removesuffix(")")
        assert f"{of_teacher}, ResNet-{depth})" in words
    softened = [found[f"softened_resnet-{depth}"].value for depth in (20, 56)]
    assert "{:.2f} and {:.2f} nats nearer".format(*softened) in words
    for name, places, sign, more in (
        ("confusions_hard", 3, 1, "than with hard labels"),
        ("confusions_where_right", 3, 1, "on images that both get right"),
        ("kl", 2, -1, "nats nearer, but larger students"),
        ("kl_larger", 2, 1, "nats nearer still"),
        ("cat_learned", 3, 1, ""),
    ):
        assert f"{said(name, places, sign)} {more}".strip() in words
    hard = human_beliefs.by_seed(
        tables["beliefs"].query("fitted"), "confusions", "hard"
    )
    assert f"hard labels, without a teacher, have {hard.mean():.2f}, too" in words
    beliefs = tables["beliefs"].query("evaluated_at == 1 and not fitted")
    beliefs = beliefs[beliefs["reference"] == "people"]
    at_one = beliefs.groupby(["arm", "temperature"], dropna=False)["kl"].mean()
    farther = at_one["kl", 4.0] - at_one["hard"].item()
    assert f"At T = 1, distilled students are {farther:.2f} nats farther" in words
    assert f"From commit {results.meta('human_beliefs')['commit']}:" in words


def of_glue(name):
    """The page of GLUE, also as one line, and the tables of an experiment."""
    page = (ROOT / "results/glue.md").read_text()
    assert f"from commit {results.meta(name)['commit']}" in page
    return page, " ".join(page.split())


def test_what_is_said_of_recipes_is_so():
    page, words = of_glue("recipes")
    tables = recipes.STUDY.tables("recipes")
    runs = tables["runs"].set_index("seed")
    assert not runs["test_nll_last"].duplicated().any()  # no arm has another's results
    scores = {key: rows["score"] for key, rows in runs.groupby(["arm", "start"])}
    names = {"fine_tuning": "fine-tuning", **fig24_recipes.NAMES}
    names |= {"long": "fine-tuning, twice the epochs"}
    names |= {"pkd_skip_untrained": "PKD-Skip, teacher never trained"}
    del names["pkd_last"]
    rows = {(arm, "layers"): name for arm, name in names.items()}
    rows["fine_tuning", "distilbert"] = "fine-tuning, after DistilBERT's loss on words"
    assert rows.keys() == scores.keys()
    for key, name in rows.items():
        gain = estimate(scores[key] - scores["fine_tuning", "layers"])
        gain = "" if key == ("fine_tuning", "layers") else in_words(gain, 1)
        row = f"| {name} | {format_mean(scores[key])} | {gain} |"
        assert row.replace("|  |", "| |") in page
    assert f"| teacher | {tables['teachers']['score'].item():.1f} | |" in page
    for name, claim in recipes.CLAIMS.items():
        sign = -1 if name == "attention" else 1
        assert in_words(measured(claim, tables), 1, sign) in words
    worst = scores["similarity", "layers"].min()
    assert f"is at {worst:.0f} %." in words


def test_what_is_said_of_shares_of_texts_is_so():
    page, words = of_glue("data_fraction")
    tables = data_fraction.STUDY.tables("data_fraction")
    runs = data_fraction.at_usual(tables["runs"])
    scores = runs.groupby(["arm", "fraction"])["score"].agg(format_mean).unstack()
    names = {"fine_tuning": "fine-tuning", **fig24_recipes.NAMES}
    names |= {"alone": "distilled without labels"}
    names |= {"alone_reworded": "distilled without labels, words replaced"}
    for arm, each in scores.fillna("").iterrows():
        assert f"| {names[arm]} | {' | '.join(each)} |".replace("  ", " ") in page
    means = runs.groupby(["arm", "fraction"])["score"].mean().unstack()
    others = means.loc[["logit_mse", "pkd_last", "minilm", "similarity"]]
    assert (others < means.loc["hinton"]).all(axis=None)
    assert (means.loc["similarity"] < means.loc["fine_tuning"]).all()
    gains = [estimate(data_fraction.gain(runs, share)) for share in (0.01, 0.1, 1.0)]
    says = (
        "adds {} points to fine-tuning with 1 % of the texts, {} with 10 %, and nothing"
    )
    assert says.format(*(in_words(gain, 1) for gain in gains[:2])) in words
    assert gains[2].low < 0 < gains[2].high
    for name, claim in data_fraction.STUDY.claims.items():
        places = 2 if name == "order" else 1
        assert in_words(found := measured(claim, tables), places) in words
        if name == "reworded":
            both = in_words(gains[0], 1), in_words(found, 1)
            says = (
                "Hinton's loss adds {} points to fine-tuning, and replaced words add "
                "{} to distillation without labels."
            )
            assert says.format(*both) in " ".join(README.split())


def test_what_is_said_of_embeddings_is_so():
    page, words = of_glue("embeddings")
    tables = embeddings.STUDY.tables("embeddings")
    columns = [
        (score, width)
        for score in ("spearman", "recall1_mrpc", "recall1_qqp_9k")
        for width in (32, 64)
    ]
    runs, two = tables["runs"], "teacher == 'minilm' and layers == 2"
    means = runs.query(two).groupby(["arm", "width"])
    shown = means[[score for score, _ in columns[::2]]].agg(format_mean)
    for group in fig29_embeddings.GROUPS.values():
        for arm, label in group.items():
            cells = [shown.loc[(arm, width), score] for score, width in columns]
            assert f"| {label} | {' | '.join(cells)} |" in page
    own = tables["teachers"].set_index(["teacher", "width"])
    for label, rows in (
        ("teacher, reduced", own.loc["minilm"]),
        ("before training", tables["drawn"].query("layers == 2").set_index("width")),
    ):
        cells = [f"{rows.loc[width, score]:.1f}" for score, width in columns]
        assert f"| {label} | {' | '.join(cells)} |" in page
    whole = [f"{own.loc[('minilm', 384), score]:.1f}" for score, _ in columns]
    assert f"| teacher | {' | '.join(whole)} |" in page
    for name, claim in embeddings.CLAIMS.items():
        sign = 1 if name == "teacher_spearman" else -1
        assert in_words(found := measured(claim, tables), 1, sign) in words
        if name == "relations_spearman":
            assert f"by {in_words(found, 1, sign)} points." in README
    scores = runs.groupby(["arm", "width"])["recall1_qqp_9k"].mean().unstack()
    assert scores.idxmax().tolist() == ["reduced"] * 2
    relations = scores.loc[list(RELATIONS)]
    assert relations.idxmax().tolist() == ["info_nce"] * 2
    cosine = runs[(runs["arm"] == "cosine") & (runs["width"] == 64)]
    cells = cosine.groupby(["teacher", "layers"])["spearman"]
    each = [f"{cells.mean()['minilm', layers]:.1f}" for layers in (1, 2, 3)]
    assert "{}, {} and {} % on STS-B".format(*each) in words
    for teacher in ("mpnet", "untrained"):
        assert format_mean(cells.get_group((teacher, 2))) in words
    assert f"itself better ({own.loc[('mpnet', 768), 'spearman']:.1f} %)" in words


def test_what_is_said_of_the_first_run_of_recipes_is_so():
    page, name = (ROOT / "results/glue.md").read_text(), "recipes_first_run"
    runs, tasks = results.load(name), ["sst2", "mrpc", "stsb"]
    tuned = runs[runs["arm"] == "fine_tuning"]
    scores = tuned.groupby(["start", "task"])["score"].agg(format_mean).unstack()
    for start, words in (
        ("tinybert", "TinyBERT's loss without labels"),
        ("minilm", "MiniLM's loss without labels"),
        ("none", "random weights"),
    ):
        assert f"| {words} | {' | '.join(scores.loc[start, tasks])} |" in page
    own = results.load(name, "teachers").set_index("task").loc[tasks, "score"]
    assert f"| teacher | {' | '.join(f'{score:.1f}' for score in own)} |" in page
    means = tuned.groupby(["seed", "start"])["score"].mean().unstack()
    cost = estimate(means["none"] - means["tinybert"])
    words = " ".join(page.split())
    assert f"{in_words(cost, 1)} points, mean over the tasks" in words
    assert f"from commit {results.meta(name)['commit']}:" in page


def test_what_is_said_of_skewed_divergences_is_so():
    words = " ".join((ROOT / "results/language.md").read_text().split())
    tables = skew_stability.STUDY.tables("skew_stability")
    for name, claim in skew_stability.CLAIMS.items():
        sign = -1 if name == "clipping" else 1
        if name != "slows":
            assert in_words(measured(claim, tables), 2, sign) in words
    runs, cosines = tables["runs"], tables["cosines"].groupby("skew")["cosine"].mean()
    cold = runs[(runs["start"] == "cold") & np.isinf(runs["clip"])]
    ends = runs[(runs["start"] == "cold") & (runs["power"] == 0)]
    ends = ends.groupby(["skew", "clip"])["test_both_kl"].mean()
    each = (ends[cell] for cell in ((0.1, np.inf), (0.0, np.inf), (0.0, 1.0)))
    says = (
        "{:.2f} nats with a skew of 0.1, at {:.2f} without, and at {:.2f} without but"
    )
    assert says.format(*each) in words
    spikes = cold[cold["power"] == 0].groupby("skew")["spikes"].mean()
    assert f"{spikes[0.1]:.1f} instead of {spikes[0.0]:.1f} in 1,024 steps" in words
    # The target is reached by none of these, and counts as reached in the last step.
    assert (cold.query("skew in (0.1, 0.5)")["steps_to_target"] == 1024).all()
    assert (
        f"from {cosines[0.0]:.2f} without a skew to {cosines[0.5]:.2f} at 0.5" in words
    )
    assert f"From commit {results.meta('skew_stability')['commit']}:" in words


def test_what_is_said_of_divergences_is_so():
    page = (ROOT / "results/language.md").read_text()
    words, tables = " ".join(page.split()), divergences.STUDY.tables("divergences")
    runs = fig30_divergences.named(tables["runs"]).query("size == 'starved'")
    of_cells = runs.groupby(["name", "texts"])["test_both_kl"]
    shown = of_cells.agg(partial(format_mean, digits=2)).unstack()
    for loss, label in fig30_divergences.LOSSES.items():
        cells = shown.loc[loss, ["teacher", "mixed", "student"]]
        assert f"| {label} | {' | '.join(cells)} |" in page
    for loss, label in (
        ("likelihood", "maximum likelihood"),
        ("long", "forward KL, twice the steps"),
    ):
        assert f"| {label} | {shown.loc[loss, 'teacher']} | | |" in page
    for name, claim in divergences.CLAIMS.items():
        sign = -1 if name in ("seeks", "texts", "compromise") else 1
        assert in_words(measured(claim, tables), 2, sign) in words, name
    means = runs.groupby(["name", "texts"])["test_both_kl"].mean()
    best = [("adaptive_kl", "student"), ("forward_kl", "student")]
    assert sorted(means.nsmallest(2).index) == best
    rates = tables["runs"]["learning_rate"]
    few = tables["runs"][np.isclose(rates, tables["search"]["learning_rate"].min())]
    assert set(zip(few["size"], few["loss"], few["texts"], strict=True)) == {
        ("starved", "reverse_kl", "teacher"),
        ("starved", "total_variation", "student"),
        ("ample", "reverse_kl", "student"),
        ("ample", "reverse_kl_4", "student"),
        ("ample", "forward_kl_4", "teacher"),
    }
    assert f"From commit {results.meta('divergences')['commit']}:" in words


def test_what_is_said_of_temperatures_is_so():
    alone = "arm == 'distilled' and alpha == 1 and temperature >= 3"
    runs = results.load("temperature_width").query(alone).query("student_width >= 100")
    means = runs.groupby(["student_width", "temperature"])[ERRORS].mean().unstack()
    most = (means.max(axis=1) / means.min(axis=1) - 1).max()
    assert f"differ by at most {100 * most:.0f} % in test errors" in README
    assert f"differ by at most {100 * most:.0f} % in test errors" in RESULTS
    best = results.load("temperature_width", "best").query("alpha == 1")
    ends = best.set_index("student_width")[["best_low", "best_high"]]
    words = " ".join(RESULTS.split())
    assert "do best at T from {:g} to {:g}, those".format(*ends.loc[10]) in words
    assert "with 30 from {:g} to {:g}.".format(*ends.loc[30]) in words
    both = ends.loc[[10, 30]]
    said = "do best at temperatures T of {:g} to {:g};"
    said = said.format(both["best_low"].min(), both["best_high"].max())
    assert said in " ".join(README.split())
    runs = results.load("temperature_alpha").query("student_width == 30")
    of_seeds = runs.query("loss == 'hinton'").set_index("seed").sort_index()
    best = of_seeds.query("temperature == 3 and alpha == 0.75")["test_accuracy_last"]
    hard = of_seeds.query("alpha == 0")["test_accuracy_last"]
    gain = interval(100 * (best - hard))
    assert "with 30 it gains {:.2f} ± {:.2f} percentage".format(*gain) in " ".join(
        RESULTS.split()
    )


def test_jitter_gains_as_much_as_the_teacher():
    runs = results.load("what_is_dark").query("fraction == 1")
    table = runs.pivot(index="seed", columns="arm", values=ERRORS)
    found = estimate(table["jitter"] - table["whole"])
    assert found.low < 0 < found.high and (table["jitter"] < table["hard"]).all()
    assert "jitter without a teacher gains as much" in README


def test_the_smallest_teacher_on_mnist_hurts_by_a_point():
    runs = results.load("capacity_gap_mnist").query("student_width == 64")
    small = "arm == 'kl' and kind == 'full' and teacher_width == 32"
    arms = (runs.query(small), runs.query("kind == 'none' and arm == 'hard'"))
    worse, usual = (100 * each["test_accuracy_last"].mean() for each in arms)
    assert 0.95 < usual - worse < 1.1
    assert "with 64 is a point worse than without." in " ".join(RESULTS.split())


def test_hintons_table_comes_from_the_committed_results():
    names = ("hinton_mnist", "hinton_refit")
    runs, metas = map(results.load, names), [results.meta(name) for name in names]
    paper, errors = metas[0]["paper"], [m["teacher"]["test"]["errors"] for m in metas]
    cells = " | ".join(f"{count:.0f}" for count in (paper["teacher"], *errors))
    assert f"| teacher, 1,200 hidden units | {cells} |" in RESULTS
    cut, cells = [], {"hard": [], "distilled": []}
    for rows in runs:
        cut.append(f"{100 * hinton.share_taken(rows).mean():.0f} %")
        for arm, found in cells.items():
            errors = interval(rows[rows["arm"] == arm][ERRORS])
            found.append("{:.1f} ± {:.1f}".format(*errors))
    for arm, name in (("hard", "hard labels"), ("distilled", "distilled")):
        assert f"| {name} | {paper[arm]} | {' | '.join(cells[arm])} |" in RESULTS
    assert f"removes {cut[0]} of the student's errors" in RESULTS
    assert f"and {cut[1]} with\nall 60,000" in RESULTS
    assert f"A teacher removes {cut[1]} of the errors" in README
    for meta in metas:
        assert f"from commit {meta['commit']}" in RESULTS


def test_the_table_of_the_omitted_digit_comes_from_the_committed_results():
    runs, meta = results.load("omitted_digit"), results.meta("omitted_digit")
    paper, stages = meta["paper"], omitted_digit.STAGES

    def cell(transfer, column, arm="distilled", *, share=1, form=".0f"):
        rows = runs[(runs["transfer"] == transfer) & (runs["arm"] == arm)]
        means = [format(share * rows[f"{column}_{s}"].mean(), form) for s in stages]
        return "{} → {} ({})".format(*means)

    errors = paper["without 3"]["errors_percent"]
    of_threes = paper["without 3"]["omitted_errors_percent"]
    counts = "{:.0f} → ({:.0f})".format(*(100 * e for e in errors))
    assert f"digits | {counts} | {cell('without 3', 'errors')} |" in RESULTS
    counts = "{:.0f} → ({:.0f})".format(*(10.1 * e for e in of_threes))
    assert f"threes | {counts} | {cell('without 3', 'omitted_errors')} |" in RESULTS
    for arm in ("hard", "naive_teacher"):
        assert (
            f"without 3: all digits | | {cell('without 3', 'errors', arm)} |" in RESULTS
        )
    shares = "{} → ({})".format(*paper["only 7 and 8"]["errors_percent"])
    here = cell("only 7 and 8", "errors", share=0.01, form=".1f")
    assert f"digits, % | {shares} | {here} |" in RESULTS
    assert f"from commit {meta['commit']}" in RESULTS
