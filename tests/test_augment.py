import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax.data.augment import crop, flip, jitter

KEY = jax.random.key(0)


def dots(row, column, channels=()):
    """500 images with one bright pixel each."""
    images = np.zeros((500, 9, 9, *channels), np.float32)
    images[:, row, column] = 1
    return images


@pytest.mark.parametrize("augment, pixels", [(jitter, 2), (crop, 4)])
def test_an_image_moves_by_up_to_so_many_pixels_each_way(augment, pixels):
    moved = np.asarray(augment(KEY, dots(4, 4)))
    images, rows, columns = np.nonzero(moved)
    assert moved.shape == (500, 9, 9) and (images == np.arange(500)).all()
    reached = set(range(4 - pixels, 5 + pixels))
    assert set(rows) == set(columns) == reached
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.15  # independent


def test_zeros_move_in_where_an_image_leaves():
    sums = np.asarray(jitter(KEY, dots(0, 0))).sum((1, 2))
    assert set(sums) == {0.0, 1.0}
    np.testing.assert_allclose(sums.mean(), (3 / 5) ** 2, atol=0.07)


def test_channels_move_and_turn_together():
    grey = dots(2, 3)
    colours = np.stack([grey, 2 * grey, 3 * grey], -1)
    for augment in (jitter, crop, flip):
        of_grey, of_colours = augment(KEY, grey), augment(KEY, colours)
        expected = np.stack([of_grey, 2 * of_grey, 3 * of_grey], -1)
        np.testing.assert_array_equal(of_colours, expected)


def test_half_of_the_images_are_mirrored_left_to_right():
    turned = np.asarray(flip(KEY, dots(2, 3)))
    images, rows, columns = np.nonzero(turned)
    assert (images == np.arange(500)).all() and set(rows) == {2}
    assert set(columns) == {3, 5}
    np.testing.assert_allclose((columns == 5).mean(), 0.5, atol=0.07)


@pytest.mark.parametrize("augment", [jitter, crop, flip])
def test_another_key_is_another_draw_and_types_stay(augment):
    images = jnp.asarray(dots(4, 3), jnp.bfloat16)
    first, again, other = (augment(jax.random.key(k), images) for k in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert first.dtype == jnp.bfloat16
