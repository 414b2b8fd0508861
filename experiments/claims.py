"""What the article claims, and what the committed results say of it.

    python -m experiments.claims               # reads results/ and nothing else
    python -m experiments.claims --markdown    # as README shows it

Each claim stands with its rule in the config of its experiment: where the whole 95 %
interval of a statistic must lie for it to be supported, and where to be refuted.
Anything else is undecided at this scale. The verdict is computed from the rows. Rules
were set before the experiment was run, with these exceptions: those of
temperature_gradients and hinton_mnist, which were run again after; and those of
temperature_width, set after temperature_alpha, which asks for less of the same. The
rule for hinton_mnist's refit is that of its first claim, whose verdict was known. Two
statistics became stricter after their runs: shares of a gain in what_is_dark have
Fieller's interval, and alpha_teacher lets no seed select for itself. Intervals are over
seeds: what one test set, one teacher and one choice of rates share, they leave out.
"""

from collections.abc import Iterable, Iterator

import rich
from rich.table import Table
import tyro

from experiments import studies
from kdjax import results
from kdjax.study.claims import measured, verdict
from kdjax.study.statistics import format_estimate
from kdjax.study.study import Study

COLUMNS = ("claim", "statistic", "supported if", "found", "verdict", "experiment")


def ledger(asked: Iterable[Study] | None = None) -> Iterator[tuple[str, ...]]:
    """A row of `COLUMNS` for every claim that has committed results.

    Args:
      asked: Studies whose claims are wanted; all by default.
    """
    for study in studies().values() if asked is None else asked:
        if not (results.ROOT / study.name / "meta.json").exists():
            continue
        tables = study.tables(study.name)
        for claim in study.claims.values():
            found = measured(claim, tables)
            yield (
                claim.says,
                claim.statistic,
                claim.rule,
                format_estimate(found),
                verdict(claim, found),
                study.name,
            )


def as_markdown() -> str:
    """The ledger as a table in markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *ledger()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(markdown: bool = False) -> None:
    """What the article claims, and what the committed results say of it.

    Args:
      markdown: For README.
    """
    if markdown:
        return print(as_markdown())
    printed = Table(*COLUMNS, title="The article's claims", show_lines=True)
    for row in ledger():
        printed.add_row(*row)
    rich.print(printed)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
