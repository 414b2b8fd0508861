"""Errors on two tasks of GLUE against the temperature T and the teacher's weight α.

Errors of an encoder that begins from every other layer of its teacher, by Hinton's
loss, less those of the same encoder fine-tuned without a teacher, in percentage points:
below 0, the teacher helps. Means of paired differences with 95 % intervals over
{config[seeds]} seeds.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures
from paper_figs.fig20_temperature_alpha_images import heat_map

RESULTS = "temperature_alpha_glue"
MADE_BY = "experiments.glue.temperature_alpha"


def draw(name: str) -> Figure:
    runs = results.load(name)
    runs["error"] = 100 * (1 - runs["test_accuracy_last"])
    tasks = runs["task"].unique()
    fig, axes = plt.subplots(1, len(tasks), figsize=(figures.PAGE, 2.2), squeeze=False)
    for ax, task in zip(axes[0], tasks, strict=True):
        rows = runs[runs["task"] == task]
        found = figures.differences(rows, rows[rows["arm"] == "hard"], "error")
        heat_map(fig, ax, found[found["arm"] == "hinton"])
        ax.set_title(task.upper())
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
