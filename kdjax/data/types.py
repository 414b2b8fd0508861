"""What a data set is once loaded."""

from typing import Any, NamedTuple


class Split(NamedTuple):
    """Examples, and what a teacher says of them once it has been asked."""

    x: Any  # [N, ...] float32
    y: Any  # [N] int32
    # [N, classes] float32; in train also [N, teachers, classes], for a loss that picks.
    teacher_logits: Any = None


class Data(NamedTuple):
    """``validation`` is for choosing; ``test`` for one look at the end."""

    train: Split
    validation: Split
    test: Split | None


class Info(NamedTuple):
    """What results must say of the data behind them."""

    name: str
    version: str
    classes: int
    train: int
    validation: int
    test: int

    def columns(self) -> dict[str, Any]:
        """As cells of a row of results."""
        return {
            "dataset": self.name,
            "dataset_version": self.version,
            "train_size": self.train,
            "validation_size": self.validation,
            "test_size": self.test,
        }
