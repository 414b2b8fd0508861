"""Claims about distillation, tested on the committed results.

Popular articles on knowledge distillation repeat many numerical claims. These are the
ones tested so far, in their usual words, with a few from Hinton's paper; some are
tested in several ways. Each has a rule in the file of its experiment. It is supported
if all of the 95 % interval of its statistic satisfies "supported if", refuted if none
of it does, and otherwise undecided at this scale. Where a claim is about the size of an
effect, one too small to matter does not count: "supported if" has the least that does.
Where it is about which of two is better, any difference counts. Verdicts are computed
from the tables in results/. The rules were written before the experiments were run,
with these exceptions: temperature_gradients and hinton_mnist were run again after their
rules were written; the rules of temperature_width were set after temperature_alpha, a
smaller version of the same experiment; and the rule of hinton_refit is that of the
first claim, whose verdict was known. Two statistics became stricter after their runs:
shares of a gain in what_is_dark have Fieller's interval (for the ratio of two means),
and in alpha_teacher settings are selected for each seed by the other seeds. Intervals
are over seeds, or over test images for teachers' beliefs, since each teacher was
trained once. They leave out the variation of what all runs share: the test set, the
teacher, and the selected learning rates.

    python -m experiments.claims            # prints the table
    python -m experiments.claims --write    # writes docs/claims.md
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import rich
from rich.table import Table

from experiments import studies
from kdjax import results
from kdjax.study import flags
from kdjax.study.claims import measured, verdict
from kdjax.study.statistics import format_estimate
from kdjax.study.study import Study

COLUMNS = ("claim", "statistic", "supported if", "found", "verdict", "experiment")
PAGE = Path(__file__).parents[1] / "docs/claims.md"


def ledger(selected: Iterable[Study] | None = None) -> Iterator[tuple[str, ...]]:
    """A row of `COLUMNS` for every claim with committed results.

    Args:
      selected: The studies to include; all by default.
    """
    for study in studies().values() if selected is None else selected:
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


def verdicts(selected: Iterable[Study] | None = None) -> str:
    """The number of claims per verdict, in words, for the given or all studies."""
    counts = Counter(row[4] for row in ledger(selected))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def page() -> str:
    """The content of ``docs/claims.md``."""
    title, rest = __doc__.split("\n    python")[0].split(".\n", 1)
    table = [COLUMNS, ("---",) * len(COLUMNS), *ledger()]
    lines = (f"| {' | '.join(row)} |" for row in table)
    return "\n".join([f"# {title}", rest, *lines]) + "\n"


def main(write: bool = False) -> None:
    """Prints the table of claims.

    Args:
      write: Write docs/claims.md instead of printing.
    """
    if write:
        PAGE.write_text(page())
        return print(f"wrote {PAGE}")
    printed = Table(*COLUMNS, title="Claims", show_lines=True)
    for row in ledger():
        printed.add_row(*row)
    rich.print(printed)


if __name__ == "__main__":
    flags.run(main, description=__doc__)
