"""Redraws every figure, and writes paper_figs/README.md.

python -m paper_figs    # reads only results/
"""

import importlib
import inspect
from pathlib import Path
from textwrap import fill
from types import ModuleType

import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures

HERE = Path(__file__).parent
HEAD = """\
# Figures

Figures keep their numbers; those of experiments without results yet are left out.
`make figures` generates this page and the figures from the committed results only.
Captions are the docstrings of the modules that draw the figures.
"""


def modules() -> list[ModuleType]:
    """The modules of all figures in order, each with `draw`, RESULTS and MADE_BY.

    Those of experiments that were not run yet are left out.
    """
    names = sorted(path.stem for path in HERE.glob("fig[0-9]*.py"))
    found = [importlib.import_module(f"paper_figs.{name}") for name in names]
    return [m for m in found if (results.ROOT / m.RESULTS / "meta.json").exists()]


def page() -> str:
    return "\n".join([HEAD, *map(entry, modules())])


def entry(module: ModuleType) -> str:
    """The section of a figure; fields of meta.json are inserted in the caption."""
    meta, name = results.meta(module.RESULTS), module.__name__.rpartition(".")[2]
    title, caption = inspect.getdoc(module).format_map(meta).split("\n\n")
    folder = f"results/{module.RESULTS}"
    return f"""\
## Figure {int(name[3:5])}

![{title}]({name}.png)

{fill(f"**{title}** {caption}", 88)}

- drawn by `python -m {module.__name__}` from [`{folder}`](../{folder})
- results from `python -m {module.MADE_BY}`{data(meta)}
"""


def data(meta: dict) -> str:
    if "dataset" not in meta:
        return ""
    images = "{train:,} training, {validation:,} validation and {test:,} test images"
    return f", on\n  {images.format_map(meta['dataset'])} of {meta['dataset']['name']}"


def main() -> None:
    plt.style.use(HERE / "paper.mplstyle")
    for module in modules():
        figure = module.draw(module.RESULTS)
        figures.write(figure, HERE / module.__name__.rpartition(".")[2])
        plt.close(figure)
    (HERE / "README.md").write_text(page())


if __name__ == "__main__":
    main()
