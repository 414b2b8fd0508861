"""Lists the experiments, with their cost and results.

python -m experiments
"""

import rich
from rich.table import Table

from experiments import claims, studies
from kdjax import results
from kdjax.study import flags
from kdjax.study.study import Study


def as_markdown() -> str:
    """The table of experiments with committed results in the README."""
    rows = [
        "| question | module | minutes | claims |",
        "| --- | --- | --- | --- |",
    ]
    for module, study in studies().items():
        if (results.ROOT / study.name / "meta.json").exists():
            question, short = _question(study), module.removeprefix("experiments.")
            minutes = -(-results.meta(study.name)["seconds"] // 60)
            verdicts = claims.verdicts([study])
            rows.append(f"| {question} | `{short}` | {minutes} | {verdicts} |")
    return "\n".join(rows)


def main(markdown: bool = False) -> None:
    """Lists the experiments.

    Args:
      markdown: Print the table of the README instead.
    """
    if markdown:
        return print(as_markdown())
    printed = Table(
        "command", "question", "time on 2 cores", "results", show_lines=True
    )
    for module, study in studies().items():
        there = (results.ROOT / study.name / "meta.json").exists()
        printed.add_row(
            f"python -m {module}",
            _question(study),
            study.cost,
            f"results/{study.name}" if there else "not yet",
        )
    rich.print(printed)
    rich.print("Each takes --help, and --quick for a run of about a minute.")


def _question(study: Study) -> str:
    return study.question.split("\n", 1)[0]


if __name__ == "__main__":
    flags.run(main, description=__doc__)
