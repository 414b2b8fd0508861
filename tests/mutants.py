"""Mutation testing of the losses: lists changes that no test detects.

    python -m tests.mutants --sample 3               # three per module
    python -m tests.mutants --modules speculative sparse  # all of these two

Each mutant is a copy of the checkout with one operator, number or argument changed. It
is killed if a test fails. Findings are cached in .cache/mutants.json until the losses
or their tests change. A survivor is a gap in the tests or an equivalent mutant.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import random
import shutil
import subprocess
import sys
import tempfile

import rich
import tyro

from kdjax import files, progress

ROOT = Path(__file__).parents[1]
LOSSES = ROOT / "kdjax/losses"
KEPT = ROOT / ".cache/mutants.json"
SECONDS = 900  # a mutant that hangs is killed, too
MODULES = tuple(
    sorted(p.stem for p in LOSSES.glob("*.py") if p.stem not in ("__init__", "ranges"))
)
SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


@dataclass(frozen=True)
class Mutant:
    module: str
    line: int
    was: str
    became: str
    source: str


def change(node: ast.AST) -> ast.AST | None:
    """A mutation of the node, or None."""
    match node:
        case ast.UnaryOp(ast.USub(), ast.Constant(1)):
            return None  # usually the last axis, often the only one
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            return ast.BinOp(left, SWAPS[type(op)](), right)
        case ast.Compare(left, [op], right) if type(op) in SWAPS:
            return ast.Compare(left, [SWAPS[type(op)]()], right)
        case ast.UnaryOp(ast.Invert() | ast.USub(), operand):
            return operand
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return ast.Constant(2 * value if value else 1)
        case ast.Constant(bool() as value):
            return ast.Constant(not value)
        case ast.Call(ast.Attribute(attr="where"), [condition, a, b]):
            return ast.Call(node.func, [condition, b, a], node.keywords)
        case ast.Call(ast.Attribute(attr="stop_gradient"), [inner]):
            return inner
        case ast.Call(ast.Attribute(value, "sum" | "mean" as name), args, keywords):
            other = ast.Attribute(value, "mean" if name == "sum" else "sum")
            return ast.Call(other, args, keywords)


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes in the bodies of functions."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                yield from ast.walk(statement)


def mutants(module: str) -> list[Mutant]:
    text = (LOSSES / f"{module}.py").read_text()
    count = len(list(places(ast.parse(text))))
    found = {}
    for i in range(count):
        tree = ast.parse(text)
        node = list(places(tree))[i]
        changed = change(node)
        if changed is None:
            continue
        was, became = ast.unparse(node), ast.unparse(changed)
        line = node.lineno
        for field in node._fields:
            if hasattr(node, field):
                delattr(node, field)
        node.__class__ = type(changed)
        vars(node).update(vars(changed))
        source = ast.unparse(ast.fix_missing_locations(tree))
        found[source] = Mutant(module, line, was, became, source)
    return list(found.values())


def passes(checkout: Path, mutant: Mutant) -> bool:
    """Whether all tests of losses pass; those of the module run first."""
    path = checkout / f"kdjax/losses/{mutant.module}.py"
    whole = path.read_text()
    own = Path(f"tests/losses/test_{mutant.module}.py")
    first = [str(own), str(path)] if (checkout / own).exists() else [str(path)]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
    path.write_text(mutant.source)
    try:
        for tests in (first, ["tests/losses", "tests/test_peers.py"]):
            done = subprocess.run(
                [*command, *tests], cwd=checkout, capture_output=True, timeout=SECONDS
            )
            if done.returncode not in (0, 5):  # 5: the module has no examples
                return False
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(whole)


def main(
    modules: tuple[str, ...] = MODULES, sample: int | None = None, seed: int = 0
) -> None:
    """Mutation testing of the losses: lists changes that no test detects.

    Args:
      modules: Modules of kdjax/losses.
      sample: Number of random mutants per module; all by default.
      seed: Random seed of the sample.
    """
    unchanged = (LOSSES / "_numerics.py").read_text()
    chosen = [Mutant("_numerics", 0, "nothing", "nothing", unchanged)]
    for module in modules:
        found = mutants(module)
        random.Random(seed).shuffle(found)
        chosen += found[:sample]
    tests = b"".join(p.read_bytes() for p in sorted(ROOT.glob("tests/losses/*.py")))
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    rich.print(f"{len(chosen)} mutants; findings are cached in {KEPT}")
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "kdjax"
        ignored = shutil.ignore_patterns(".*", "__pycache__")
        shutil.copytree(ROOT, checkout, ignore=ignored)
        for mutant in progress.track(chosen, "mutants"):
            key = hashlib.sha256(mutant.source.encode() + tests).hexdigest()[:16]
            if key not in kept:
                kept[key] = passes(checkout, mutant)
                with files.atomic(KEPT) as path:
                    path.write_text(json.dumps(kept))
            if mutant.line == 0:
                if not kept[key]:
                    sys.exit("the tests fail without any change")
            elif kept[key]:
                alive += 1
                rich.print(
                    f"[red]alive[/] {mutant.module}.py:{mutant.line}: "
                    f"{mutant.was!r} -> {mutant.became!r}"
                )
    rich.print(f"{alive} of {len(chosen) - 1} mutants are alive")
    sys.exit(bool(alive))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
