"""What experiments share: a config made quick, and where its results go."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

Config = TypeVar("Config")


def quicker(config: Config, quick: Mapping[str, Any]) -> Config:
    """``config`` with the values of ``quick``, save where it asks for its own."""
    asked, usual = asdict(config), asdict(type(config)())
    return replace(config, **{n: v for n, v in quick.items() if asked[n] == usual[n]})


def folder(name: str, dataset: str, quick: bool) -> str:
    """Under results/; only those of whole MNIST bear the name alone."""
    name += "" if dataset == "mnist" else f"_{dataset}"
    return name + ("_quick" if quick else "")
