"""Does a teacher's translation teach more than its distribution of the next word?

A small decoder learns to translate German into English (Multi30k) in one of six ways:
by maximum likelihood of the true translations; by the teacher's distribution of each of
their tokens (word-level distillation); by maximum likelihood of the teacher's
translations (sequence-level), found by beam search, greedily, or sampled once or four
times; by likelihood of the beam's candidate most like the true translation
(interpolation); by word-level distillation on the translations of beam search; or with
a peer of its own size instead of the teacher, each by word-level distillation of what
the other believes (mutual learning, which trains two networks). All but a control of
the true translations for twice the epochs train for the same number of steps, with the
learning rate selected for likelihood of the true translations, with a separate seed,
which favours these. Word-level distillation is Hinton's loss with T = 1 and equal
weights. Translations of the test pairs are decoded greedily and by beam search, with
five candidates. There is one teacher, a decoder twice as deep and wide. Nothing is
decided if students of the true translations have less than 8 points of BLEU: they can
hardly translate then.

    python -m experiments.language.translation    # estimate: 4 hours of one core
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from sacrebleu.metrics import BLEU, CHRF

from experiments.language import translating
from experiments.language.translating import BEAMS, MLE, Task, Teacher
from kdjax import losses, models, objectives
from kdjax.models import Batch, DecoderShape
from kdjax.models.generation import Written
from kdjax.progress import console
from kdjax.study import selection
from kdjax.study.arms import Arm, Tuned, all_tuned, gather, tuned
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count
from kdjax.training import Training, teacher_texts, writing
from kdjax.training.teacher import live

HINTON = objectives.on_tokens(partial(losses.hinton, temperature=1.0, alpha=0.5))
MUTUAL = objectives.mutual(HINTON)
WAYS = {
    "greedy": translating.greedily,
    "beam": translating.by_beam,
    "sampled": translating.sampled,
}
ABLE = 8.0  # BLEU of students that can translate
BLOCK = 100  # sentences that are decoded at a time


@dataclass(frozen=True)
class Config(translating.Config):
    samples: Count = 4
    """Number of translations that are sampled for each sentence."""


def texts_to_learn(its: Teacher, task: Task, config: Config) -> dict[str, Batch]:
    """The texts that students learn from, by name."""
    train = task.data.train
    samples = [
        translating.texts_of(
            its, task, translating.sampled, train, f"sample {seed + 1}", seed
        )
        for seed in range(config.samples)
    ]
    greedy = translating.texts_of(its, task, translating.greedily, train, "greedy")
    copies = {name: np.repeat(array, BEAMS, 0) for name, array in train.items()}
    every = translating.texts_of(its, task, translating.all_of_beam, copies, "beam")
    best = np.arange(len(train["tokens"])) * BEAMS
    return {
        "true": train,
        "greedy": greedy,
        "beam": at(every, best),
        "like_true": at(every, best + most_alike(task, every)),
        "sample": samples[0],
        "samples": translating.together(*samples),
    }


def at(texts: Batch, rows: np.ndarray) -> Batch:
    return {name: array[rows] for name, array in texts.items()}


def most_alike(task: Task, candidates: Batch) -> np.ndarray:
    """For each pair, the number of the candidate with the highest BLEU to the truth."""
    metric = BLEU(effective_order=True)
    true = np.repeat(task.read(task.data.train), BEAMS)
    pairs = zip(task.read(candidates), true, strict=True)
    scores = [metric.sentence_score(one, [other]).score for one, other in pairs]
    return np.reshape(scores, (-1, BEAMS)).argmax(1)


def student(
    config: Config, objective: Callable, times: int, peer: bool = False, **more: Any
) -> Training:
    model = models.decoder(translating.shape(config, config.layers, config.width))
    return Training(
        models.with_peer(model, model) if peer else model,
        objective,
        times * config.epochs,
        translating.BATCH_SIZE,
        translating.adamw,
        select=None,
        measure_epochs=times * config.epochs,
        measure_batch=BLOCK,
        **more,
    )


def true_pairs(config: Config, task: Task, extras: Callable) -> Arm:
    """Students of the true translations, for which the learning rate is selected."""
    return Arm(
        {"method": "true"},
        student(config, MLE, 1),
        task.in_batches(),
        config.seeds,
        {"learning_rate": config.learning_rates},
        partial(selection.smallest_rates, score="validation_nll_last"),
        extras=extras,
    )


def others(
    config: Config,
    task: Task,
    its: Teacher,
    texts: dict[str, Batch],
    rate: float,
    extras: Callable,
) -> Iterator[Arm]:
    """All other students, at the learning rate of those of the true translations."""
    both = student(config, HINTON, 1, teacher=live(models.decoder(its.shape)))
    alone = student(config, MLE, 1)
    cells = {
        "long": (student(config, MLE, 2), "true"),
        "mutual": (student(config, MUTUAL, 1, peer=True), "true"),
        "word": (both, "true"),
        **{name: (alone, name) for name in texts if name != "true"},
        "word_and_beam": (both, "beam"),
    }
    steps = len(task.data.train["tokens"]) // translating.BATCH_SIZE
    for method, (training, name) in cells.items():
        yield Arm(
            {"method": method},
            training,
            task.in_batches(texts[name], steps),
            config.seeds,
            {"learning_rate": [rate]},
            extras=extras,
            fixed={"teacher": its.variables},
        )


def decoded(shape: DecoderShape, new: int, prompts, mask, how, params) -> jax.Array:
    """Translations ``[N, new]`` of prompts, -1 after their end."""
    count = len(prompts)
    rows = np.resize(np.arange(count), (-(-count // BLOCK), min(BLOCK, count)))
    keys = jax.random.split(jax.random.key(1), len(rows))

    def block(given):
        texts = how(shape, new, params, *given)
        return jnp.where(texts.mask != 0, texts.tokens, -1)

    found = jax.lax.map(block, (jnp.array(prompts[rows]), jnp.array(mask[rows]), keys))
    return found.reshape(-1, new)[:count]


def nll(model, params, texts: Batch) -> jax.Array:
    """Mean nats of texts, summed over their tokens."""
    count = len(texts["tokens"])
    size = min(BLOCK, count)
    blocks = {
        n: jnp.reshape(a[: count - count % size], (-1, size, *a.shape[1:]))
        for n, a in texts.items()
    }

    def block(rows):
        logits = model.apply({"params": params, "state": {}}, rows)[0].logits
        values = losses.cross_entropy(logits, rows["label"])
        return jnp.sum(values, where=rows["label"] >= 0)

    return jnp.mean(jax.lax.map(block, blocks)) / size


def of_students(config: Config, task: Task, samples: Batch) -> Callable:
    """Translations of the test pairs, and the coverage risk, of a student."""
    shape = translating.shape(config, config.layers, config.width)
    given = task.new, *teacher_texts.prompts_of(task.data.test)
    rows = {name: np.asarray(samples[name]) for name in ("tokens", "mask", "label")}

    def extras(variables, data):
        params = variables["params"]
        params = params.get("student", params)  # without its peer
        found = {n: decoded(shape, *given, how, params) for n, how in WAYS.items()}
        return {**found, "coverage": nll(models.decoder(shape), params, rows)}

    return extras


def scored(task: Task, its: Teacher, found: dict[str, np.ndarray]) -> pd.DataFrame:
    """Scores of translations ``[runs, N, new]`` by way of decoding, one row per run."""
    prompts, mask = teacher_texts.prompts_of(task.data.test)
    risk = jax.jit(partial(nll, models.decoder(its.shape)))
    rows = []
    for number in range(len(found["greedy"])):
        row = {}
        for way in WAYS:
            own = found[way][number]
            said = task.tokenizer.decode_batch(
                [[int(i) for i in line if i > translating.END] for line in own]
            )
            for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
                row[f"{name}_{way}"] = metric.corpus_score(
                    said, [task.references]
                ).score
        drawn = found["sampled"][number]
        texts = Written(np.maximum(drawn, 0), drawn >= 0, np.zeros(drawn.shape))
        batch = writing.continued(prompts, mask, texts)
        row["likelihood_risk"] = float(risk(its.params, batch))
        rows.append({**row, "coverage_risk": float(found["coverage"][number])})
    return pd.DataFrame(rows)


def with_scores(task: Task, its: Teacher, one: Arm, each: Tuned) -> tuple[Arm, Tuned]:
    scores = scored(task, its, each.extras)
    runs = pd.concat([each.runs.reset_index(drop=True), scores], axis=1)
    return one.without_data(), each._replace(runs=runs, extras={})


def run(config, task):
    its = translating.teacher(config, task)
    samples = translating.texts_of(
        its, task, translating.sampled, task.data.test, "test", config.samples
    )
    scores = of_teacher(task, its, samples)
    bleu = float(scores["bleu_greedy"].iloc[0])
    console.print(f"the teacher has {bleu:.1f} points of BLEU, decoded greedily")
    texts = texts_to_learn(its, task, config)
    extras = of_students(config, task, samples)
    first = true_pairs(config, task, extras)
    found = [with_scores(task, its, first, tuned(first))]
    rate = float(found[0][1].runs["learning_rate"].iloc[0])
    arms = partial(others, config, task, its, texts, rate, extras)
    found += [with_scores(task, its, one, each) for one, each in all_tuned(arms)]
    tables, seconds = gather(found)
    tables = {name: tables[name] for name in ("runs", "search")}
    tables["teacher"] = scores
    tables["texts"] = of_texts(task, texts)
    return Outcome(tables, {"teacher": its.facts, "seconds": round(seconds)})


def of_teacher(task: Task, its: Teacher, samples: Batch) -> pd.DataFrame:
    """The teacher's own scores."""
    given = task.new, *teacher_texts.prompts_of(task.data.test)
    one = jax.jit(
        lambda how, params: decoded(its.shape, *given, how, params), static_argnums=0
    )
    found = {way: np.asarray(one(how, its.params))[None] for way, how in WAYS.items()}
    rows = {name: np.asarray(samples[name]) for name in ("tokens", "mask", "label")}
    coverage = jax.jit(partial(nll, models.decoder(its.shape)))(its.params, rows)
    return scored(task, its, {**found, "coverage": np.asarray(coverage)[None]})


def of_texts(task: Task, texts: dict[str, Batch]) -> pd.DataFrame:
    """How like the true translations the texts to learn from are."""
    true, rows = task.read(task.data.train), []
    for name, batch in texts.items():
        said = task.read(batch)[: len(true)]
        score = BLEU().corpus_score(said, [true]).score
        tokens = (np.asarray(batch["label"]) >= 0).sum(1).mean()
        rows.append({"texts": name, "bleu": score, "tokens": tokens})
    return pd.DataFrame(rows)


def scores(runs, name="bleu_greedy"):
    """A number by seed and method; NaN if students can hardly translate."""
    able = runs.loc[runs["method"] == "true", "bleu_greedy"].mean() >= ABLE
    table = runs.pivot(index="seed", columns="method", values=name)
    return table if able else np.nan * table


def lead(runs, one, other, name="bleu_greedy"):
    """``[seeds]``, a number of one method minus that of another."""
    table = scores(runs, name)
    return (table[one] - table[other]).to_numpy()


def closes(runs):
    """``[seeds]``, points of BLEU that beam texts add to greedy decoding over beam."""
    return lead(runs, "beam", "true") - lead(runs, "beam", "true", "bleu_beam")


def together(runs):
    """``[seeds]``, points of both over the better of word level and beam texts.

    Which is better is judged by the other seeds.
    """
    table = scores(runs)
    either = table[["word", "beam"]].to_numpy().T
    best = selection.best_by_others(either, -either)
    return table["word_and_beam"].to_numpy() - best


def show(tables, meta):
    runs = tables["runs"]
    names = ("bleu_greedy", "bleu_beam", "likelihood_risk", "coverage_risk")
    shown = runs.groupby("method", sort=False)[list(names)].agg(format_mean)
    print_table(shown, "students")
    print_table(tables["teacher"][list(names)].round(1), "teacher")
    print_table(tables["texts"].set_index("texts").round(1), "texts to learn from")


POINTS = "points of BLEU, decoded greedily,"
CLAIMS = {
    "beam_greedy": Claim(
        "Learning what the teacher writes is better than the true translations",
        f"{POINTS} that texts found by beam search add over the true ones",
        partial(lead, one="beam", other="true"),
        above(0.0),
    ),
    "beam_beam": Claim(
        "So it is if the student searches, too",
        "points of BLEU, decoded by beam search, that texts found by beam search add "
        "over the true ones",
        partial(lead, one="beam", other="true", name="bleu_beam"),
        above(0.0),
    ),
    "closes": Claim(
        "What the teacher writes helps greedy decoding most",
        "points of BLEU of the gain in greedy decoding over that in beam search",
        closes,
        above(0.0),
    ),
    "word": Claim(
        "The teacher's distribution is better than the true words alone",
        f"{POINTS} that word-level distillation adds over the true translations",
        partial(lead, one="word", other="true"),
        above(0.0),
    ),
    "loses": Claim(
        "Sequence-level distillation loses signal that word-level has",
        f"{POINTS} that word-level distillation adds to texts found by beam search",
        partial(lead, one="word_and_beam", other="beam"),
        above(0.0),
    ),
    "together": Claim(
        "Word and sequence level together are best",
        f"{POINTS} of both together over the better one",
        together,
        above(0.0),
    ),
    "search": Claim(
        "Texts found by beam search teach more than sampled ones",
        f"{POINTS} of texts found by beam search over samples, one of each sentence",
        partial(lead, one="beam", other="sample"),
        above(0.0),
    ),
    "like_true": Claim(
        "The candidate that is most like the truth teaches more than the best",
        f"{POINTS} of interpolation over texts found by beam search",
        partial(lead, one="like_true", other="beam"),
        above(0.0),
    ),
    "mutual": Claim(
        "A peer that learns beside the student teaches more than a trained teacher",
        f"{POINTS} of mutual learning over word-level distillation",
        partial(lead, one="mutual", other="word"),
        above(0.0),
    ),
    "mutual_worth": Claim(
        "A peer is worth more than twice the epochs",
        f"{POINTS} of mutual learning over the true translations for twice the epochs",
        partial(lead, one="mutual", other="long"),
        above(0.0),
    ),
    "worth": Claim(
        "A teacher is worth more than twice the epochs",
        f"{POINTS} of word level and beam search over the true translations for twice "
        "the epochs",
        partial(lead, one="word_and_beam", other="long"),
        above(0.0),
    ),
}
STUDY = Study(
    "translation",
    __doc__,
    Config,
    run,
    show,
    cost="4 hours of one core",
    published={},
    quick={"train": 640, "test": 20, "vocabulary": 512, "teacher_layers": 1}
    | {"teacher_width": 64, "teacher_epochs": 1, "layers": 1, "width": 32}
    | {"epochs": 1, "learning_rates": (2e-3,), "seeds": 1, "samples": 1},
    claims=CLAIMS,
    load=translating.load,
)

if __name__ == "__main__":
    main(STUDY)
