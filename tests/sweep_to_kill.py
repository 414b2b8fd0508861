"""A sweep that checkpoints after every epoch, run by `test_resume` to be killed.

    python -m tests.sweep_to_kill DIRECTORY    # writes DIRECTORY/table.npz at the end

Says of each group that it trains with which epoch it begins.
"""

from pathlib import Path
import sys

import jax
import numpy as np
import optax

from kdjax import data, losses, models, resume
from kdjax.sweep import grid, sweep
from kdjax.train import make_training

AXES = {"temperature": [1, 4, 20], "alpha": [0.5, 1.0], "learning_rate": [1e-3]}
EPOCHS = 5


def telling(restore):
    def told(directory, like):
        found = restore(directory, like)
        sys.stdout.write(f"{directory.name} {found[0] if found else 0}\n")
        sys.stdout.flush()
        return found

    return told


def main(directory: Path) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    resume.restore = telling(resume.restore)
    resume.cache_compilations()
    digits, _ = data.load("mnist5k")
    teacher = 5 * np.eye(10, dtype=np.float32)
    digits = data.Data(*(s._replace(teacher_logits=teacher[s.y]) for s in digits))
    training = make_training(
        models.mlp((200, 200), classes=10),
        losses.hinton,
        epochs=EPOCHS,
        batch_size=128,
        optimizer=optax.scale_by_adam(),
    )
    swept = sweep(
        training,
        grid(AXES, losses.hinton),
        data=digits,
        seeds=[0, 1],
        name="to kill",
        at_once=3,
        directory=directory,
        checkpoint_seconds=0,
    )
    tables = (("runs", swept.runs), ("curves", swept.curves))
    np.savez(
        directory / "table.npz",
        **{f"{title}/{n}": c for title, table in tables for n, c in table.items()},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
