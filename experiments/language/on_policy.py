"""Are a student's own texts worth the time to write them, and can it be shorter?

A small decoder that has learned to translate by maximum likelihood (Multi30k) goes on
to learn from its teacher: by forward or reverse KL of the true translations, which
needs no text of its own; by reverse KL of its own; by GKD on half of each; by MiniLLM,
with tokens sampled from a mixture with the teacher's, without each of its three parts,
and with the policy loss of its code; by skewed KL of its own texts for half of each
batch, newly written or from DistiLLM's buffer; or by the loss of DistiLLM-2, on the
teacher's translations and its own. A control learns by reverse KL for twice the steps.
What the papers have beside this, such as a loss on other texts and several steps per
text in MiniLLM, or the curriculum of DistiLLM-2, is left out.

All students begin from the same one, so that intervals are over the order of the pairs
and what is sampled. Each method has its learning rate selected by BLEU of validation
pairs, with a separate seed. Scores are of the test pairs, decoded greedily. Seconds are
those of steps on one device, timed in turns after the training, with what the student
writes, but without measurements and what the teacher wrote before.

    python -m experiments.language.on_policy    # estimate: 3 hours of one core
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from sacrebleu.metrics import BLEU

from experiments.language import timing, translating, translation
from experiments.language.translating import END, Task, Teacher
from kdjax import losses, models, objectives
from kdjax.data import Data, bucketed
from kdjax.models import Batch, DecoderShape
from kdjax.progress import console
from kdjax.study.arms import SEARCH_SEED
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean, ratio
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Positive, Positives
from kdjax.sweep import sweep
from kdjax.training import Training, start, teacher_texts, train, views, writing
from kdjax.training.replay import distillm
from kdjax.training.teacher import live

LENGTH, PROMPT = 48, 24  # tokens of a pair, and at most of its prompt
BATCH_SIZE = 32
SKEW = 0.1  # of DistiLLM's losses
Name = Literal[
    "off_policy",
    "off_policy_long",
    "off_policy_reverse",
    "on_policy",
    "gkd",
    "minillm",
    "minillm_not_mixed",
    "minillm_not_normalised",
    "minillm_not_single",
    "minillm_code",
    "own_half",
    "distillm",
    "distillm_2",
]


@dataclass(frozen=True)
class Config(translating.Config):
    methods: tuple[Name, ...] = get_args(Name)
    """How students learn."""
    warm_epochs: Count = 2
    """Epochs of learning by maximum likelihood at the beginning."""
    warm_rate: Positive = 8e-3
    """Peak learning rate at the beginning (AdamW)."""
    epochs: Count = 6
    """Epochs of a method, each followed by a measurement of the validation pairs."""
    steps: Count = 40
    """Steps of each of these epochs."""
    learning_rates: Positives = (3e-4, 1e-3, 3e-3)
    """Peak learning rates of a method (AdamW) to select from."""
    validation: Count = 200
    """Number of validation pairs to measure on after each epoch."""
    rounds: Count = 4
    """Rounds in which the steps of each method are timed, in turns."""


class Method(NamedTuple):
    """What a student learns by, and from whose texts."""

    objective: Callable
    view: views.View = views.unchanged
    times: int = 1  # the usual epochs
    taught: bool = False  # other texts are the teacher's instead of the true ones


def tokens(loss: Callable, **fixed: float) -> Callable:
    """The mean of a divergence over the tokens of each text."""
    return objectives.on_tokens(partial(_divergence, loss, fixed))


def _divergence(loss, fixed, student_logits, teacher_logits):
    return loss(student_logits, teacher_logits, **fixed)


def per_token(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Sums over texts ``[B]``, over the mean number of tokens of a text in the batch.

    Over its own number, a short text would weigh more, which is a normalisation by
    length in itself.
    """
    return values / jnp.maximum(jnp.mean(jnp.sum(counts, 1)), 1)


def minillm(student, teacher, batch, *, share=0.2, normalised=True, single=True):
    """MiniLLM's loss, without the exact part of a step if not ``single``."""
    given = student.logits, teacher.logits, batch["label"]
    counts = batch["label"] >= 0
    settings = {"teacher_share": share, "mask": counts}
    values = losses.minillm(*given, length_normalized=normalised, **settings)
    if not single:  # the token's own reward by REINFORCE, too
        weights = losses.importance_weights(*given, teacher_share=share)
        rewards = jax.lax.stop_gradient(losses.sampled_log_ratio(*given))
        exact = losses.reverse_kl(*given[:2])
        sampled = rewards * losses.cross_entropy(student.logits, batch["label"])
        values += jnp.sum(weights * (sampled - exact), 1, where=counts)
    return per_token(values, counts)


def minillm_code(student, teacher, batch, *, share=0.2, discount=0.95):
    """As in MiniLLM's code: whitened advantages that include a token's own reward.

    The importance weight is part of the ratio that is clipped, and the exact part has
    none.
    """
    given, counts = (
        (student.logits, teacher.logits, batch["label"]),
        batch["label"] >= 0,
    )
    rewards = jax.lax.stop_gradient(losses.sampled_log_ratio(*given))
    to_go = losses.mean_reward_to_go(rewards, discount=discount, mask=counts)
    advantages = losses.whiten(to_go, mask=counts)
    weights = losses.importance_weights(*given, teacher_share=share)
    own = -jax.lax.stop_gradient(losses.cross_entropy(student.logits, batch["label"]))
    old = own - jnp.log(jnp.where(counts, weights, 1))
    long = losses.clipped_policy_loss(
        student.logits, batch["label"], old, advantages, mask=counts
    )
    values = long + losses.reverse_kl(*given[:2])
    return per_token(jnp.sum(values, 1, where=counts), counts)


def distillm_2(student, teacher, batch):
    """Skewed forward KL of the teacher's texts, skewed reverse KL of the student's."""
    own = batch["from_student"][:, None]
    values = jnp.where(
        own,
        losses.skew_reverse_kl(student.logits, teacher.logits, skew=SKEW),
        losses.skew_forward_kl(student.logits, teacher.logits, skew=SKEW),
    )
    return losses.sequence_mean(values, batch["label"] >= 0)


def methods(config: Config, shape: DecoderShape, its: Teacher) -> dict[str, Method]:
    """All methods by name."""
    writes = partial(writing.by_student, shape, prompt=PROMPT, end=END)
    mixed = writes(teacher=its.shape, teacher_share=0.2)
    total = config.epochs * config.steps
    buffer = {"steps": total, "first_share": 0.5, "batches": 32}
    gkd = partial(losses.gkd, student_share=0.5, beta=0.1)
    return {
        "off_policy": Method(tokens(losses.forward_kl)),
        "off_policy_long": Method(tokens(losses.reverse_kl), times=2),
        "off_policy_reverse": Method(tokens(losses.reverse_kl)),
        "on_policy": Method(tokens(losses.reverse_kl), writes()),
        "gkd": Method(objectives.on_texts(gkd), writes(share=0.5)),
        "minillm": Method(minillm, mixed),
        "minillm_not_mixed": Method(partial(minillm, share=0.0), writes()),
        "minillm_not_normalised": Method(partial(minillm, normalised=False), mixed),
        "minillm_not_single": Method(partial(minillm, single=False), mixed),
        "minillm_code": Method(minillm_code, mixed),
        "own_half": Method(
            tokens(losses.skew_forward_kl, skew=SKEW), writes(share=0.5)
        ),
        "distillm": Method(
            tokens(losses.skew_forward_kl, skew=SKEW),
            distillm(shape, prompt=PROMPT, end=END, **buffer),
        ),
        "distillm_2": Method(distillm_2, writes(share=0.5), taught=True),
    }


def short(texts: Batch) -> Batch:
    """The texts whose prompt and answer have places, cut to the usual length."""
    prompts, ends = np.asarray(texts["prompt_length"]), np.asarray(texts["mask"]).sum(1)
    kept = (prompts <= PROMPT) & (ends <= LENGTH) & (ends - prompts <= LENGTH - PROMPT)
    found = {}
    for name, array in texts.items():
        rows = np.asarray(array)[kept]
        found[name] = rows if rows.ndim == 1 else padded(rows[:, :LENGTH], name)
    return found


def in_batches(config: Config, task: Task, texts: Batch) -> Data:
    """Texts to learn from, and validation pairs to measure on."""
    stream = bucketed(short(texts), BATCH_SIZE, lengths=[LENGTH], steps=config.steps)
    few = short(task.data.validation)
    return Data(stream, {n: array[: config.validation] for n, array in few.items()})


def padded(rows: np.ndarray, name: str) -> np.ndarray:
    """Rows of tokens, with places for the usual length."""
    fill = -1 if name == "label" else 0
    more = LENGTH - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, more)), constant_values=fill)


def warm(config: Config, task: Task, shape: DecoderShape) -> dict[str, Any]:
    """A student that has learned by maximum likelihood, from which all begin."""
    training = Training(
        models.decoder(shape),
        translating.MLE,
        config.warm_epochs,
        translating.BATCH_SIZE,
        translating.adamw,
        select=None,
        measure_epochs=config.warm_epochs,
        measure_batch=100,
    )
    trained = train(
        training,
        {"learning_rate": config.warm_rate},
        data=task.in_batches()._replace(test=None),
        key=jax.random.key(0),
        name="student, by maximum likelihood",
    )
    return trained.variables["params"]


def student(config: Config, shape: DecoderShape, its: Teacher, own: Method) -> Training:
    epochs = own.times * config.epochs
    return Training(
        models.decoder(shape),
        own.objective,
        epochs,
        BATCH_SIZE,
        translating.adamw,
        teacher=live(models.decoder(its.shape)),
        view=own.view,
        start=start.pretrained,
        select=None,
        measure_batch=100,
    )


def translated(shape: DecoderShape, new: int, texts: Batch) -> Callable:
    """Greedy translations of texts, as extras of a sweep."""
    prompts = teacher_texts.prompts_of(texts)

    def extras(variables, data):
        how = translating.greedily
        own = variables["params"]
        return {"greedy": translation.decoded(shape, new, *prompts, how, own)}

    return extras


def bleu(task: Task, lines: np.ndarray, references: list[str]) -> float:
    """BLEU of translations, -1 after their end."""
    ids = [[int(i) for i in line if i > END] for line in lines]
    said = task.tokenizer.decode_batch(ids)
    return BLEU().corpus_score(said, [references]).score


class Trained(NamedTuple):
    """What all methods share."""

    config: Config
    task: Task
    shape: DecoderShape
    its: Teacher
    true: Data
    taught: Data | None  # with the teacher's texts to learn from
    fixed: dict[str, Any]

    def data(self, method: Method) -> Data | None:
        """What a method learns from."""
        return self.taught if method.taught else self.true


def swept(own: Trained, method: Method, rates, seeds, texts: Batch, name: str):
    """Students of some seeds, and their translations."""
    found = sweep(
        student(own.config, own.shape, own.its, method),
        {"learning_rate": rates},
        data=own.data(method),
        seeds=seeds,
        name=name,
        fixed=own.fixed,
        extras=translated(own.shape, own.task.new, texts),
        vectorized=False,
    )
    return found.runs, found.extras["greedy"], found.seconds


def of_method(own: Trained, name: str, method: Method) -> tuple[Any, Any, float]:
    """The students of a method, the search for their learning rate, and seconds."""
    config, task = own.config, own.task
    pairs = task.data.validation
    rates, true = list(config.learning_rates), task.read(pairs)
    given = rates, [SEARCH_SEED], pairs, f"{name}: search"
    search, said, seconds = swept(own, method, *given)
    search["validation_bleu"] = [bleu(task, lines, true) for lines in said]
    rate = [rates[int(search["validation_bleu"].argmax())]]
    given = rate, range(config.seeds), task.data.test, name
    runs, said, more = swept(own, method, *given)
    runs["bleu"] = [bleu(task, lines, task.references) for lines in said]
    runs["length"] = [(lines >= 0).sum(1).mean() for lines in said]
    return runs.assign(method=name), search.assign(method=name), seconds + more


def timed(own: Trained, every: dict[str, Method]) -> pd.DataFrame:
    """Seconds of a step of each method, in some rounds.

    Those of DistiLLM, which writes ever less often, are of all steps of a training.
    """
    config, cells = own.config, {}
    for name, method in every.items():
        training = student(config, own.shape, own.its, method)
        steps = config.steps * (config.epochs if name == "distillm" else 1)
        cells[name] = timing.Timed(training, own.data(method), steps)
    return timing.in_turns(
        cells, {"learning_rate": 1e-3}, own.fixed, rounds=config.rounds
    )


def run(config, task):
    its = translating.teacher(config, task)
    shape = translating.shape(config, config.layers, config.width)
    begun = warm(config, task, shape)
    every = methods(config, shape, its)
    every = {name: every[name] for name in config.methods}
    true, taught = in_batches(config, task, task.data.train), None
    if any(method.taught for method in every.values()):
        given = its, task, translating.sampled, task.data.train, "sample 1"
        taught = in_batches(config, task, translating.texts_of(*given))
    fixed = {"teacher": its.variables, "start": begun}
    own = Trained(config, task, shape, its, true, taught, fixed)
    given = task.new, *teacher_texts.prompts_of(task.data.test)
    scores = {}
    for name, each, params in (
        ("teacher", its.shape, its.params),
        ("by maximum likelihood", shape, begun),
    ):
        how = partial(translation.decoded, each, *given, translating.greedily)
        scores[name] = bleu(task, np.asarray(jax.jit(how)(params)), task.references)
        console.print(f"{name}: {scores[name]:.1f} points of BLEU")
    *found, spent = zip(*(of_method(own, *each) for each in every.items()), strict=True)
    runs, search = (pd.concat(each, ignore_index=True) for each in found)
    turns = timed(own, every)
    steps = {n: each.times * config.epochs * config.steps for n, each in every.items()}
    of_step = turns.groupby("method")["seconds"].mean()
    runs["seconds"] = runs["method"].map(lambda name: steps[name] * of_step[name])
    facts = {"teacher": its.facts, "bleu": scores, "seconds": round(sum(spent))}
    return Outcome({"runs": runs, "search": search, "timing": turns}, facts)


def runs_of(runs, method, name="bleu"):
    """``[seeds]``, a number of the students of a method."""
    return runs[runs["method"] == method].sort_values("seed")[name].to_numpy()


def lead(runs, one, other):
    """``[seeds]``, points of BLEU of one method over another."""
    return runs_of(runs, one) - runs_of(runs, other)


def worth(runs):
    """``[seeds]``, points of BLEU over reverse KL of true texts for as many seconds.

    Between the usual steps and twice as many, BLEU is linear in the seconds. NaN if own
    texts take longer than twice as many steps.
    """
    arms = ("off_policy_reverse", "off_policy_long")
    fast, slow, own = (runs_of(runs, m, "seconds") for m in (*arms, "on_policy"))
    share = np.maximum((own - fast) / (slow - fast), 0)
    share = np.where(share > 1, np.nan, share)
    few, many = (runs_of(runs, method) for method in arms)
    return runs_of(runs, "on_policy") - few - share * (many - few)


def seconds_of(turns, method):
    """``[rounds]``, seconds of a step."""
    return turns[turns["method"] == method].sort_values("round")["seconds"].to_numpy()


def times_faster(turns, one, other):
    """How many times as long one method takes as another."""
    return ratio(seconds_of(turns, one), seconds_of(turns, other))


def saved(turns):
    """The share of the time to write that DistiLLM saves."""
    own, less, none = (
        seconds_of(turns, name) for name in ("own_half", "distillm", "off_policy")
    )
    return ratio(own - less, own - none)


def show(tables, meta):
    runs = tables["runs"]
    cells = runs.groupby("method", sort=False)[["bleu", "length", "seconds"]]
    print_table(cells.agg(format_mean), "students, decoded greedily")
    shown = pd.Series(meta["bleu"], name="BLEU").round(1).to_frame()
    print_table(shown, "before", index="decoder")


POINTS = "points of BLEU, decoded greedily,"
PARTS = {
    "not_mixed": "Sampling with the teacher makes MiniLLM better",
    "not_normalised": "Length normalisation makes MiniLLM better",
    "not_single": "The exact part of a step makes MiniLLM better",
}
CLAIMS = {
    "on_policy": Claim(
        "A student's own texts teach more than the true ones",
        f"{POINTS} of reverse KL of its own over reverse KL of the true ones",
        partial(lead, one="on_policy", other="off_policy_reverse"),
        above(0.0),
    ),
    "worth": Claim(
        "They are worth the time to write them",
        f"{POINTS} of reverse KL of its own over reverse KL of the true ones, for as "
        "many seconds",
        worth,
        above(0.0),
    ),
    "faster": Claim(
        "DistiLLM is 4.3 times as fast as learning from texts of the student alone",
        "seconds of reverse KL of its own texts over those of DistiLLM, equal steps",
        partial(times_faster, one="on_policy", other="distillm"),
        above(4.3),
        "timing",
    ),
    "saves": Claim(
        "DistiLLM's buffer saves most of the time to write",
        "share that it saves, of the seconds that the same loss with half of the texts "
        "newly written takes longer than true texts",
        saved,
        above(0.5),
        "timing",
    ),
    "as_good": Claim(
        "DistiLLM's buffer costs no quality",
        f"{POINTS} of DistiLLM over the same loss with half of the texts newly written",
        partial(lead, one="distillm", other="own_half"),
        above(-0.5),
    ),
    **{
        name: Claim(
            says,
            f"{POINTS} that it adds",
            partial(lead, one="minillm", other=f"minillm_{name}"),
            above(0.0),
        )
        for name, says in PARTS.items()
    },
    "code": Claim(
        "MiniLLM's code is as good as its paper",
        f"{POINTS} of its code over its paper",
        partial(lead, one="minillm_code", other="minillm"),
        above(-0.5),
    ),
}
STUDY = Study(
    "on_policy",
    __doc__,
    Config,
    run,
    show,
    cost="3 hours of one core",
    published={},
    quick={"train": 640, "test": 20, "vocabulary": 512, "teacher_layers": 1}
    | {"teacher_width": 64, "teacher_epochs": 1, "layers": 1, "width": 32}
    | {"warm_epochs": 1, "epochs": 1, "steps": 4, "seeds": 1, "validation": 20}
    | {"rounds": 1}
    | {"learning_rates": (1e-3,), "methods": ("minillm",)},
    claims=CLAIMS,
    load=translating.load,
)

if __name__ == "__main__":
    main(STUDY)
