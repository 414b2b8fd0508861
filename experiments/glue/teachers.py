"""Teachers of GLUE's tasks: a pretrained encoder, fine-tuned for each."""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.glue import setup, terms
from kdjax.data import Data, rewording, text
from kdjax.models import Model, Outputs, Shape, Variables
from kdjax.study.statistics import rank_correlation
from kdjax.training import train
from kdjax.training.teacher import measured
from kdjax.training.teacher_files import store_on_disk


class Teacher(NamedTuple):
    """A fine-tuned encoder, what it says of each text, and how well it does."""

    model: Model
    shape: Shape
    variables: Variables
    data: Data  # logits, pooled outputs, hidden states of the first token
    quality: dict[str, Any]


def kept(outputs: Outputs) -> Outputs:
    """What is stored of a teacher: a few numbers for each text, not for each token."""
    first = terms.first_alone(outputs).features
    return Outputs(outputs.logits, first, extras={"pooled": outputs.extras["pooled"]})


def stored(model: Model, variables: Variables, data: Data) -> Data:
    """The data with what is `kept` of a teacher's outputs."""
    return store_on_disk(
        model, variables, data, keep=kept, cut=text.cut, batch_size=250
    ).data


def fine_tuned(
    own: setup.Task, config: setup.Tasks, pretrained: setup.Encoder
) -> Teacher:
    """The encoder fine-tuned at each learning rate, of which the best is selected."""
    selected = {"select": (own.metric, "max"), "measure_epochs": 1}
    setting = setup.training(
        own, pretrained.shape, terms.labelled, config.teacher_epochs, **selected
    )
    steps = min(own.info.train // setup.BATCH_SIZE, config.teacher_steps)
    found, seconds = [], 0.0
    for rate in config.teacher_rates:
        trained = train(
            setting,
            {"learning_rate": rate},
            data=own.in_batches(steps, own.data._replace(test=None)),
            key=jax.random.key(0),
            fixed={"start": pretrained.params},
            name=f"teacher of {own.info.name}, learning rate {rate:g}",
        )
        seconds += float(trained.curves["seconds"].sum())
        curve = trained.curves[f"validation_{own.metric}"].fillna(-np.inf)
        found.append((curve.max(), rate, 1 + int(curve.argmax()), trained.best))
    _, rate, epoch, variables = max(found, key=lambda each: each[0])
    data = stored(setting.model, variables, own.data)
    scores = measured(data, *own.measures)
    quality = {
        "task": own.info.name,
        "parameters": setup.parameters(pretrained.shape),
        "learning_rate": rate,
        "epoch": epoch,
        "seconds": round(seconds),
        "metric": own.metric,
        "score": 100 * scores["test"][own.metric],
        **{f"{part}_{n}": v for part, each in scores.items() for n, v in each.items()},
    }
    if own.info.classes == 0:
        predicted = np.asarray(data.test["teacher"].logits)[:, 0]
        quality["spearman"] = 100 * rank_correlation(predicted, data.test["score"])
    return Teacher(setting.model, pretrained.shape, variables, data, quality)


def untrained(own: setup.Task, its: Teacher) -> Data:
    """The teacher's data with hidden states of an encoder that was never trained."""
    variables = its.model.init(jax.random.key(0), own.example)
    drawn = stored(its.model, variables, own.data)
    return Data(
        *(
            {**a, "teacher": a["teacher"]._replace(logits=b["teacher"].logits)}
            for a, b in zip(drawn, its.data, strict=True)
        )
    )


def reworded(
    own: setup.Task, its: Teacher, pretrained: setup.Encoder, copies: int
) -> Data:
    """The data with copies of the training texts, some of whose words are replaced.

    Neighbours of words are those of the pretrained encoder's embeddings; the teacher
    says what it thinks of every copy.
    """
    table = pretrained.params["words"]["embedding"]
    near = rewording.neighbours(pretrained.tokenizer, table)
    train = rewording.with_copies(own.data.train, near, copies=copies)
    train = stored(its.model, its.variables, Data(train)).train
    return its.data._replace(train=train)
