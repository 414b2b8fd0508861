"""Studies: a question, the experiment that answers it, and its results."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
import math
from typing import Any, NamedTuple

import jax
import pandas as pd
import rich
from rich.table import Table as Printed

from kdjax import data, files, results
from kdjax.data import Data, Info
from kdjax.progress import console
from kdjax.study import claims
from kdjax.study.arms import Arm, all_tuned, gather, labelled
from kdjax.study.claims import Claim
from kdjax.study.statistics import Estimate, format_estimate
from kdjax.study.types import InvalidConfig
from kdjax.training import checkpoint

Tables = dict[str, pd.DataFrame]


@dataclass
class Outcome:
    """The outcome of an experiment.

    Args:
      tables: Data frames by title.
      facts: Further entries of ``meta.json``: the teacher's metrics, the ``seconds``.
      data: The data used for training, with the teacher's outputs.
      extras: Extras of the students, for derived tables.
    """

    tables: Tables
    facts: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    extras: Any = None


class Loaded(NamedTuple):
    """The data of a study."""

    arguments: tuple[Any, ...]  # of ``run``, after the config
    facts: dict[str, Any]  # for ``meta.json``


def of_dataset(config: Any, data_dir: str | None) -> Loaded:
    """The data set ``config.dataset`` and its metadata; nothing if there is none."""
    if (dataset := getattr(config, "dataset", None)) is None:
        return Loaded((), {})
    images, info = data.load(dataset, data_dir)
    config.check_data(info)
    return Loaded((images, info), {"dataset": info._asdict()})


@dataclass(frozen=True)
class Study:
    """A question, and the experiment that answers it.

    Args:
      name: Name of its folder in ``results/``.
      question: The docstring of its module.
      config: The type of its config, a subclass of `kdjax.study.types.Config`.
      published: Changes to the default config for the published results.
      quick: Changes to the default config for a run of about a minute.
      run: ``run(config, *arguments)``, with the arguments that ``load`` returns: by
        default ``run(config, data, info)``, or ``run(config)`` without a data set.
      derived: Functions that make further tables from the outcome, called after its
        tables are written.
      show: ``show(tables, meta)`` prints the main results.
      claims: Claims by name.
      paper: Numbers of the paper, for figures and tables.
      cost: Approximate time of the published run, in words; on two cores by default.
      load: ``load(config, data_dir)`` returns the data, as `Loaded`.
    """

    name: str
    question: str
    config: type
    run: Callable[..., Outcome]
    show: Callable[[Tables, dict[str, Any]], None]
    cost: str
    published: Mapping[str, Any] = field(default_factory=lambda: {"dataset": "mnist"})
    quick: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Callable[[Outcome], pd.DataFrame]] = field(
        default_factory=dict
    )
    claims: Mapping[str, Claim] = field(default_factory=dict)
    paper: Any = None
    load: Callable[[Any, str | None], Loaded] = of_dataset

    def record(self, config: Any) -> dict[str, Any]:
        """The config as recorded with results, including the rules of the claims."""
        rules = {name: claim.record() for name, claim in self.claims.items()}
        return asdict(config) | ({"claims": rules} if rules else {})

    def quick_config(self) -> Any:
        """The config for a run of about a minute."""
        return replace(self.config(), **self.quick)

    def is_published(self, config: Any) -> bool:
        """Whether this is the published config, which decides claims."""
        return config == self.config(**self.published)

    def check_data(self, config: Any, data_dir: str | None) -> None:
        """Raises, as `kdjax.data.load` does, if the data directory is invalid.

        A study with a ``load`` of its own raises when it runs.
        """
        if self.load is not of_dataset:
            return
        if (dataset := getattr(config, "dataset", None)) is not None:
            data.check_directory(dataset, data_dir)
        elif data_dir is not None:
            raise ValueError(f"data_dir is {data_dir!r}, but {self.name} has no data")

    def folder(self, config: Any, *, quick: bool = False) -> str:
        """The folder under ``results/``, with a suffix for unpublished configs."""
        dataset = getattr(config, "dataset", None)
        name = self.name
        if dataset is not None and dataset != self.published.get("dataset"):
            name += f"_{dataset}"
        return name + ("_quick" if quick else "")

    def tables(self, folder: str) -> Tables:
        """All tables in a folder of results."""
        return {title: results.load(folder, title) for title in titles(folder)}


def titles(folder: str) -> list[str]:
    """The titles of the tables in a folder of results."""
    return list(results.meta(folder)["tables"])


def arms_run(
    prepare: Callable[[Any, Data, Info], tuple[Data, dict[str, Any]]],
    arms: Callable[[Any, Data], Iterable[Arm]],
) -> Callable[[Any, Data, Info], Outcome]:
    """Makes the ``run`` function of a study that trains arms.

    Args:
      prepare: ``prepare(config, data, info)`` returns the data with a teacher's
        outputs, and facts that include ``seconds``.
      arms: ``arms(config, data)`` returns the arms to train.
    """
    return partial(_run_arms, prepare, arms)


def _run_arms(
    prepare: Callable, arms: Callable, config: Any, images: Data, info: Info
) -> Outcome:
    with_teacher, facts = prepare(config, images, info)
    found = [
        (arm.without_data(), each)
        for arm, each in all_tuned(partial(arms, config, with_teacher))
    ]
    tables, seconds = gather(found)
    tables = {t: labelled(rows, info.columns()) for t, rows in tables.items()}
    extras = [(arm, each.extras) for arm, each in found if each.extras]
    seconds = round(facts.pop("seconds", 0) + seconds)
    return Outcome(tables, {**facts, "seconds": seconds}, with_teacher, extras)


def run(
    study: Study,
    config: Any,
    *,
    data_dir: str | None = None,
    name: str | None = None,
    quick: bool = False,
    force: bool = False,
) -> None:
    """Runs a study unless its results exist, then shows them and reports the claims.

    Args:
      study: The study.
      config: Its config.
      data_dir: A directory prepared by tensorflow-datasets.
      name: Name of the folder of results, instead of the default one.
      quick: Whether the config is a quick one, which has a separate folder and decides
        no claims.
      force: Whether to replace results of another config.
    """
    study.check_data(config, data_dir)
    folder = name or study.folder(config, quick=quick)
    if results.needs_run(folder, study.record(config), force=force):
        _run_and_save(study, config, folder, data_dir)
        rich.print(f"wrote {results.ROOT / folder}")
    else:
        rich.print(f"nothing to do: results/{folder} has the results of this config")
    tables, meta = study.tables(folder), results.meta(folder)
    if diverged := claims.diverged(tables):
        console.print(f"{diverged} runs diverged: not in means, and no claim decided")
    study.show(tables, meta)
    if not quick:
        decides = study.is_published(config)
        for claim in study.claims.values():
            rich.print(claims.report(claim, tables, decides=decides))


def _run_and_save(study: Study, config: Any, folder: str, data_dir: str | None) -> None:
    """Runs a study, writes its tables, then those derived from them."""
    facts: dict[str, Any] = {"experiment": study.name, "commit": results.commit()}
    checkpoint.cache_compilations()
    try:
        arguments, own = study.load(config, data_dir)
    except ValueError as error:  # a directory or files that are others
        raise InvalidConfig(str(error)) from error
    facts |= own
    if own:
        rich.print(own)
    rich.print(f"results go to results/{folder}, checkpoints to {files.cache('')}")
    found = study.run(config, *arguments)
    facts["device"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    facts |= found.facts | ({"paper": study.paper} if study.paper else {})
    save = partial(results.save, folder, study.record(config), found.tables, **facts)
    save()  # before anything else can fail, since the runs take hours
    found.tables |= study.tables(folder)  # as they will be read later
    for title, make in study.derived.items():
        try:
            found.tables[title] = make(found)
        except Exception as error:
            console.print(f"could not derive the table {title!r}: {error!r}")
    if study.derived:
        save()


def print_table(frame: pd.DataFrame, title: str, index: str | None = None) -> None:
    """Prints a data frame as a table, with its index as the first column."""
    names = ", ".join(str(name) for name in frame.index.names if name)
    printed = Printed(index or names, title=title)
    for name in frame.columns:
        printed.add_column(_cell(name))
    for label, row in zip(frame.index, frame.itertuples(index=False), strict=True):
        printed.add_row(_cell(label), *map(_cell, row))
    rich.print(printed)


def print_estimates(
    table: pd.DataFrame, title: str, *, index: str, columns: str
) -> None:
    """Prints the estimates of an `estimates_table`, pivoted by two of its keys."""
    found = table[list(Estimate._fields)].itertuples(index=False)
    shown = table.assign(shown=[format_estimate(Estimate(*each)) for each in found])
    print_table(shown.pivot(index=index, columns=columns, values="shown"), title)


def _cell(value: Any) -> str:
    """Formats a cell of a table; NaN is a dash."""
    if isinstance(value, tuple):  # from an index with several levels
        return ", ".join(map(_cell, value))
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:g}"
