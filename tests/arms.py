"""Helpers to test the arms and claims of experiments without training."""

import pickle

import numpy as np

from kdjax import checks
from kdjax.study import claims


def sizes(arm):
    """Numbers of runs in the search and of runs that are measured."""
    search = arm.settings.assign(validation_errors_last=0, validation_nll_last=0.0)
    return len(search), arm.seeds * len(arm.choose(search, list(arm.axes)))


def runs(arms):
    """Total number of runs of all arms."""
    return sum(sum(sizes(arm)) for arm in arms)


def check(arm):
    """Runs the checks of a sweep, and pickles what other processes need."""
    columns = checks.columns(dict(arm.settings), [arm.training])
    checks.prepared([arm.training], columns, [arm.data], arm.fixed)
    pickle.dumps((arm.training, arm.extras))


def decided(study, runs):
    """The values and the verdicts of all claims by name."""
    found = {n: claims.measured(c, {"runs": runs}) for n, c in study.claims.items()}
    verdicts = {n: claims.verdict(study.claims[n], e) for n, e in found.items()}
    return {name: estimate.value for name, estimate in found.items()}, verdicts


def undecided(study, runs):
    """Names of the claims that cannot be evaluated on these rows."""
    return [
        name
        for name, claim in study.claims.items()
        if ": "
        not in claims.report(claim, {"runs": runs}, decides=False).split("\n")[1]
    ]


def same(split, other):
    """Whether two splits have the same images and labels."""
    return all(np.array_equal(split[n], other[n]) for n in ("image", "label"))
