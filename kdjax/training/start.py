"""Where a student starts: from weights that its model draws, or from given ones.

Given weights are passed as ``fixed["start"]``, not as constants of a function, which
would become a part of every compiled program.
"""

from collections.abc import Mapping
from typing import Any

import jax

from kdjax.models import Variables


def drawn(variables: Variables, fixed: Any) -> Variables:
    """The variables as the model draws them."""
    return variables


def pretrained(variables: Variables, fixed: Any) -> Variables:
    """The variables with the parameters ``fixed["start"]`` in their places.

    What is not given, such as a new classifier, stays as drawn.

    Raises:
      ValueError: if there are no parameters in ``fixed["start"]``; naming one that has
        no place or another shape; or if the model has a state, such as the running
        averages of batch normalisation, which would not fit the parameters.
    """
    if not isinstance(fixed, Mapping) or not fixed.get("start"):
        has = list(fixed) if isinstance(fixed, Mapping) else type(fixed).__name__
        raise ValueError(f"fixed is {has}, but takes parameters as fixed['start']")
    if jax.tree.leaves(variables["state"]):
        raise ValueError(
            f"the student has a state, {', '.join(variables['state'])}, which cannot "
            f"start from given parameters"
        )
    return {**variables, "params": _merged(variables["params"], fixed["start"], ())}


def _merged(own: Any, given: Any, path: tuple[str, ...]) -> Any:
    where = "/".join(path)
    if isinstance(given, Mapping) and isinstance(own, Mapping):
        for name in given:
            if name not in own:
                raise ValueError(
                    f"fixed['start'] has {'/'.join((*path, name))}, but the student's "
                    f"parameters there are {', '.join(own)}"
                )
        new = {n: _merged(own[n], part, (*path, n)) for n, part in given.items()}
        return {**own, **new}
    shapes = [getattr(each, "shape", None) for each in (given, own)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"fixed['start'] has {where} of shape {shapes[0]}, but the student has it "
            f"of shape {shapes[1]}"
        )
    return given.astype(own.dtype)
