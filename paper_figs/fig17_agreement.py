"""Agreement with the teacher, and KL to it, against accuracy.

One mark per loss of figure 16, the mean over {config[seeds]} seeds on test images.
Left: the share of images on which student and teacher predict the same class. Right: KL
from the teacher to the student at T = 1. Agreement goes with accuracy, KL does not:
with losses softened by T = 4, students are right more often and yet farther away.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures
from paper_figs.fig16_losses import GROUPS, LOOKS

RESULTS = "losses_cifar10"
MADE_BY = "experiments.cifar10.losses --dataset cifar10_10k"
COLOURS = dict(zip(GROUPS, (figures.BLUE, figures.RED, figures.YELLOW), strict=True))
MEASURES = {
    "test_agreement_last": "agreement with the teacher (%)",
    "test_teacher_kl_last": "KL to the teacher (nats)",
}


def draw(name: str) -> Figure:
    runs = results.load(name)
    runs["with_kl"] = runs["kl"] > 0
    keys = ["arm", "features", "with_kl"]
    columns = ["test_accuracy_last", *MEASURES]
    means = runs.groupby(keys)[columns].mean()
    fig, axes = plt.subplots(1, 2, figsize=(figures.PAGE, 2.6))
    groups = {arm: title for title, arms in GROUPS.items() for arm in arms}
    for ax, (column, label) in zip(axes, MEASURES.items(), strict=True):
        scale = 100 if "agreement" in column else 1
        for (arm, features, with_kl), row in means.iterrows():
            colour = COLOURS.get(groups.get(arm), "black")
            _, _, marker, fill = LOOKS.get((features, with_kl), (0, 0, "D", "full"))
            x, y = 100 * row["test_accuracy_last"], scale * row[column]
            ax.plot(x, y, marker, color=colour, fillstyle=fill)
        ax.set(xlabel="test accuracy (%)", ylabel=label)
    marks = [figures.mark(title, colour, "o") for title, colour in COLOURS.items()]
    marks += [
        figures.mark(label, "0.4", marker, fillstyle=fill)
        for label, _, marker, fill in LOOKS.values()
    ]
    marks.append(figures.mark("hard labels, smoothing, longer", "black", "D"))
    fig.legend(handles=marks, loc="outside lower center", ncols=4)
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
