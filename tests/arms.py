"""What an experiment asks for and what decides its claims, with nothing trained."""

import pickle

import numpy as np

from kdjax import checks
from kdjax.study import claims


def sizes(arm):
    """How many runs are searched, and how many are measured."""
    search = arm.settings.assign(validation_errors_last=0, validation_nll_last=0.0)
    return len(search), arm.seeds * len(arm.choose(search, list(arm.axes)))


def runs(arms):
    """How many runs all take."""
    return sum(sum(sizes(arm)) for arm in arms)


def check(arm):
    """Raises what a sweep would before it trains; all must go to other processes."""
    columns = checks.columns(dict(arm.settings), [arm.training])
    checks.prepared([arm.training], columns, [arm.data], arm.fixed)
    pickle.dumps((arm.training, arm.extras))


def decided(study, runs):
    """Of each claim the value and the verdict, by name."""
    found = {n: claims.measured(c, {"runs": runs}) for n, c in study.claims.items()}
    verdicts = {n: claims.verdict(study.claims[n], e) for n, e in found.items()}
    return {name: estimate.value for name, estimate in found.items()}, verdicts


def undecided(study, runs):
    """Claims that these rows, of another config, say nothing about."""
    return [
        name
        for name, claim in study.claims.items()
        if ": "
        not in claims.report(claim, {"runs": runs}, decides=False).split("\n")[1]
    ]


def same(split, other):
    """Whether two splits have the same images and labels."""
    return all(np.array_equal(split[n], other[n]) for n in ("image", "label"))
