"""A batch-normalised convolutional student, a hint, a live teacher, and views."""

from types import SimpleNamespace

import flax.linen as nn
import jax
from jax.extend.core import jaxprs_in_params
import numpy as np
import pytest

from kdjax import losses, models
from kdjax.data import Data
from kdjax.data.augment import crop, flip
from kdjax.models import Outputs, from_linen, projectors
from kdjax.training import optimizers, strategy, teacher, train, views
from kdjax.training.programs import Phase
from tests import small
from tests.small import assert_close, swept

COLUMNS = {"temperature": [2.0, 2.0], "weight": [0.3, 3.0], "learning_rate": [0.1, 0.2]}


class Network(nn.Module):
    """A small CNN whose feature is the second map, ``[B, 4, 4, channels]``."""

    channels: int

    @nn.compact
    def __call__(self, x, *, train):
        for stride in (1, 2):
            x = nn.Conv(self.channels, (3, 3), strides=stride, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(not train, momentum=0.8)(x))
        return Outputs(nn.Dense(3)(x.mean((1, 2))), (x,))


def hint_and_soft(student, teacher, batch, *, temperature, weight):
    hint = losses.hint(student.features[-1], teacher.features[-1])
    soft = losses.soft_kl(student.logits, teacher.logits, temperature=temperature)
    return soft + weight * hint


def _split(rng, examples):
    """Noisy images of vertical, horizontal or diagonal bars."""
    label = rng.integers(0, 3, examples).astype(np.int32)
    bars = np.zeros((3, 8, 8, 1), np.float32)
    bars[0, :, 3:5] = bars[1, 3:5] = 2
    bars[2] += 2 * np.eye(8, dtype=np.float32)[..., None]
    noise = rng.normal(size=(examples, 8, 8, 1))
    return {"image": np.float32(bars[label] + noise / 2), "label": label}


RNG = np.random.default_rng(0)
IMAGES = Data(*(_split(RNG, examples) for examples in (64, 30, 30)))
TEACHER = from_linen(Network(6))
TRAINING = small.training(
    hint_and_soft,
    model=from_linen(Network(4)),
    epochs=2,
    batch_size=16,
    optimizer=optimizers.sgd,
    teacher=teacher.live(TEACHER),
    projector=projectors.linear(),
    view=views.augmented(flip, lambda key, images: crop(key, images, pixels=1)),
)


@pytest.fixture(scope="module")
def options():
    teacher_variables = TEACHER.init(jax.random.key(1), IMAGES.train)
    return {"data": IMAGES, "seeds": [0], "fixed": {"teacher": teacher_variables}}


@pytest.fixture(scope="module")
def one_after_another(options, tmp_path_factory):
    place = tmp_path_factory.mktemp("sequence")
    loops = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Phase, "advance", noting(loops, Phase.advance))
        result = swept(place, COLUMNS, TRAINING, **options)
    assert len(list(place.glob("*/*.npz"))) == 2  # one unit per run
    return result, loops


def noting(loops, advance):
    """Records for each call whether the program has convolutions inside a loop."""

    def noted(self, run, fed, keys, *arguments):
        first = fed if self.scanned else jax.tree.map(lambda a: a[0], fed)
        key = keys if self.scanned else keys[0]
        program = jax.make_jaxpr(self.program)(run, first, key, *arguments)
        assert "conv_general_dilated" in str(program)
        loops.append("conv_general_dilated" in "".join(looped(program.jaxpr)))
        return advance(self, run, fed, keys, *arguments)

    return noted


def looped(jaxpr):
    """The equations inside the loops of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("scan", "while"):
            yield str(equation)
        else:
            for inner in jaxprs_in_params(equation.params):
                yield from looped(inner)


def test_side_by_side_and_one_after_another_agree_but_for_rounding(
    one_after_another, options, tmp_path
):
    result, _ = one_after_another
    together = swept(tmp_path, COLUMNS, TRAINING, vectorized=True, **options)
    assert len(list(tmp_path.glob("*/*.npz"))) == 1
    assert_close(together.runs, result.runs)
    assert_close(together.curves, result.curves)
    assert result.runs.test_nll_last.nunique() == 2


def test_the_student_learns_by_hints_from_what_it_sees(one_after_another):
    curves = one_after_another[0].curves.train_loss.to_numpy().reshape(2, 2)
    assert (curves[:, 1] < 0.9 * curves[:, 0]).all()


def test_on_a_cpu_no_loop_is_around_a_convolution_with_its_own_gradient(
    one_after_another,
):
    _, loops = one_after_another
    assert loops == [False] * 4  # two runs of two epochs


def test_a_cpu_takes_steps_of_such_convolutions_one_by_one_and_loops_over_others():
    cpu, gpu = jax.devices()[0], SimpleNamespace(platform="gpu")
    ours = small.training(model=models.plain(2, classes=3))
    colour = {"image": np.zeros((32, 32, 32, 3), np.uint8)}
    scanned = {
        (name, device.platform): strategy.scans_well(training, data, device)
        for name, training, data in (
            ("their convolution", TRAINING, IMAGES),
            ("our convolution", ours, Data(colour)),
            ("dense", small.training(), small.data()),
        )
        for device in (cpu, gpu)
    }
    assert [key for key, value in scanned.items() if not value] == [
        ("their convolution", "cpu")
    ]


def test_a_run_stopped_in_an_epoch_goes_on_with_the_same_bits(
    one_after_another, options, tmp_path
):
    def trained():
        return train(
            TRAINING,
            {name: values[0] for name, values in COLUMNS.items()},
            data=IMAGES,
            key=jax.random.fold_in(jax.random.key(0), 0),  # of a sweep's seed 0
            fixed=options["fixed"],
            directory=tmp_path,
            checkpoint_steps=1,
        )

    with small.stopped_after(saves=3):  # of the four steps of an epoch
        trained()
    resumed, never_stopped = trained(), one_after_another[0].curves[:2]
    for name in ("validation_nll", "validation_accuracy"):
        np.testing.assert_array_equal(resumed.curves[name], never_stopped[name])
    averages = jax.tree.leaves(resumed.variables["state"])
    first = TRAINING.model.init(jax.random.key(0), IMAGES.train)["state"]
    for before, after in zip(jax.tree.leaves(first), averages, strict=True):
        assert (before != after).any()
