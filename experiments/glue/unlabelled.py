"""Students before they learn a task: distillation without labels, on many texts.

A student that has every other layer of the encoder may learn as DistilBERT: to predict
masked words as the encoder does, for which the encoder gets a head for words first. It
is trained on the same texts, while the encoder stays as it is.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import optax

from experiments.glue import terms
from experiments.glue.setup import BATCH_SIZE, Encoder, Tasks, adamw
from experiments.glue.students import Name as Student
from experiments.glue.students import students
from kdjax import models
from kdjax.data import Data
from kdjax.losses.ranges import Positive
from kdjax.models import hugging_face
from kdjax.training import Training, start, train, views
from kdjax.training.teacher import live

WORD_HEAD = "word_"  # names of its parameters begin so
Wide = Literal["layers", "distilbert"]  # how the student that is as wide begins
LAYERS, DISTILBERT = get_args(Wide)


class Beginning(NamedTuple):
    """Parameters to begin from, and the seconds that they took."""

    params: dict[str, Any] | None  # None for those that are drawn
    seconds: float


def beginning(
    name: Student, way: str, config: Tasks, texts: Data, own: Encoder
) -> Beginning:
    """A student before it learns a task.

    In the way ``layers`` it has layers of the encoder; in the way ``distilbert`` it has
    learned from there to predict masked words; in the way ``none`` its weights are yet
    to be drawn. Otherwise it has learned from the encoder by the term of a recipe of
    this name, whose maps are not kept. It has no classifier yet.
    """
    if way == "none":
        return Beginning(None, 0.0)
    student = students(own.shape)[name]
    whole = hugging_face.Pretrained(own.shape, own.params)
    if way == LAYERS:
        return Beginning(hugging_face.with_layers(whole, student.start).params, 0.0)
    if way == DISTILBERT:
        return of_masked_words(student.start, config, texts, own)
    recipe = terms.recipes(student, own.shape.width)[way]
    its = models.bert(own.shape)
    learned = without_labels(
        models.bert(student.shape, dropout=0.1),
        recipe.term,
        config,
        teacher=live(its),
        projector=recipe.projector,
    )
    fixed = {"teacher": own.beginning(its, texts.train.example)}
    return trained(
        learned, config.general_rate, texts, fixed, f"{name} without labels, {way}"
    )


def without_labels(
    model: models.Model, objective: Callable, config: Tasks, **more: Any
) -> Training:
    """A training on texts without labels."""
    settings = {"optimizer": adamw, "measures": (), "select": None}
    epochs = config.general_epochs
    return Training(model, objective, epochs, BATCH_SIZE, **(settings | more))


def trained(
    training: Training, rate: float, texts: Data, fixed: Any, name: str
) -> Beginning:
    """What a student has learned, without its heads."""
    found = train(
        training,
        {"learning_rate": rate},
        data=texts,
        key=jax.random.key(0),
        fixed=fixed,
        name=name,
    )
    seconds = float(found.curves["seconds"].sum())
    params = found.variables["params"].items()
    return Beginning({n: p for n, p in params if n != "classifier"}, seconds)


def of_masked_words(
    layers: tuple[int, ...], config: Tasks, texts: Data, own: Encoder
) -> Beginning:
    """DistilBERT: layers of the encoder, which learn to predict masked words like it.

    The encoder's head for words is trained first, and the student begins from it.
    """
    shape = replace(own.shape, word_head=True)
    view = masked_words(own)
    its = models.bert(shape, logits="masked_words")
    head = without_labels(
        its,
        terms.masked_words,
        config,
        optimizer=of_word_head,
        view=view,
        start=start.pretrained,
    )
    fixed = {"start": own.params}
    encoder = trained(head, config.general_rate, texts, fixed, "head for masked words")
    whole = hugging_face.Pretrained(shape, encoder.params)
    less = hugging_face.with_layers(whole, layers)
    learned = without_labels(
        models.bert(less.shape, logits="masked_words", dropout=0.1),
        terms.distilbert,
        config,
        teacher=live(its),
        view=view,
        start=start.pretrained,
    )
    example = texts.train.example
    teacher = own._replace(params=encoder.params).beginning(its, example)
    fixed = {"teacher": teacher, "start": less.params}
    name = "student without labels, distilbert"
    found = trained(learned, config.words_rate, texts, fixed, name)
    params = {n: p for n, p in found.params.items() if not n.startswith(WORD_HEAD)}
    return Beginning(params, encoder.seconds + found.seconds)


def masked_words(own: Encoder) -> views.View:
    """The view that masks words of the encoder's tokenizer."""
    from tokenizers import Tokenizer

    opened = Tokenizer.from_file(str(own.tokenizer))
    names = ("[MASK]", "[CLS]", "[SEP]")
    mask, *special = (opened.token_to_id(name) for name in names)
    return views.masked_words(mask, vocabulary=own.shape.vocabulary, special=special)


def of_word_head(*, learning_rate: Positive, steps: int) -> Any:
    """AdamW for the head for words alone; all other parameters stay as they are."""

    def learns(path: Any, leaf: Any) -> str:
        names = [str(getattr(each, "key", each)) for each in path]
        return "learns" if any(n.startswith(WORD_HEAD) for n in names) else "stays"

    return optax.multi_transform(
        {
            "learns": adamw(learning_rate=learning_rate, steps=steps),
            "stays": optax.set_to_zero(),
        },
        partial(jax.tree_util.tree_map_with_path, learns),
    )
