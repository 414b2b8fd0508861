"""How much of its teacher's score does a student keep with more steps?

Two students learn two tasks of GLUE as in `experiments.glue.recipes`, by Hinton's loss
or PKD-Skip. One has every other layer of all-MiniLM-L6-v2 and begins from them, like
DistilBERT. The other has four narrow layers, like TinyBERT, and has learned from the
pretrained teacher by MiniLM's loss without labels. Students train for four times as
many steps as there, since the claims are about what they keep of a teacher that trained
for up to 800.

    python -m experiments.glue.larger_students    # estimate: 2 hours of one core
"""

from dataclasses import dataclass, replace
from functools import partial

from experiments.glue import cells, recipes, setup, terms
from experiments.glue.students import WIDE, Name
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import strict_mean
from kdjax.study.types import Count, Positives

# Millions of parameters of a student and its teacher, and the share of the teacher's
# score that the student keeps, in percent, as published: GLUE's averages on its
# validation split (DistilBERT) or its test set (TinyBERT, which also measured PKD), and
# MNLI's accuracy (MiniLM).
PUBLISHED = {
    "DistilBERT": (66.0, 110.0, 96.9),
    "TinyBERT, 4 layers": (14.5, 109.0, 96.9),
    "TinyBERT, 6 layers": (67.0, 109.0, 99.9),
    "PKD, 4 layers": (52.2, 109.0, 91.3),
    "MiniLM, 6 x 384": (22.0, 109.0, 98.6),
    "MiniLM, 6 x 768": (66.0, 109.0, 99.4),
}
# A popular article takes MiniLM's teacher for BERT-large, and another student's score.
ARTICLE = {"MiniLM, 6 x 384": (16.0, 99.0)}  # compression, percent


@dataclass(frozen=True)
class Config(cells.Config):
    tasks: tuple[setup.Name, ...] = ("sst2", "stsb")
    """Tasks of GLUE, or sentences, which need no download."""
    students: tuple[Name, ...] = ("4x192", WIDE)
    """Layers and widths of the students."""
    recipes: tuple[terms.Name, ...] = ("pkd_skip",)
    """Recipes to try."""
    factors: Positives = (1.0,)
    """Multiples of a term's usual weight to select from."""
    temperatures: Positives = (2.0,)
    """Temperatures of Hinton's loss to select from."""
    wide_rates: Positives = (1e-4, 2e-4, 4e-4)
    """Peak learning rates to select from, of the widest student."""
    steps: Count = 480
    """Steps of a student's training, rounded to whole epochs."""
    seeds: Count = 3
    """Number of seeds, each with one student per setting."""


def kept(runs):
    """``[seeds]``, share of the teacher's score of Hinton's student, mean over tasks.

    Of the student that has every other layer of the teacher.
    """
    rows = runs[(runs["arm"] == "hinton") & (runs["start"] == "layers")]
    shares = rows["score"] / rows["teacher_score"]
    return shares.groupby(rows["seed"]).agg(strict_mean).to_numpy()


def gain(runs, student, way):
    """``[seeds]``, points of Hinton's loss over fine-tuning, mean over tasks."""
    rows = runs[(runs["student"] == student) & (runs["start"] == way)]
    return recipes.difference(rows, "arm", "hinton", "fine_tuning")


MEAN = "percentage points of GLUE's score, mean over SST-2 and STS-B,"
CLAIMS = {
    "kept": Claim(
        "Half of the layers keep 97 % of BERT's score",
        "share of the score of all-MiniLM-L6-v2, Hinton's loss, mean over SST-2 and "
        "STS-B",
        kept,
        above(0.97),
    ),
}
for student, way, says in (
    ("4x192", cells.USUAL, "four narrow layers"),
    (WIDE, "layers", "three of the teacher's layers"),
):
    CLAIMS[f"gain_{student}"] = Claim(
        "A teacher's predictions make a small network better",
        f"{MEAN} that Hinton's loss adds to fine-tuning, {says}",
        partial(gain, student=student, way=way),
        above(0.0),
    )
STUDY = replace(
    recipes.STUDY,
    name="larger_students",
    question=__doc__,
    config=Config,
    cost="2 hours of one core",
    paper={"published": PUBLISHED, "article": ARTICLE},
    quick=setup.QUICK
    | {"students": ("4x192",), "temperatures": (2.0,), "learning_rates": (5e-4,)},
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
