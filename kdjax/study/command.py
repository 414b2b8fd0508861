"""The command line of a study."""

import sys
from typing import Annotated, Any, NoReturn

import tyro

from kdjax import results
from kdjax.progress import console
from kdjax.study.study import Study, answer


def main(study: Study, arguments: list[str] | None = None) -> None:
    """Answers the question as the flags ask; a mistake of theirs ends with status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    quick = "--quick" in arguments  # before parsing: its values are defaults
    default = study.quick_config() if quick else study.config()

    def options(
        config: Annotated[study.config, tyro.conf.arg(name="")] = default,
        data_dir: str | None = None,
        name: str | None = None,
        quick: bool = False,
        force: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """Answers the question, and goes on where a killed run was.

        Args:
          config: What to run.
          data_dir: A directory that tensorflow-datasets prepared, for mnist.
          name: Folder under results/ to write to, instead of the usual one.
          quick: Small networks and few of them, end to end in about a minute; flags
            given beside it hold.
          force: Replace results that another config gave.
        """
        flags = {"data_dir": data_dir, "name": name, "quick": quick, "force": force}
        return config, flags

    try:
        config, flags = tyro.cli(
            options, args=arguments, prog=_prog(), description=study.question
        )
        study.check_data(config, flags["data_dir"])
    except (ValueError, FileNotFoundError) as error:
        _fail(error)
    try:
        answer(study, config, **flags)
    except (OSError, results.Damaged) as error:
        _fail(error)


def _prog() -> str:
    """As it was called, without the machine's path."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else "python"


def _fail(error: Exception) -> NoReturn:
    console.print(
        str(error), style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(2)
