"""What peers gave, stored, and compared with what they give now."""

from pathlib import Path

import numpy as np

TOLERANCE = 1e-4  # as in the tests of kdjax


def write(root: Path, found: dict[str, dict[str, np.ndarray]]) -> None:
    """Stores arrays by name, in a folder of ``root`` for each model."""
    for name, arrays in found.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / name / "outputs.npz", **arrays)
        print(f"wrote {root / name}")


def differences(root: Path, found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """A line for each array that is not as it is stored, or is on one side alone."""
    lines = []
    for folder, own in found.items():
        with np.load(root / folder / "outputs.npz") as there:
            lines += [
                f"{folder}: {name} differs"
                for name in own.keys() | set(there.files)
                if name not in own
                or name not in there
                or not np.allclose(own[name], there[name], atol=TOLERANCE)
            ]
    return sorted(lines)
