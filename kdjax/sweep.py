"""A grid of runs in one compiled program, over all devices, resumable to the bit."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
import itertools
from pathlib import Path
import shutil
import threading
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax import files, progress, resume
from kdjax.checks import check_axes, check_data, check_rows
from kdjax.data.types import Data
from kdjax.results import Table
from kdjax.train import State, Training


class Swept(NamedTuple):
    """What `sweep` gives."""

    runs: Table
    curves: Table
    seconds: float
    kept: dict[str, np.ndarray]  # [seeds * R, ...], in the order of `runs`


def grid(axes: Mapping[str, Sequence[float]], loss: Callable) -> Table:
    """The Cartesian product of ``axes``, one column ``[R]`` an axis.

    The last axis varies fastest. Raises as `check_axes` does.
    """
    check_axes(axes, loss)
    for name, values in axes.items():
        if len(set(values)) < len(values):
            raise ValueError(f"axis {name!r} is {values!r}, but takes each value once")
    rows = np.array(list(itertools.product(*axes.values())), np.float32)
    return dict(zip(axes, rows.T, strict=True))


def sweep(
    training: Training,
    columns: Table,
    *,
    data: Data,
    seeds: Sequence[int],
    name: str,
    keep: Callable[[Any, Data], dict[str, jax.Array]] | None = None,
    at_once: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    directory: Path | None = None,
    checkpoint_seconds: float = 60.0,
) -> Swept:
    """Trains a student for each row of ``columns`` and each seed.

    The runs of a seed share their initial weights and their batches of examples: two
    rows of a seed differ by their hyperparameters alone. Some rows of a
    seed train together, vmapped, in one program that is traced once and compiled for
    each device; such groups are dealt out to the devices and follow each other there.
    A group's arithmetic cannot depend on how many devices there are.

    Args:
      training: From `kdjax.train.make_training`.
      columns: Hyperparameters, ``[R]`` each: a `grid`, or rows of one's choice. A
        new value is not a new trace.
      data: To train on, to choose by, and to test on (once, at the end); without a
        test split there are no test columns.
      seeds: Each stands for its own initial weights and order of batches.
      name: What to call it in the progress bar.
      keep: ``keep(variables, data)``, what else to have of the variables at the end:
        logits, say.
      at_once: How many rows make a group, at the most; by default what the device
        trains fastest. Many devices want groups small enough that each has one. A
        result's last bits depend on it.
      devices: Where to train; every device by default.
      directory: For checkpoints; by default ``sweeps`` in the cache.
      checkpoint_seconds: See `kdjax.resume.run_epochs`.

    Returns:
      ``runs``, of ``len(seeds) * R`` rows: the columns, ``seed``, the epoch that
      validation would choose, and each metric of that epoch (``_best``) and of the
      last (``_last``); ``curves``, with a row for every epoch of those runs; the
      ``seconds`` that training took, on all devices together, interruptions left out;
      and what was ``kept``, a row a run.

    Raises:
      TypeError, ValueError: as the functions of `kdjax.checks` do.
      BlockingIOError: if another process is at the same sweep.
    """
    check_axes(columns, training.loss)
    check_rows(columns, seeds)
    check_data(data, training.model)
    devices = devices or jax.devices()
    rows = len(next(iter(columns.values())))
    groups = -(-rows // (at_once or fastest(training, data, devices[0])))
    shape = (groups, -(-rows // groups))  # the last group is filled with first rows
    hyperparameters = {n: np.resize(np.float32(c), shape) for n, c in columns.items()}
    units = [(seed, group) for seed in seeds for group in range(groups)]
    init = jax.jit(jax.vmap(training.init, in_axes=(None, 0, None)))
    epoch = jax.jit(jax.vmap(training.epoch, in_axes=(0, None, None)), donate_argnums=0)
    ends = jax.jit(jax.vmap(partial(_ends, training, keep), in_axes=(0, None)))

    def begin(unit: tuple[int, int]) -> tuple[tuple, jax.Array]:
        """What a group's state is made of, and the key of its epochs."""
        seed, group = unit
        key = jax.random.fold_in(jax.random.key(0), seed)
        init_key, key = jax.random.split(key)
        return (init_key, {n: c[group] for n, c in hyperparameters.items()}), key

    def work(i: int, advance: Callable[[tuple[int, int], int], None]) -> None:
        """All groups of the ``i``-th device, one after another."""
        local = jax.device_put(data, devices[i])
        compiled = None
        for unit in units[i :: len(devices)]:
            path = directory / "seed{}-{}.npz".format(*unit)
            if files.load_arrays(path) is None:
                # All on the device, or a checkpoint would be restored on another.
                made_of, key = jax.device_put(begin(unit), devices[i])
                state = init(*made_of, local)
                compiled = compiled or epoch.lower(state, key, local).compile()
                state, curves = resume.run_epochs(
                    compiled,
                    state,
                    key,
                    local,
                    curves=blank,
                    directory=path.with_suffix(""),
                    checkpoint_seconds=checkpoint_seconds,
                    on_epoch=partial(advance, unit),
                )
                _write(path, ends(state, local), curves)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            advance(unit, training.epochs)

    made_of, key = begin(units[0])
    state = jax.eval_shape(init, *made_of, data)
    lowered = epoch.lower(state, key, data)
    programs = (init.lower(*made_of, data), lowered, ends.lower(state, data))
    blank = resume.blank(lowered.out_info[1], training.epochs)
    directory = directory or files.cache("sweeps")
    directory /= resume.identity(programs, hyperparameters, data)
    total = training.epochs * len(units)
    with (
        files.alone_in(directory),
        progress.epochs_done(f"{name}: {rows} runs", total) as show,
    ):
        _on_each_device(work, len(devices), show)
        finished = [_read(directory / "seed{}-{}.npz".format(*unit)) for unit in units]
    return _swept(columns, seeds, finished)


def fastest(training: Training, data: Data, device: jax.Device) -> int:
    """As many rows as a device trains fastest, by the number of their parameters.

    On a CPU their weights and moments must lie in its cache: students of 300 units
    took 0.76 ms a step and row 4 at once and 0.96 ms 16 at once, those of 16 units
    0.054 ms 16 at once and 0.046 ms 96 at once.
    """
    variables = jax.eval_shape(training.model.init, jax.random.key(0), data.train.x[:1])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables))
    budget = 1_500_000 if device.platform == "cpu" else 100_000_000
    return max(1, min(64, budget // parameters))


def _on_each_device(work: Callable, devices: int, show: Callable[[int], None]) -> None:
    """Calls ``work(i, advance)`` for every device at once; the first error ends all."""
    done: dict[tuple[int, int], int] = {}
    failed = threading.Event()

    def advance(unit: tuple[int, int], epochs: int) -> None:
        if failed.is_set():
            raise RuntimeError("stopped, for another device failed")
        done[unit] = epochs
        show(sum(done.values()))

    with ThreadPoolExecutor(devices) as pool:
        futures = [pool.submit(work, i, advance) for i in range(devices)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # an interrupt too
            failed.set()
            raise


def _ends(
    training: Training, keep: Callable | None, state: State, data: Data
) -> dict[str, jax.Array]:
    """Measures of the last and of the best variables, on every split for it."""
    kept = keep(state.variables, data) if keep else {}
    metrics = {f"kept/{name}": array for name, array in kept.items()}
    splits = {"validation": data.validation, "test": data.test}
    ends = {"last": state.variables, "best": state.best_variables}
    for (split, examples), (end, variables) in itertools.product(
        splits.items(), ends.items()
    ):
        if examples is not None:
            for metric, value in training.evaluate(variables, examples).items():
                metrics[f"{split}_{metric}_{end}"] = value
    return metrics


def _write(path: Path, ends: dict, curves: Table) -> None:
    named = {
        n if n.startswith("kept/") else f"end/{n}": np.asarray(v)
        for n, v in ends.items()
    }
    files.save_arrays(path, **named, **{f"curve/{n}": v for n, v in curves.items()})


def _read(path: Path) -> tuple[Table, Table, Table]:
    arrays = files.load_arrays(path)
    return tuple(
        {n.removeprefix(p): a for n, a in arrays.items() if n.startswith(p)}
        for p in ("end/", "curve/", "kept/")
    )


def _swept(columns: Table, seeds: Sequence[int], finished) -> Swept:
    seconds = sum(curves.pop("seconds").sum() for _, curves, _ in finished)
    rows, epochs = len(next(iter(columns.values()))), len(finished[0][1]["train_loss"])

    def stack(part: int, name: str) -> np.ndarray:
        """[seeds, ..., rows]: a seed's groups side by side, without the filling."""
        arrays = [unit[part][name] for unit in finished]
        groups = len(arrays) // len(seeds)
        by_seed = [arrays[i : i + groups] for i in range(0, len(arrays), groups)]
        return np.stack([np.concatenate(a, -1)[..., :rows] for a in by_seed])

    asked = {name: np.tile(column, len(seeds)) for name, column in columns.items()}
    asked["seed"] = np.repeat(np.asarray(seeds), rows)
    runs, curves = dict(asked), {n: np.repeat(c, epochs) for n, c in asked.items()}
    accuracy = stack(1, "validation_accuracy")  # [seeds, epochs, rows]
    runs["best_epoch"] = 1 + accuracy.argmax(1).reshape(-1)
    for name in finished[0][0]:
        runs[name] = stack(0, name).reshape(-1)
    curves["epoch"] = np.tile(1 + np.arange(epochs), len(asked["seed"]))
    for name in finished[0][1]:
        curves[name] = np.swapaxes(stack(1, name), 1, 2).reshape(-1)
    kept = {}
    for name in finished[0][2]:
        units = [unit[2][name] for unit in finished]
        groups = len(units) // len(seeds)
        by_seed = [units[i : i + groups] for i in range(0, len(units), groups)]
        kept[name] = np.concatenate([np.concatenate(u)[:rows] for u in by_seed])
    return Swept(runs, curves, float(seconds), kept)
