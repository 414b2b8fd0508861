"""The command line of a study."""

from contextlib import suppress
import os
from pathlib import Path
import sys
from typing import Annotated, Any

import jax
import tyro

from kdjax import results
from kdjax.study import flags
from kdjax.study.study import Study, run
from kdjax.study.types import InvalidConfig


def main(study: Study, arguments: list[str] | None = None) -> None:
    """Runs a study with the given flags; invalid ones end the program with status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    one_device_per_core()
    quick = "--quick" in arguments  # before parsing, because it changes the defaults
    default = study.quick_config() if quick else study.config()

    def options(
        config: Annotated[study.config, tyro.conf.arg(name="")] = default,
        data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None,
        name: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None,
        quick: bool = False,
        force: bool = False,
    ) -> tuple[Any, dict[str, Any]]:
        """Runs the experiment, or resumes an interrupted run.

        Args:
          config: The config.
          data_dir: Directory prepared by tensorflow-datasets, if not its default.
          name: Folder under results/ to write to, instead of the default one.
          quick: Use defaults for a run of about a minute, with few, small networks.
          force: Run even if there are results, and replace them.
        """
        if name is not None and (name != Path(name).name or name == ".."):
            raise ValueError(f"name is {name!r}, but takes the name of a folder")
        return config, {
            "data_dir": data_dir,
            "name": name,
            "quick": quick,
            "force": force,
        }

    try:
        config, others = flags.parse(
            options, args=arguments, description=study.question
        )
        study.check_data(config, others["data_dir"])
    except (ValueError, FileNotFoundError) as error:
        flags.fail(error)
    try:
        run(study, config, **others)
    except (OSError, results.Damaged, InvalidConfig) as error:
        flags.fail(error)


def one_device_per_core() -> None:
    """Lets sweeps train on all cores of the CPU at once, a run on each.

    Two cores took 1.5 times as many steps of ResNet-8 a second so as together on one
    run. A number of devices that is set already stays as it is.
    """
    given = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    # pyrefly: ignore[missing-attribute]  # an option defined at run time
    if not given and jax.config.jax_num_cpu_devices < 0:
        with suppress(RuntimeError):  # JAX has started
            jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
