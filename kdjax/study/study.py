"""A study: a question, and how it is answered, from a config to a folder of results."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
import math
from typing import Any

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
from kdjax.training import checkpoint

Tables = dict[str, pd.DataFrame]


@dataclass
class Answer:
    """What a run of a study comes to.

    Args:
      tables: Of rows, by title.
      facts: What ``meta.json`` says beside: the teacher's quality, the ``seconds``.
      data: As it was learned from, with the teacher's outputs.
      extras: What was kept of the students, for pictures.
    """

    tables: Tables
    facts: dict[str, Any] = field(default_factory=dict)
    data: Any = None
    extras: Any = None


@dataclass(frozen=True)
class Study:
    """A question, asked by a config.

    Args:
      name: Of its folder in ``results/``.
      question: The docstring of its module.
      config: The type of its config, a `kdjax.study.types.Config`.
      published: What of the config differs in the published results.
      quick: What of the config differs in a run of about a minute.
      run: ``run(config, data, info)``, or ``run(config)`` if it takes no data set.
      derived: Further tables, made of the answer once its rows are safely written.
      show: ``show(tables, meta)`` prints what a reader wants to see first.
      claims: By name, each with what measures it.
      paper: Numbers of the paper, for figures and tables.
      cost: How long the published run took on two CPU cores, about, in words.
    """

    name: str
    question: str
    config: type
    run: Callable[..., Answer]
    show: Callable[[Tables, dict[str, Any]], None]
    cost: str
    published: Mapping[str, Any] = field(default_factory=lambda: {"dataset": "mnist"})
    quick: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Callable[[Answer], pd.DataFrame]] = field(
        default_factory=dict
    )
    claims: Mapping[str, Claim] = field(default_factory=dict)
    paper: Any = None

    def record(self, config: Any) -> dict[str, Any]:
        """The config as results hold it: with the claims and the rules that decide."""
        rules = {name: claim.record() for name, claim in self.claims.items()}
        return asdict(config) | ({"claims": rules} if rules else {})

    def quick_config(self) -> Any:
        """The config of a run of about a minute."""
        return replace(self.config(), **self.quick)

    def is_published(self, config: Any) -> bool:
        """Whether claims are decided by this config."""
        return config == self.config(**self.published)

    def check_data(self, config: Any, data_dir: str | None) -> None:
        """Raises, as `kdjax.data.load` would, if the data cannot lie there."""
        if (dataset := getattr(config, "dataset", None)) is not None:
            data.check_directory(dataset, data_dir)

    def folder(self, config: Any, *, quick: bool = False) -> str:
        """Under ``results/``; only the published data set's bears the name alone."""
        dataset = getattr(config, "dataset", None)
        name = self.name
        if dataset is not None and dataset != self.published.get("dataset"):
            name += f"_{dataset}"
        return name + ("_quick" if quick else "")

    def tables(self, folder: str) -> Tables:
        """All that the folder holds."""
        return {title: results.load(folder, title) for title in titles(folder)}


def titles(folder: str) -> list[str]:
    """Of the tables in a folder of results."""
    return list(results.meta(folder)["tables"])


def arms_run(
    prepare: Callable[[Any, Data, Info], tuple[Data, dict[str, Any]]],
    arms: Callable[[Any, Data], Iterable[Arm]],
) -> Callable[[Any, Data, Info], Answer]:
    """The ``run`` of a study that trains arms.

    Args:
      prepare: ``prepare(config, data, info)`` gives the data with a teacher's outputs,
        and facts: ``seconds`` among them.
      arms: ``arms(config, data)``, what is trained.
    """
    return partial(_run_arms, prepare, arms)


def _run_arms(
    prepare: Callable, arms: Callable, config: Any, images: Data, info: Info
) -> Answer:
    taught, facts = prepare(config, images, info)
    found = [
        (arm.without_data(), each)
        for arm, each in all_tuned(partial(arms, config, taught))
    ]
    tables, seconds = gather(found)
    tables = {t: labelled(rows, info.columns()) for t, rows in tables.items()}
    extras = [(arm, each.extras) for arm, each in found if each.extras]
    seconds = round(facts.pop("seconds", 0) + seconds)
    return Answer(tables, {**facts, "seconds": seconds}, taught, extras)


def answer(
    study: Study,
    config: Any,
    *,
    data_dir: str | None = None,
    name: str | None = None,
    quick: bool = False,
    force: bool = False,
) -> None:
    """Runs what is left to run, and writes and shows the results.

    Args:
      study: The question.
      config: How it is asked.
      data_dir: A directory that tensorflow-datasets prepared.
      name: Of the folder of results, if not the usual one.
      quick: Whether the config is the study's quick one: it has a folder of its own,
        and no claim is spoken of.
      force: Whether to replace results that another config gave.
    """
    study.check_data(config, data_dir)
    folder = name or study.folder(config, quick=quick)
    if results.needs_run(folder, study.record(config), force=force):
        _run(study, config, folder, data_dir)
        rich.print(f"wrote {results.ROOT / folder}")
    else:
        rich.print(f"nothing left to do: results/{folder} holds what this config gives")
    tables, meta = study.tables(folder), results.meta(folder)
    diverged = int(tables["runs"].get("diverged", pd.Series(dtype=bool)).sum())
    if diverged:
        console.print(f"{diverged} runs diverged: means leave them out, claims none")
    study.show(tables, meta)
    if not quick:
        decides = study.is_published(config) and not diverged
        for claim in study.claims.values():
            rich.print(claims.report(claim, tables, decides=decides))


def _run(study: Study, config: Any, folder: str, data_dir: str | None) -> None:
    """Writes the rows as soon as they are there, and then what is made of them."""
    commit, dataset = results.commit(), getattr(config, "dataset", None)
    checkpoint.cache_compilations()
    facts: dict[str, Any] = {"experiment": study.name, "commit": commit}
    arguments: tuple[Any, ...] = ()
    if dataset is not None:
        images, info = data.load(dataset, data_dir)
        arguments = (images, info)
        facts["dataset"] = info._asdict()
        rich.print(info)
    rich.print(f"results go to results/{folder}, checkpoints to {files.cache('')}")
    found = study.run(config, *arguments)
    facts["device"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    facts |= found.facts | ({"paper": study.paper} if study.paper else {})
    save = partial(results.save, folder, study.record(config), found.tables, **facts)
    save()  # the rows have taken hours, and no picture may cost them
    found.tables |= study.tables(folder)  # as everyone else will read them
    for title, make in study.derived.items():
        try:
            found.tables[title] = make(found)
        except Exception as error:
            console.print(f"the table {title!r} could not be made: {error!r}")
    if study.derived:
        save()


def print_table(frame: pd.DataFrame, title: str, index: str | None = None) -> None:
    """A data frame as a table: its columns, and its index as the first one."""
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
    """Estimates of `estimates_table`, arranged by two of their keys."""
    found = table[list(Estimate._fields)].itertuples(index=False)
    shown = table.assign(shown=[format_estimate(Estimate(*each)) for each in found])
    print_table(shown.pivot(index=index, columns=columns, values="shown"), title)


def _cell(value: Any) -> str:
    """As a table shows it; of numbers, NaN is a dash."""
    if isinstance(value, tuple):  # of an index with several levels
        return ", ".join(map(_cell, value))
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:g}"
