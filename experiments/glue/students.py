"""Students of an encoder with six layers, and the layers that teach them."""

from dataclasses import replace
from typing import Literal, NamedTuple, get_args

from kdjax.models import Shape

Name = Literal["3x384", "4x192", "2x128"]  # layers and width
NAMES: tuple[Name, ...] = get_args(Name)
WIDE: Name = "3x384"  # as wide as the teacher


class Student(NamedTuple):
    """A student's sizes, and how its layers belong to the teacher's."""

    shape: Shape
    matched: tuple[int, ...]  # the teacher's layer for each of its own, counted from 1
    start: tuple[int, ...] = ()  # layers of the teacher to begin from, counted from 0


def students(teacher: Shape) -> dict[Name, Student]:
    """All students by name.

    The first has every other layer of the teacher, like DistilBERT. The others are
    narrower and drawn at random, like TinyBERT; each of their layers learns from the
    teacher's at the same relative depth.
    """
    small = replace(teacher, layers=4, width=192, feed_forward=768)
    # A width of 128 has no place for the teacher's twelve heads.
    tiny = replace(teacher, layers=2, width=128, heads=4, feed_forward=512)
    return {
        "3x384": Student(replace(teacher, layers=3), (2, 4, 6), (0, 2, 4)),
        "4x192": Student(small, (2, 3, 5, 6)),
        "2x128": Student(tiny, (3, 6)),
    }
