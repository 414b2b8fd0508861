"""Networks for images: fast gradients, published teachers, features, refusals."""

from functools import partial

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.models import convolution, from_torch, max_pool, plain, resnet
from tests.published import SHARED, cifar10, needs_cifar10

convolve = convolution.convolve
RNG = np.random.default_rng(0)


def native(x, kernel, stride):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("images", [8, 3])
@pytest.mark.parametrize("shape", [(8, 8, 3), (6, 4, 4), (4, 6, 3), (4, 8, 6)])
def test_a_convolution_has_the_values_and_gradients_of_xlas_own(stride, images, shape):
    *shape, channels = shape
    x = RNG.normal(size=(images, *shape, channels))
    kernel = RNG.normal(size=(3, 3, channels, 5))
    by = RNG.normal(size=(images, *(s // stride for s in shape), 5))

    def values_and_gradients(convolve):
        values, backward = jax.vjp(partial(convolve, stride=stride), x, kernel)
        return values, *backward(by)

    with jax.enable_x64(True):
        x, kernel, by = map(jnp.asarray, (x, kernel, by))
        pairs = zip(
            values_and_gradients(lambda x, k, stride: convolve(x, k, stride)),
            values_and_gradients(native),
            strict=True,
        )
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_gradients_on_accelerators_are_xlas_own():
    x, kernel = RNG.normal(size=(4, 6, 6, 2)), RNG.normal(size=(3, 3, 2, 3))
    by = RNG.normal(size=(4, 3, 3, 3))
    with jax.enable_x64(True):
        for by_cpu, by_others in zip(
            convolution._gradients_on_cpu(2, *map(jnp.asarray, (x, kernel, by))),
            convolution._native_gradients(2, *map(jnp.asarray, (x, kernel, by))),
            strict=True,
        ):
            np.testing.assert_allclose(by_cpu, by_others, rtol=1e-10, atol=1e-12)


def test_gradients_are_the_same_side_by_side_and_in_a_loop():
    x = jnp.asarray(RNG.normal(size=(2, 4, 4, 4, 2)), jnp.float32)
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 2, 3)), jnp.float32)

    def gradient(x):
        return jax.grad(lambda k: jnp.sum(convolve(x, k, 1) ** 2))(kernel)

    one_by_one = jnp.stack([gradient(each) for each in x])
    _, looped = lax.scan(lambda _, each: (None, gradient(each)), None, x)
    np.testing.assert_allclose(looped, one_by_one, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(gradient)(x), one_by_one, rtol=1e-5)


def test_pooling_takes_the_largest_of_four():
    x = RNG.normal(size=(2, 6, 4, 3)).astype(np.float32)
    blocks = x.reshape(2, 3, 2, 2, 2, 3)
    np.testing.assert_array_equal(max_pool(x), blocks.max((2, 4)))
    grad = jax.grad(lambda x: max_pool(x).sum())(jnp.asarray(x))
    assert (np.asarray(grad).reshape(blocks.shape).sum((2, 4)) == 1).all()
    assert set(np.unique(grad)) == {0, 1}


def shapes(model, **options):
    batch = {"image": np.zeros((2, 32, 32, 3), np.float32)}
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    outputs, _ = jax.eval_shape(model.apply, variables, batch)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return outputs.logits.shape, [f.shape[1:] for f in outputs.features], count


def test_a_residual_network_has_the_papers_shapes_and_size():
    for depth, parameters in ((20, 269_722), (56, 853_018)):  # in millions: 0.27, 0.85
        logits, features, count = shapes(resnet(depth, classes=10))
        assert count == parameters
        assert logits == (2, 10)
        assert features == [(32, 32, 16), (16, 16, 32), (8, 8, 64), (64,)]
    for depth in (2, 9, 21):
        with pytest.raises(ValueError, match=f"depth is {depth}, but takes 6 n"):
            resnet(depth, classes=10)


def test_a_plain_network_has_the_layers_of_the_teacher_assistants_code():
    _, features, count = shapes(plain(2, classes=10))
    assert features == [(32, 32, 16), (16, 16, 16), (1024,)]
    assert count == 27 * 16 + 32 + 144 * 16 + 32 + 1024 * 10 + 10
    _, features, _ = shapes(plain(10, classes=100))
    assert features[-2:] == [(4, 4, 256), (128,)]
    _, features, _ = shapes(plain(4, classes=10, width=0.5))
    assert features[:2] == [(32, 32, 8), (16, 16, 16)]
    with pytest.raises(ValueError, match=r"layers is 3, but takes one of \[2, 4,"):
        plain(3, classes=10)


def test_an_array_without_a_place_is_refused():
    with pytest.raises(ValueError, match="layer9x has no place|conv9.weight has no pl"):
        from_torch(resnet(8, classes=10), {"conv9.weight": np.zeros((1, 1, 3, 3))})


@needs_cifar10
def test_arrays_of_another_network_are_refused():
    with np.load(SHARED / "teachers/cifar10_resnet20.npz") as found:
        arrays = dict(found)
    with pytest.raises(ValueError, match=r"not those of .*stage0_block1_conv0.*differ"):
        from_torch(resnet(8, classes=10), arrays)
    del arrays["linear.bias"]
    with pytest.raises(ValueError, match=r"network: \['params'\]\['dense'\]\['bias'\]"):
        from_torch(resnet(20, classes=10), arrays)


@needs_cifar10
@pytest.mark.parametrize(
    "depth, published", [(20, 8.27), (32, 7.37), (44, 6.90), (56, 6.61)]
)
def test_published_teachers_have_the_published_error(depth, published, optimized):
    image, label = cifar10("test")
    model = resnet(depth, classes=10)
    with np.load(SHARED / f"teachers/cifar10_resnet{depth}.npz") as arrays:
        variables = from_torch(model, dict(arrays))
    logits = jax.jit(lambda *given: model.apply(*given)[0].logits)
    wrong = 0
    for first in range(0, len(label), 500):
        rows = slice(first, first + 500)
        found = logits(variables, {"image": np.float32(image[rows]) / 255})
        wrong += int((np.argmax(found, -1) != label[rows]).sum())
    assert abs(100 * wrong / len(label) - published) <= 0.1
