"""What the article claims, and what the committed results say of it.

    python -m experiments.claims               # reads results/ and nothing else
    python -m experiments.claims --markdown    # as README shows it

Each claim stands with its rule in the config of its experiment: where the whole 95 %
interval of a statistic must lie for it to be supported, and where to be refuted.
Anything else is undecided at this scale. The verdict is computed from the rows. Rules
were set before the experiment was run, but for those of temperature_gradients and of
hinton_mnist, which were run again after; those of temperature_width after
temperature_alpha, which asks for less of the same. Two statistics became stricter after
their runs: shares of a gain in what_is_dark have Fieller's interval, and alpha_teacher
lets no seed choose for itself. Intervals are over seeds: what one test set, one teacher
and one choice of rates share, they leave out.
"""

from collections.abc import Iterator
from types import ModuleType

import rich
from rich.table import Table as Printed
import tyro

from experiments import (
    alpha_teacher,
    capacity_gap_mnist,
    hinton_mnist,
    omitted_digit,
    running,
    temperature_gradients,
    temperature_width,
    what_is_dark,
)
from kdjax import results

EXPERIMENTS: tuple[ModuleType, ...] = (
    temperature_gradients,
    temperature_width,
    hinton_mnist,
    omitted_digit,
    what_is_dark,
    alpha_teacher,
    capacity_gap_mnist,
)
COLUMNS = ("claim", "statistic", "supported if", "found", "verdict", "experiment")


def within(bounds: tuple[float | None, float | None]) -> str:
    """Where an interval must lie, in words."""
    low, high = bounds
    if low is None:
        return f"below {high:g}"
    return f"above {low:g}" if high is None else f"in {low:g} to {high:g}"


def ledger() -> Iterator[tuple[str, ...]]:
    """A row of `COLUMNS` for every claim whose experiment has committed results."""
    for module in EXPERIMENTS:
        experiment = module.EXPERIMENT
        if not (results.ROOT / experiment.name / "meta.json").exists():
            continue
        found = experiment.statistics(running.loaded(experiment, experiment.name))
        for name, claim in experiment.claims.items():
            value, low, high = found[name]
            yield (
                claim.says,
                claim.statistic,
                within(claim.supported),
                f"{value:.3g} ({low:.3g} to {high:.3g})",
                results.verdict(claim, found[name]),
                experiment.name,
            )


def as_markdown() -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *ledger()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(markdown: bool = False) -> None:
    """What the article claims, and what the committed results say of it.

    Args:
      markdown: For README.
    """
    if markdown:
        return print(as_markdown())
    printed = Printed(*COLUMNS, title="The article's claims", show_lines=True)
    for row in ledger():
        printed.add_row(*row)
    rich.print(printed)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
