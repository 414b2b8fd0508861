"""Students write the texts that they learn from, and are told what comes next."""

import jax
import numpy as np
import pytest

from kdjax import losses, models
from kdjax.data.language import next_tokens
from kdjax.models.generation import Mixed, Written, generate
from kdjax.training import replay, writing

SHAPE = models.DecoderShape(7, 1, 8, 2, 1, 8, context=9)
PROMPTS = np.array([[1, 2, 3], [4, 0, 0], [5, 6, 0]], np.int32)
MASK = (PROMPTS > 0).astype(np.int32)


@pytest.fixture(scope="module")
def params():
    rows = {n: np.zeros((1, 2), np.int32) for n in ("tokens", "mask")}
    return models.decoder(SHAPE).init(jax.random.key(0), rows)["params"]


def test_what_is_written_follows_each_prompt_without_a_gap():
    tokens = np.array([[6, 5, 0], [3, 2, 1], [4, 0, 0]], np.int32)
    mask = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0]], np.int32)
    found = writing.continued(PROMPTS, MASK, Written(tokens, mask, np.zeros((3, 3))))
    np.testing.assert_array_equal(
        found["tokens"], [[1, 2, 3, 6, 5, 0], [4, 3, 2, 1, 0, 0], [5, 6, 4, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        found["mask"], [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        found["label"],
        [[-1, -1, 6, 5, -1, -1], [3, 2, 1, -1, -1, -1], [-1, 4, -1, -1, -1, -1]],
    )


def test_the_student_writes_its_share(params):
    rng = np.random.default_rng(0)
    tokens = np.pad(rng.integers(1, 7, (3, 6)).astype(np.int32), ((0, 0), (0, 3)))
    tokens[:, :3] = PROMPTS
    batch = {"tokens": tokens, "mask": (tokens > 0).astype(np.int32)}
    batch |= {"prompt_length": MASK.sum(1), "other": np.arange(3)}
    batch["label"] = np.asarray(next_tokens(tokens, batch["mask"]))
    view = writing.by_student(SHAPE, prompt=3, end=2, share=2 / 3)
    seen = view(jax.random.key(1), batch, params, None)
    assert seen["from_student"].tolist() == [True, True, False]
    for name in batch:
        np.testing.assert_array_equal(seen[name][2], batch[name][2])
    args = PROMPTS[:2], MASK[:2]
    written = generate(SHAPE, params, *args, jax.random.key(1), new=6, end=2)
    expected = writing.continued(*args, written)
    for name, array in expected.items():
        np.testing.assert_array_equal(seen[name][:2], array)
    compiled = jax.jit(view)(jax.random.key(1), batch, params, None)
    jax.tree.map(np.testing.assert_array_equal, compiled, seen)
    whole = {name: array for name, array in batch.items() if name != "prompt_length"}
    seen = view(jax.random.key(1), whole, params, None)
    np.testing.assert_array_equal(seen["tokens"][:, :3], PROMPTS)
    assert (np.asarray(seen["label"])[:2, :2] == -1).all()
    assert (np.asarray(seen["label"])[:2, 2] >= 0).all()
    for share, all_or_none in ((0.0, False), (1.0, True)):
        view = writing.by_student(SHAPE, prompt=3, end=2, share=share)
        seen = view(jax.random.key(1), batch, params, None)
        assert (seen["from_student"] == all_or_none).all()
        assert np.array_equal(seen["tokens"], tokens) != all_or_none
    with pytest.raises(ValueError, match=r"share is 1.5, but takes a number in \[0, 1"):
        writing.by_student(SHAPE, prompt=3, share=1.5)


def test_a_prompt_that_is_too_long_stays_as_it_is(params):
    tokens = np.array([[1, 2, 3, 4, 5, 6, 0]] * 2, np.int32)
    mask = (tokens > 0).astype(np.int32)
    batch = {"tokens": tokens, "mask": mask, "prompt_length": np.int32([2, 3])}
    batch["label"] = np.asarray(next_tokens(tokens, mask))
    view = writing.by_student(SHAPE, prompt=2)
    seen = view(jax.random.key(0), batch, params, None)
    assert seen["from_student"].tolist() == [True, False]
    for name in writing.TEXT:
        np.testing.assert_array_equal(seen[name][1], batch[name][1])
    assert (seen["tokens"][0, 2:] != tokens[0, 2:]).any()
    own = replay.distillm(SHAPE, prompt=2, steps=3, first_share=1.0)
    memory = own.init(batch, params, None)
    replayed, _ = own.apply(jax.random.key(0), batch, params, None, memory)
    assert replayed["from_student"].tolist() == [True, False]
    np.testing.assert_array_equal(replayed["tokens"][1], tokens[1])


def test_prompts_and_shares_that_leave_nothing_are_refused(params):
    tokens = np.ones((2, 4), np.int32)
    batch = {"tokens": tokens, "mask": tokens, "label": tokens}
    for settings, says in (
        ({"prompt": 4}, "prompt is 4, but takes fewer than the 4 places"),
        ({"prompt": 1, "share": 0.1}, "share is 0.1, but of a batch of 2 it is 0"),
        ({"prompt": 1, "share": 0.9}, "share is 0.9, but of a batch of 2 it is 2"),
    ):
        with pytest.raises(ValueError, match=says):
            writing.by_student(SHAPE, **settings)(
                jax.random.key(0), batch, params, None
            )


def test_labels_are_the_next_tokens():
    tokens = np.array([[3, 1, 2, 0], [5, 6, 4, 2]], np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32)
    label = np.asarray(next_tokens(tokens, mask))
    np.testing.assert_array_equal(label, [[1, 2, -1, -1], [6, 4, 2, -1]])
    logits = np.random.default_rng(0).normal(size=(2, 4, 7)).astype(np.float32)
    log_q = jax.nn.log_softmax(logits)[:, :-1]
    shifted = np.take_along_axis(np.asarray(log_q), tokens[:, 1:, None], -1)[..., 0]
    nll = np.asarray(losses.cross_entropy(logits, label))
    np.testing.assert_allclose(nll[:, :-1][mask[:, 1:] > 0], -shifted[mask[:, 1:] > 0])
    assert (nll[label < 0] == 0).all()


def test_a_share_of_the_tokens_can_be_the_teachers(params):
    large = models.DecoderShape(7, 2, 8, 2, 1, 8, context=9)
    teacher = models.decoder(large).init(jax.random.key(4), {})
    tokens = np.pad(PROMPTS, ((0, 0), (0, 6)))
    batch = {"tokens": tokens, "mask": (tokens > 0).astype(np.int32)}
    batch |= {"label": np.full_like(tokens, -1), "prompt_length": MASK.sum(1)}
    view = writing.by_student(SHAPE, prompt=3, teacher=large, teacher_share=0.2)
    seen = view(jax.random.key(1), batch, params, {"teacher": teacher})
    mixed = Mixed(large, teacher["params"], 0.2)
    key = jax.random.key(1)
    written = generate(SHAPE, params, PROMPTS, MASK, key, new=6, mixed=mixed)
    expected = writing.continued(PROMPTS, MASK, written)
    for name, array in expected.items():
        np.testing.assert_array_equal(seen[name], array)
    with pytest.raises(ValueError, match="teacher_share is 0.2, but teacher is None"):
        writing.by_student(SHAPE, prompt=3, teacher_share=0.2)
    with pytest.raises(ValueError, match=r"teacher_share is 2, but takes a number in"):
        writing.by_student(SHAPE, prompt=3, teacher=large, teacher_share=2)
