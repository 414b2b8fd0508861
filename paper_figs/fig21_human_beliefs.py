"""What people, a teacher and its students take some test images of CIFAR-10 for.

About 50 people named each image, and less than two thirds of them gave the same answer.
Shown are those where students trained on hard labels are farther from people than both
the teacher and the students distilled from it at T = 4, by the largest margins, at most
two of a class. On {nearer[images]} test images the most frequent answer has less than
80 %: distilled students are nearer to people on {nearer[distilled]} of these, those
trained on hard labels on {nearer[hard]}. Bars are shares of answers and mean
probabilities, for up to three classes that people name most often; the true class is in
bold. Each network has the temperature at which it is nearest to people on other images.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "human_beliefs"
MADE_BY = "experiments.cifar10.human_beliefs"
CLASSES = "airplane car bird cat deer dog frog horse ship truck".split()
PAIRS = 3  # of an image and its bars, per row
SHOWN = 3  # classes of an image
BARS = {
    "reference": ("{reference}", "black"),  # people, or for digits a teacher
    "teacher": ("teacher", figures.BLUE),
    "distilled": ("distilled students", figures.YELLOW),
    "hard": ("students trained on hard labels", figures.RED),
}
HEIGHT = 0.8 / len(BARS)  # of a bar; classes are 1 apart


def draw(name: str) -> Figure:
    images, meta = results.load(name, "images"), results.meta(name)
    classes = CLASSES if meta["reference"] == "people" else list("0123456789")
    rows = -(-len(images) // PAIRS)
    fig, axes = plt.subplots(
        *(rows, 2 * PAIRS),
        figsize=(figures.PAGE, 1.2 * rows + 0.4),
        width_ratios=(1, 1.1) * PAIRS,
        squeeze=False,
    )
    pairs = axes.reshape(-1, 2)
    for (left, right), (_, row) in zip(pairs, images.iterrows(), strict=False):
        picture(left, row)
        bars(right, row, classes)
    for ax in pairs[len(images) :].flat:
        ax.set_axis_off()
    for ax in pairs[max(0, len(images) - PAIRS) : len(images), 1]:
        ax.set_xlabel("probability")
    handles = [Patch(color=c, label=says.format_map(meta)) for says, c in BARS.values()]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(BARS))
    return fig


def picture(ax: Axes, row: pd.Series) -> None:
    pixels = row[[f"pixel{i}" for i in range(32 * 32 * 3)]].to_numpy(int)
    ax.imshow(pixels.reshape(32, 32, 3))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def bars(ax: Axes, row: pd.Series, names: list[str]) -> None:
    """Horizontal bars of everyone for the classes that people name most often."""
    people = row[[f"reference{c}" for c in range(len(names))]].to_numpy(float)
    classes = [c for c in np.argsort(-people, kind="stable")[:SHOWN] if people[c] > 0]
    places = np.arange(len(classes))
    for i, (kind, (_, colour)) in enumerate(BARS.items()):
        shares = row[[f"{kind}{c}" for c in classes]].to_numpy(float)
        shift = HEIGHT * (i - (len(BARS) - 1) / 2)
        ax.barh(places + shift, shares, HEIGHT, color=colour)
    ax.set_yticks(places, [names[c] for c in classes])
    for label, c in zip(ax.get_yticklabels(), classes, strict=True):
        label.set_fontweight("bold" if c == row["label"] else "normal")
    ax.set(xlim=(0, 1), xticks=(0, 0.5, 1), ylim=(SHOWN - 0.5, -0.5))
    ax.grid(False, axis="y")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
