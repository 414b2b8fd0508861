"""Draws every figure again, and writes README.md, the list of them.

python -m paper_figs    # reads results/ and nothing else
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

In the order in which the results are told. This page and the figures are made by
`make figures`, each from the committed results that it names and from nothing else.
Captions are the docstrings of the modules that draw.
"""


def modules() -> list[ModuleType]:
    """The modules of all figures, in order. Each has `draw`, RESULTS and MADE_BY."""
    names = sorted(path.stem for path in HERE.glob("fig[0-9]*.py"))
    return [importlib.import_module(f"paper_figs.{name}") for name in names]


def page() -> str:
    return "\n".join([HEAD, *map(entry, modules())])


def entry(module: ModuleType) -> str:
    """A figure with its caption, in which the fields of meta.json are filled in."""
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
