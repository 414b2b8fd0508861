"""What a data set is once loaded."""

from typing import Any, NamedTuple

from kdjax.models import Batch


class Data(NamedTuple):
    """Splits of examples: arrays by name, all of one length.

    ``image`` ``[N, ...]`` or ``tokens`` ``[N, length]``, ``label`` ``[N]``; and, once a
    teacher has been asked (`kdjax.training.teacher`), its `Outputs` as ``teacher``.
    ``train`` may be a `kdjax.data.Stream` of batches. ``validation`` is for selection;
    ``test`` for one look at the end.
    """

    train: Batch | Any
    validation: Batch | None = None
    test: Batch | None = None


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
