"""Which divergences cover two modes, and which seek one?

The teacher is a mixture of two Gaussians on a fine grid of points, a class each. One
student is a single Gaussian on the same grid, which cannot be the mixture; the other
has a free logit for each point, which can. Each divergence fits both from several
starts, and each fit is looked at early on and at the end.

    python -m experiments.mode_covering    # 16 seconds on 2 cores
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
import time
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from rich.table import Table as Printed
import tyro

from experiments import running
from kdjax import checks, losses, results, resume
from kdjax.results import Table


@dataclass(frozen=True)
class Config:
    weights: tuple[float, float] = (0.7, 0.3)
    """Of the teacher's left and right mode."""
    means: tuple[float, float] = (-2.0, 2.0)
    """Where its modes are."""
    scales: tuple[float, float] = (0.6, 0.6)
    """How wide they are: standard deviations."""
    points: int = 200
    """Of the grid."""
    end: float = 6.0
    """The grid goes from the negative of it to it."""
    skew: float = 0.1
    """Of both skewed divergences."""
    beta: float = 0.5
    """Of Jensen-Shannon."""
    seeds: int = 10
    """How many starts."""
    steps: int = 10_000
    """Of Adam, in which its learning rate falls to 0 along a cosine."""
    early_steps: int = 50
    """When a fit is looked at for the first time."""
    learning_rate: float = 0.05
    """Adam's, at the first step."""


QUICK = {"seeds": 5, "steps": 2_000}


class Student(NamedTuple):
    init: Callable[[jax.Array], Any]  # a key gives parameters
    logits: Callable[[Any], jax.Array]  # and those give [points]


def grid(config: Config) -> np.ndarray:
    return np.linspace(-config.end, config.end, config.points, dtype=np.float32)


def mixture(config: Config) -> jax.Array:
    """The teacher's logits ``[points]``: the log density, but for a constant."""
    weights, means, scales = map(
        np.float32, (config.weights, config.means, config.scales)
    )
    z = (grid(config)[:, None] - means[None]) / scales[None]
    return jax.nn.logsumexp(np.log(weights / scales)[None] - z**2 / 2, -1)


def gaussian(config: Config) -> Student:
    """Starts anywhere in the inner two thirds of the grid, with scales in 1/e to e."""
    x, reach = grid(config), 2 * config.end / 3

    def init(key: jax.Array) -> dict[str, jax.Array]:
        mean, log_scale = jax.random.uniform(key, (2,), minval=-1.0)
        return {"mean": reach * mean, "log_scale": log_scale}

    def logits(parameters: dict[str, jax.Array]) -> jax.Array:
        z = (x - parameters["mean"]) * jnp.exp(-parameters["log_scale"])
        return -(z**2) / 2

    return Student(init, logits)


def free(config: Config) -> Student:
    return Student(lambda key: jax.random.normal(key, (config.points,)), lambda z: z)


STUDENTS = {"gaussian": gaussian, "free": free}


def divergences(config: Config) -> dict[str, Callable]:
    return {
        "forward_kl": losses.forward_kl,
        "reverse_kl": losses.reverse_kl,
        "skew_forward_kl": partial(losses.skew_forward_kl, skew=config.skew),
        "skew_reverse_kl": partial(losses.skew_reverse_kl, skew=config.skew),
        "jensen_shannon": partial(losses.jensen_shannon, beta=config.beta),
        "total_variation": losses.total_variation,
    }


def fit(
    config: Config, student: Student, loss: Callable, key: jax.Array
) -> tuple[Any, Any]:
    """Parameters after ``early_steps`` and after all steps, from one start."""
    teacher = mixture(config)
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.learning_rate, config.steps)
    )

    def step(carry, i):
        parameters, state, early = carry
        grads = jax.grad(lambda p: loss(student.logits(p), teacher))(parameters)
        updates, state = optimizer.update(grads, state)
        parameters = optax.apply_updates(parameters, updates)
        is_early = i < config.early_steps
        early = jax.tree.map(partial(jnp.where, is_early), parameters, early)
        return (parameters, state, early), None

    parameters = student.init(key)
    carry = (parameters, optimizer.init(parameters), parameters)
    (last, _, early), _ = jax.lax.scan(step, carry, jnp.arange(config.steps))
    return early, last


def measure(config: Config, loss: Callable, logits: jax.Array) -> dict[str, jax.Array]:
    """What a fit with ``logits`` ``[points]`` comes to.

    The modes part halfway between their means. Head and tail are as in `adaptive_kl`:
    the teacher's likeliest points with half its mass, and the others; the errors there
    are means of ``|log(q / p)|``. Outside is where the teacher has less than a
    hundredth of its peak.
    """
    x, teacher = grid(config), mixture(config)
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(logits)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    left = x < sum(config.means) / 2
    mean = jnp.sum(q * x)
    order = jnp.argsort(p, descending=True)
    head = jnp.zeros(len(x), bool).at[order].set(jnp.cumsum(p[order]) <= 0.5)
    return {
        "loss_value": loss(logits, teacher),
        "forward_kl": losses.forward_kl(logits, teacher),
        "reverse_kl": losses.reverse_kl(logits, teacher),
        "mass_left": jnp.sum(q, where=left),
        "mass_right": jnp.sum(q, where=~left),
        "mass_outside": jnp.sum(q, where=p < 0.01 * p.max()),
        "mean": mean,
        "deviation": jnp.sqrt(jnp.sum(q * (x - mean) ** 2)),
        "head_error": jnp.mean(jnp.abs(log_q - log_p), where=head),
        "tail_error": jnp.mean(jnp.abs(log_q - log_p), where=~head),
    }


def check(config: Config) -> None:
    """Raises ValueError if the config asks for what cannot be."""
    for name in ("points", "seeds", "steps", "early_steps"):
        checks.check_counts(name, getattr(config, name))
    for name in ("skew", "beta", "learning_rate"):
        checks.check_values(name, [getattr(config, name)])
    for name in ("weights", "scales"):
        if min(getattr(config, name)) <= 0:
            raise ValueError(f"{name} are {getattr(config, name)}, but take positive")
    if config.early_steps >= config.steps:
        raise ValueError(f"early_steps is {config.early_steps}, but takes < steps")


def run(config: Config) -> dict[str, Table]:
    """The tables ``runs``, and ``densities`` of the best start of each fit."""
    keys = jax.random.split(jax.random.key(0), config.seeds)
    runs = []
    densities = {"x": grid(config), "teacher": jax.nn.softmax(mixture(config))}
    for name, make in STUDENTS.items():
        student = make(config)
        for title, loss in divergences(config).items():
            fits = jax.jit(jax.vmap(partial(fit, config, student, loss)))(keys)
            for stage, parameters in zip(("early", "end"), fits, strict=True):
                logits = jax.vmap(student.logits)(parameters)
                measures = jax.vmap(partial(measure, config, loss))(logits)
                asked = {"student": name, "loss": title, "stage": stage}
                table = {k: np.full(config.seeds, v) for k, v in asked.items()}
                table["seed"] = np.arange(config.seeds)
                table |= {k: np.asarray(v) for k, v in measures.items()}
                if name == "gaussian":
                    table["gaussian_mean"] = np.asarray(parameters["mean"])
                    table["gaussian_scale"] = np.exp(parameters["log_scale"])
                runs.append(table)
                best = jnp.argmin(measures["loss_value"])
                densities[f"{name}_{title}_{stage}"] = jax.nn.softmax(logits[best])
    densities = {name: np.asarray(column) for name, column in densities.items()}
    return {"runs": results.concatenate(runs), "densities": densities}


def show(table: Table) -> None:
    """Prints, for every fit at its end, the best start and how many are like it."""
    ends = results.select(table, stage="end")
    for student in STUDENTS:
        printed = Printed(title=f"{student} student: the best start")
        printed.add_column("loss", no_wrap=True)
        for column in ("value", "mean", "sd", "left", "forward", "reverse", "alike"):
            printed.add_column(column)
        for loss in dict.fromkeys(table["loss"]):
            rows = results.select(ends, student=student, loss=loss)
            best = rows["loss_value"].argmin()
            alike = np.abs(rows["mean"] - rows["mean"][best]) < 0.01
            names = ("loss_value", "mean", "deviation", "mass_left")
            cells = [rows[n][best] for n in (*names, "forward_kl", "reverse_kl")]
            count = f"{alike.sum()}/{len(alike)}"
            printed.add_row(loss, *(f"{c:.3f}" for c in cells), count)
        rich.print(printed)


def main(
    config: Annotated[Config, tyro.conf.arg(name="")],
    quick: bool = False,
    force: bool = False,
) -> None:
    """Which divergences cover two modes, and which seek one?

    Writes results/mode_covering.

    Args:
      config: What to run.
      quick: Fewer starts and steps.
      force: Replace results that another config gave.
    """
    config = running.quicker(config, QUICK) if quick else config
    name = "mode_covering" + ("_quick" if quick else "")
    check(config)
    if not results.ready(name, asdict(config), force=force):
        rich.print(f"nothing left to do: results/{name} holds what this config gives")
        return show(results.load(name))
    commit = results.commit()
    resume.cache_compilations()
    began = time.monotonic()
    tables = run(config)
    directory = results.save(
        name,
        asdict(config),
        tables,
        commit=commit,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        seconds=round(time.monotonic() - began),
    )
    show(tables["runs"])
    rich.print(f"wrote {directory}")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
