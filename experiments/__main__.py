"""Experiments on distillation: what each asks, and what came out.

Each has a question, a config, what is trained, and claims with rules that
decide them. `python -m experiments.MODULE` runs one (on MNIST, add `--dataset mnist`:
the default is 5,000 digits); `--quick` takes about a minute, and `--help` explains the
rest. Listed are those with committed results; minutes are those that a single process
would take, with two CPU cores (MNIST) or one (elsewhere). A second process shares the
work of an experiment. `python -m experiments` lists all, also those that have no
results yet. [Data](../docs/data.md) says which data each needs, and where they come
from.

    python -m experiments            # lists all
    python -m experiments --write    # writes experiments/README.md
"""

from pathlib import Path

from experiments import claims, studies
from kdjax import results
from kdjax.study import flags
from kdjax.study.study import Study

PAGE = Path(__file__).with_name("README.md")


def page() -> str:
    """The content of ``experiments/README.md``: those with committed results."""
    title, rest = __doc__.split("\n    python")[0].split(".\n", 1)
    lines = ["| question | module | minutes | claims |", "| --- | --- | --- | --- |"]
    for module, study in studies().items():
        if _is_run(study):
            question, short = _question(study), module.removeprefix("experiments.")
            verdicts = claims.verdicts([study])
            lines.append(f"| {question} | `{short}` | {_minutes(study)} | {verdicts} |")
    return "\n".join([f"# {title}", rest, *lines]) + "\n"


def main(write: bool = False) -> None:
    """Lists the experiments.

    Args:
      write: Write experiments/README.md instead.
    """
    if write:
        PAGE.write_text(page())
        return print(f"wrote {PAGE}")
    for module, study in studies().items():
        print(f"python -m {module}\n    {_question(study)}\n    {_cost(study)}\n")
    print("Each takes --help, and --quick for a run of about a minute.")


def _cost(study: Study) -> str:
    """How long the published run took, or will take."""
    if _is_run(study):
        return f"{_minutes(study)} minutes; results/{study.name}"
    return f"about {study.cost}; no results yet"


def _is_run(study: Study) -> bool:
    return (results.ROOT / study.name / "meta.json").exists()


def _minutes(study: Study) -> int:
    return -(-results.meta(study.name)["seconds"] // 60)


def _question(study: Study) -> str:
    return study.question.split("\n", 1)[0]


if __name__ == "__main__":
    flags.run(main, description=__doc__)
