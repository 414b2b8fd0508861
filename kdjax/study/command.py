"""The command line of a study."""

import sys
from typing import Annotated, Any, NoReturn

import tyro

from kdjax import results
from kdjax.progress import console
from kdjax.study.study import Study, run


def main(study: Study, arguments: list[str] | None = None) -> None:
    """Runs a study with the given flags; invalid ones end the program with status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    quick = "--quick" in arguments  # before parsing, because it changes the defaults
    default = study.quick_config() if quick else study.config()

    def options(
        config: Annotated[study.config, tyro.conf.arg(name="")] = default,
        data_dir: str | None = None,
        name: str | None = None,
        quick: bool = False,
        force: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """Runs the experiment, or resumes an interrupted run.

        Args:
          config: The config.
          data_dir: Directory prepared by tensorflow-datasets, for mnist.
          name: Folder under results/ to write to, instead of the default one.
          quick: Use defaults for a run of about a minute, with few, small networks.
          force: Replace results of another config.
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
        run(study, config, **flags)
    except (OSError, results.Damaged) as error:
        _fail(error)


def _prog() -> str:
    """The command without machine-specific paths."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else "python"


def _fail(error: Exception) -> NoReturn:
    console.print(
        str(error), style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(2)
