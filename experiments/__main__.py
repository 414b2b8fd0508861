"""Lists the experiments, with their cost and results.

python -m experiments
"""

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
    for module, study in studies().items():
        print(f"python -m {module}\n    {_question(study)}\n    {_cost(study)}\n")
    print("Each takes --help, and --quick for a run of about a minute.")


def _cost(study: Study) -> str:
    """How long the published run took, or will take."""
    if (results.ROOT / study.name / "meta.json").exists():
        minutes = -(-results.meta(study.name)["seconds"] // 60)
        return f"{minutes} minutes on 2 cores; results/{study.name}"
    return f"{study.cost} on 2 cores; no results yet"


def _question(study: Study) -> str:
    return study.question.split("\n", 1)[0]


if __name__ == "__main__":
    flags.run(main, description=__doc__)
