"""Types of loaded data sets."""

from typing import Any, NamedTuple

from kdjax.models import Batch


class Data(NamedTuple):
    """Splits of examples: arrays by name, all of the same length.

    A split has ``image`` ``[N, ...]`` or ``tokens`` ``[N, length]``; ``label`` ``[N]``,
    or ``[N, length]`` with -1 where no token is to be predicted; and optionally the
    `Outputs` of a teacher as ``teacher`` (see `kdjax.training.teacher`). ``train`` may
    be a `kdjax.data.Stream` of batches. ``validation`` is used for selection, ``test``
    only once, at the end.
    """

    train: Batch | Any
    validation: Batch | None = None
    test: Batch | None = None


class Info(NamedTuple):
    """Metadata of a data set, recorded with results."""

    name: str
    version: str
    classes: int
    train: int
    validation: int
    test: int

    def columns(self) -> dict[str, Any]:
        """The metadata as columns of a table of results."""
        return {
            "dataset": self.name,
            "dataset_version": self.version,
            "train_size": self.train,
            "validation_size": self.validation,
            "test_size": self.test,
        }
