"""Does a skewed KL divergence make training stable, and does it become reverse KL?

A small decoder learns the mixture of grammars by forward KL, skewed by more and more,
from random weights or after learning by maximum likelihood. The teacher wrote the
texts. A skew also shrinks the loss, by the square of one minus the skew where student
and teacher are close, so controls are the same losses divided by this square, and
forward KL with its gradient clipped. All have the same learning rate (Adam), and the
norm of the gradient is taken in each step, before clipping.

A spike is a step whose loss is more than twice the median of the 50 before. How far a
skewed KL is from reverse KL is the cosine between their gradients, of the same student.

    python -m experiments.language.skew_stability    # 20 minutes of one core
"""

from dataclasses import dataclass, replace
from functools import partial
import itertools
import time
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from experiments.language import grammars, students
from kdjax import files, losses, models
from kdjax.progress import console
from kdjax.study import types
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fractions, Positive
from kdjax.training import checkpoint, optimizers
from kdjax.training.step import Training, init, step

SIZE, BEFORE = "middle", 50  # of the student; steps before a spike


@dataclass(frozen=True)
class Config(types.Config):
    skews: Fractions = (0.0, 0.01, 0.1, 0.3, 0.5, 0.9)
    """The teacher's share of the mixture in skewed KL; 0 is forward KL."""
    clip: Positive = 1.0
    """The largest norm of the gradient, where it is clipped."""
    learning_rate: Positive = 1e-2
    """Peak learning rate (Adam, cosine decay)."""
    warm_steps: Count = 256
    """Steps of learning by maximum likelihood, before a warm start."""
    steps: Count = 1024
    """Steps of learning by a divergence."""
    parts: Count = 32
    """Parts of these steps, after each of which students are measured."""
    train: Count = 16_384
    """Number of training texts of the teacher."""
    measured: Count = 1024
    """Number of texts, of each kind, to measure with."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps % self.parts:
            raise ValueError(f"parts is {self.parts}, but must divide {self.steps}")
        if self.skews[0] != 0:
            raise ValueError(f"skews is {self.skews!r}, but must begin with 0")


class Norm(NamedTuple):
    """The state of `adam`: the norm of the last gradient."""

    norm: jax.Array


def adam(*, learning_rate, clip, steps):
    """Adam that keeps the norm of the gradient, and clips it."""

    def update(updates, state, params=None):
        return updates, Norm(optax.tree.norm(updates))

    keep = optax.GradientTransformation(lambda params: Norm(jnp.zeros(())), update)
    descend = optimizers.adam(learning_rate=learning_rate, steps=steps)
    return optax.chain(keep, optax.clip_by_global_norm(clip), descend)


def skewed(student, teacher, batch, *, skew, power):
    """Skewed forward KL of texts, divided by one minus the skew to a power."""
    values = losses.skew_forward_kl(student.logits, teacher.logits, skew=skew)
    return students.summed(values, batch) / (1 - skew) ** power


def settings(config):
    """All settings to train, one row each."""
    plain = [{"skew": skew, "power": 0.0} for skew in config.skews]
    scaled = [{"skew": skew, "power": 2.0} for skew in config.skews if skew]
    rows = [{**row, "clip": np.inf} for row in (*plain, *scaled)]
    rows.append({"skew": 0.0, "power": 0.0, "clip": config.clip})
    return pd.DataFrame(rows).assign(learning_rate=config.learning_rate)


def training():
    shape, teacher = (
        students.shape_of(SIZE),
        partial(grammars.teacher, students.MIXTURE),
    )
    return Training(
        models.decoder(shape), skewed, 1, students.BATCH_SIZE, adam, teacher=teacher
    )


def steps_of(own, total, data, state, key, first, count):
    """A state after some steps of ``total``, with the loss and norm of each."""

    def body(state, number):
        drawn = jax.random.fold_in(key, number)
        rows = jax.random.choice(drawn, len(data["tokens"]), (own.batch_size,), False)
        batch = {name: jnp.asarray(array)[rows] for name, array in data.items()}
        state, metrics = step(own, total, state, batch, drawn, None)
        return state, (metrics["loss"], state.opt_state[0].norm)

    return jax.lax.scan(body, state, first + jnp.arange(count))


def warm(config, data, seed):
    """The parameters of a student that has learned by maximum likelihood."""
    own = replace(training(), objective=students.likelihood)
    key, chosen = jax.random.key(seed), {"learning_rate": 3e-3, "clip": np.inf}
    chosen = {name: jnp.float32(value) for name, value in chosen.items()}
    example = {name: array[: own.batch_size] for name, array in data.train.items()}
    state = init(own, config.warm_steps, key, chosen, example, None)
    count = config.warm_steps
    state, _ = steps_of(own, count, data.train, state, key, 0, count)
    return state.params["student"]


def trained(config, data, start, seed, chosen):
    """Losses and norms ``[steps]``, and numbers ``[parts]``, of one student."""
    own, key = training(), jax.random.key(seed)
    example = {name: array[: own.batch_size] for name, array in data.train.items()}
    given = None if start is None else {"params": start, "state": {}}
    state = init(own, config.steps, key, chosen, example, None, given)
    count = config.steps // config.parts

    def part(state, number):
        state, kept = steps_of(
            own, config.steps, data.train, state, key, number * count, count
        )
        variables = {"params": state.params["student"], "state": {}}
        return state, (*kept, students.numbers(SIZE, config.measured, variables, data))

    _, (loss, norm, numbers) = jax.lax.scan(part, state, jnp.arange(config.parts))
    return {"loss": loss.reshape(-1), "norm": norm.reshape(-1), **numbers}


def alike(params, data, skew):
    """The cosine of the gradients of a skewed and of reverse KL, of one student."""
    own = training()
    batch = {name: array[:1024] for name, array in data.train.items()}
    teacher = own.teacher(None, batch)

    def gradient(loss):
        def mean(params):
            student, _ = own.model.apply({"params": params, "state": {}}, batch)
            values = loss(student.logits, teacher.logits)
            return jnp.mean(students.summed(values, batch))

        return ravel_pytree(jax.grad(mean)(params))[0]

    one = gradient(partial(losses.skew_forward_kl, skew=skew))
    other = gradient(losses.reverse_kl)
    return jnp.vdot(one, other) / (jnp.linalg.norm(one) * jnp.linalg.norm(other))


def row(config, curves, target):
    """A student's numbers: percentiles of the norm, spikes, and steps to the target.

    A target that is not reached counts as reached in the last step, too early.
    """
    norm, loss = curves.pop("norm"), pd.Series(curves.pop("loss"))
    forward = curves["test_forward_kl"]
    reached = np.flatnonzero(forward <= target)
    each = config.steps // config.parts
    return {
        "median_norm": np.median(norm),
        "norm_99": np.quantile(norm, 0.99),
        "largest_norm": norm.max(),
        "spikes": int((loss > 2 * loss.shift().rolling(BEFORE).median()).sum()),
        "steps_to_target": each * (1 + reached[0]) if len(reached) else config.steps,
        **{name: values[-1] for name, values in curves.items()},
    }


def unit(path, make):
    """Arrays of a unit of work, made unless an earlier run has saved them."""
    found = files.load_arrays(path)
    if found is None:
        found = jax.device_get(make())
        files.save_arrays(path, **found)
        console.print(f"wrote {path}")
    return found


def run(config):
    data = grammars.splits(students.MIXTURE, config.train, config.measured)
    began, found = time.monotonic(), settings(config)
    columns = {name: jnp.asarray(found[name], jnp.float32) for name in found}
    skews = jnp.array(config.skews)

    @jax.jit
    def both(seed, data):
        warmed = warm(config, data, seed)
        cosines = jax.lax.map(partial(alike, warmed, data), skews)
        curves = {"cosine": cosines}
        for name, start in {"cold": None, "warm": warmed}.items():
            each = jax.vmap(partial(trained, config, data, start, seed))(columns)
            curves |= {f"{name}/{key}": values for key, values in each.items()}
        return curves

    mark = checkpoint.fingerprint([both.lower(0, data)], np.asarray(found), data)
    rows, cosines = [], []
    for seed in range(config.seeds):
        path = files.cache("skew_stability") / f"{mark}-{seed}.npz"
        curves = unit(path, partial(both, seed, data))
        near = zip(config.skews, curves["cosine"], strict=True)
        cosines += [{"skew": s, "seed": seed, "cosine": float(c)} for s, c in near]
        for start, (i, own) in itertools.product(("cold", "warm"), found.iterrows()):
            of_start = [name for name in curves if name.startswith(f"{start}/")]
            each = {name.split("/")[1]: curves[name][i] for name in of_start}
            plain = curves[f"{start}/test_forward_kl"][0]  # without a skew
            numbers = row(config, each, plain[(config.parts - 1) // 2])
            rows.append({"start": start, **own, "seed": seed, **numbers})
    tables = {"runs": pd.DataFrame(rows), "cosines": pd.DataFrame(cosines)}
    return Outcome(tables, {"seconds": round(time.monotonic() - began)})


def of_setting(runs, name, start="cold", skew=0.0, power=0.0, clipped=False):
    """``[seeds]``, a number of the students of one setting."""
    own = (runs["start"] == start) & np.isclose(runs["skew"], skew)
    own &= (runs["power"] == power) & (np.isfinite(runs["clip"]) == clipped)
    return runs[own].sort_values("seed")[name].to_numpy()


def orders(runs, start):
    """``[seeds]``, orders of magnitude by which skew lowers the largest norm."""
    plain = of_setting(runs, "largest_norm", start)
    calm = of_setting(runs, "largest_norm", start, skew=0.1, power=2.0)
    return np.log10(plain / calm)


def over_clipping(runs):
    """``[seeds]``, nats of both KL of clipped forward KL over a skew of 0.1."""
    clipped = of_setting(runs, "test_both_kl", clipped=True)
    return clipped - of_setting(runs, "test_both_kl", skew=0.1)


def slower(runs):
    """``[seeds]``, steps to the target with a skew of 0.5, over those without."""
    plain, skewed = (of_setting(runs, "steps_to_target", skew=s) for s in (0.0, 0.5))
    return skewed / plain


def nearer(cosines):
    """``[seeds]``, the cosine with reverse KL at a skew of 0.5, less that without."""
    table = cosines.pivot(index="seed", columns="skew", values="cosine")
    return (table[0.5] - table[0.0]).to_numpy()


def show(tables, meta):
    runs = tables["runs"]
    keys = [runs[name] for name in ("start", "skew", "power", "clip")]
    names = ("median_norm", "largest_norm", "spikes", "steps_to_target", "test_both_kl")
    shown = runs[list(names)].groupby(keys, sort=False)
    print_table(shown.agg(partial(format_mean, digits=2)), "Norms, and KL at the end")
    cosines = tables["cosines"].groupby("skew")[["cosine"]]
    print_table(cosines.agg(partial(format_mean, digits=2)), "Cosine with reverse KL")


CLAIMS = {
    "calms": Claim(
        "A skew of 0.1 makes gradients ten times smaller at their largest",
        "log10 of the largest gradient norm of forward KL, over that of a skew of 0.1 "
        "divided by (1 - skew) squared, from random weights",
        partial(orders, start="cold"),
        above(1.0),
    ),
    "warm": Claim(
        "After maximum likelihood, skew hardly matters for the largest gradient",
        "the same log10, after 256 steps of maximum likelihood",
        partial(orders, start="warm"),
        below(0.3),
    ),
    "clipping": Claim(
        "Skew is better than clipping the gradient",
        "forward plus reverse KL in nats, clipped forward KL minus a skew of 0.1, from "
        "random weights",
        over_clipping,
        above(0.0),
    ),
    "slows": Claim(
        "A skew of 0.5 slows training",
        "steps until forward KL is as low as it is without a skew after half of the "
        "steps, or all steps if it never is, with a skew of 0.5, over those without, "
        "from random weights",
        slower,
        above(1.0),
    ),
    "between": Claim(
        "A skewed KL is between forward and reverse KL",
        "cosine of the gradients of a skew of 0.5 and of reverse KL, less that of "
        "forward and reverse KL, after 256 steps of maximum likelihood",
        nearer,
        above(0.0),
        table="cosines",
    ),
}
STUDY = Study(
    "skew_stability",
    __doc__,
    Config,
    run,
    show,
    cost="20 minutes of one core",
    published={},
    quick={"skews": (0.0, 0.1, 0.5), "steps": 64, "warm_steps": 32, "parts": 4}
    | {"train": 2048, "measured": 256, "seeds": 1},
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
