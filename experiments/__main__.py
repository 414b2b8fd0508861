"""The questions: what each costs, and whether its results are there.

python -m experiments
"""

import rich
from rich.table import Table
import tyro

from experiments import studies
from kdjax import results


def main() -> None:
    """Lists the questions."""
    printed = Table("command", "question", "cost", "results", show_lines=True)
    for module, study in studies().items():
        question = study.question.split("\n", 1)[0]
        there = (results.ROOT / study.name / "meta.json").exists()
        printed.add_row(
            f"python -m {module}",
            question,
            study.cost,
            f"results/{study.name}" if there else "not yet",
        )
    rich.print(printed)
    rich.print("Each takes --help, and --quick for a look within about a minute.")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
