"""The experiments, one file each; ``python -m experiments`` lists them."""

from importlib import import_module

from kdjax.study.study import Study

# In the order of README.md here.
MODULES = (
    "mnist.hinton",
    "mnist.hinton_refit",
    "mnist.omitted_digit",
    "mnist.what_is_dark",
    "mnist.temperature_width",
    "mnist.temperature_alpha",
    "mnist.alpha_teacher",
    "mnist.capacity_gap",
    "mnist.temperature_gradients",
    "mnist.jensen_shannon_ends",
    "cifar10.capacity_gap",
    "cifar10.all_images",
    "cifar10.teacher_assistant",
    "cifar10.losses",
    "cifar10.human_beliefs",
    "cifar10.size_equivalence",
    "cifar10.temperature_alpha",
    "glue.recipes",
    "glue.larger_students",
    "glue.data_fraction",
    "glue.temperature_alpha",
    "glue.embeddings",
    "language.divergences",
    "language.skew_stability",
    "language.translation",
    "language.on_policy",
    "language.temperature_vocabulary",
    "language.sparse_teachers",
    "language.size_equivalence",
    "language.pretrained",
    "toy.mode_covering",
)


def studies() -> dict[str, Study]:
    """All studies by the name of their module."""
    names = (f"experiments.{name}" for name in MODULES)
    return {name: import_module(name).STUDY for name in names}
