"""What experiments share: from a config to a folder of results."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import rich
import tyro

from kdjax import data, files, results, resume
from kdjax.results import Claim, Estimate, Table

Config = TypeVar("Config")


class Experiment(NamedTuple):
    """A question on images of digits, and how it is answered."""

    name: str  # of its folder
    quick: Mapping[str, Any]  # of the config, for a minute's run
    check: Callable[[Any], None]  # raises TypeError or ValueError
    # Config, images and their info give tables and facts, `seconds` among these.
    run: Callable[[Any, data.Data, data.Info], tuple[dict[str, Table], dict]]
    show: Callable[[dict[str, Table], dict], None]  # prints tables and meta
    claims: Mapping[str, Claim] = {}
    statistics: Callable[[dict[str, Table]], dict[str, Estimate]] = lambda tables: {}
    tables: tuple[str, ...] = ("runs",)  # that `show` and `statistics` take


def quicker(config: Config, quick: Mapping[str, Any]) -> Config:
    """``config`` with the values of ``quick``, save where it asks for its own."""
    asked, usual = asdict(config), asdict(type(config)())
    return replace(config, **{n: v for n, v in quick.items() if asked[n] == usual[n]})


def folder(name: str, dataset: str, quick: bool) -> str:
    """Under results/; only those of whole MNIST bear the name alone."""
    name += "" if dataset == "mnist" else f"_{dataset}"
    return name + ("_quick" if quick else "")


def loaded(experiment: Experiment, name: str) -> dict[str, Table]:
    return {title: results.load(name, title) for title in experiment.tables}


def asked(experiment: Experiment, config: Any) -> dict[str, Any]:
    """The config as results hold it: with the claims, and the rules that decide them.

    What was decided by other rules is another result.
    """
    claims = {n: claim._asdict() for n, claim in experiment.claims.items()}
    return asdict(config) | ({"claims": claims} if claims else {})


def carry_out(
    experiment: Experiment,
    config: Any,
    *,
    data_dir: str | None,
    quick: bool,
    force: bool,
) -> None:
    """Runs what is left to run, and writes and shows the results."""
    config = quicker(config, experiment.quick) if quick else config
    name = folder(experiment.name, config.dataset, quick)
    experiment.check(config)
    whole = asked(experiment, config)
    if results.ready(name, whole, force=force):
        commit = results.commit()
        resume.cache_compilations()
        images, info = data.load(config.dataset, data_dir)
        rich.print(
            f"{info}\nresults go to results/{name}, checkpoints to {files.cache('')}"
        )
        tables, facts = experiment.run(config, images, info)
        directory = results.save(
            name,
            whole,
            tables,
            commit=commit,
            dataset=info._asdict(),
            device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            **facts,
        )
        rich.print(f"wrote {directory}")
    else:
        rich.print(f"nothing left to do: results/{name} holds what this config gives")
    tables = loaded(experiment, name)
    experiment.show(tables, results.meta(name))
    for claim, found in experiment.statistics(tables).items():
        claim = experiment.claims[claim]
        value, low, high = (f"{number:.3g}" for number in found)
        rich.print(f"{claim.says}: {results.verdict(claim, found)}")
        rich.print(f"  {claim.statistic}: {value} ({low} to {high})")


def command(experiment: Experiment, config_type: type) -> Callable[..., None]:
    """The ``main`` of an experiment, for tyro and for calls."""

    def main(
        config: Annotated[config_type, tyro.conf.arg(name="")],
        data_dir: str | None = None,
        quick: bool = False,
        force: bool = False,
    ) -> None:
        """Answers the question, and goes on where a killed run was.

        Args:
          config: What to run.
          data_dir: A directory that tensorflow-datasets prepared, for mnist.
          quick: Small nets and few of them, end to end in about a minute.
          force: Replace results that another config gave.
        """
        carry_out(experiment, config, data_dir=data_dir, quick=quick, force=force)

    return main
