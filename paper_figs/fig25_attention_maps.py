"""Where the last layers of a teacher and its students look in one text.

Attention of each token (rows) to all tokens (columns), mean over heads, for a test text
of SST-2; white is 0, the darkest blue 0.5 or more. Students have every other layer of
their teacher, and begin from them; the last has learned the labels alone.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures

RESULTS = "recipes"
MADE_BY = "experiments.glue.recipes"
SHOWN = {
    ("teacher", ""): "teacher",
    ("minilm", "layers"): "MiniLM",
    ("tinybert", "layers"): "TinyBERT",
    ("hinton", "layers"): "Hinton",
    ("fine_tuning", "layers"): "no teacher",
}


def draw(name: str) -> Figure:
    rows = results.load(name, "attention").fillna({"start": ""})
    rows = rows[rows["task"] == rows["task"].iloc[0]]
    found = rows.groupby(["arm", "start"])
    shown = {key: title for key, title in SHOWN.items() if key in found.groups}
    fig, axes = plt.subplots(
        1, len(shown), figsize=(figures.PAGE, 2), sharey=True, squeeze=False
    )
    for ax, (key, title) in zip(axes[0], shown.items(), strict=True):
        weights = found.get_group(key)
        tokens = weights.drop_duplicates("key")["token"]
        image = weights.pivot_table("weight", "query", "key", "mean")
        ax.imshow(image, cmap="Blues", vmin=0, vmax=0.5)
        ax.set_xticks(range(len(tokens)), tokens, rotation=90, size=7)
        ax.set_yticks(range(len(tokens)), tokens, size=7)
        ax.set_title(title)
        ax.grid(False)
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
