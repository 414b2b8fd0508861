"""Decoders write what they should: greedily, by samples, and by beam search."""

from functools import partial
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kdjax import models
from kdjax.models import hugging_face_decoders
from kdjax.models.generation import Mixed, beam_search, candidates, generate
from kdjax.training import replay, teacher_texts, writing
from tests.test_decoder import FAMILIES, STORED, applied, given

TINY = models.DecoderShape(5, 1, 8, 2, 1, 8, context=16)


@pytest.fixture(scope="module")
def tiny():
    """The parameters of a decoder of five tokens that prefers some of them."""
    rows = {n: np.zeros((1, 2), np.int32) for n in ("tokens", "mask")}
    params = models.decoder(TINY).init(jax.random.key(3), rows)["params"]
    return jax.tree.map(lambda a: 40 * a if a.ndim > 1 else a, params)


def log_probabilities(params, tokens):
    """Of each token of texts ``[B, L]`` after those before it."""
    rows = {"tokens": tokens, "mask": np.ones_like(tokens)}
    variables = {"params": params, "state": {}}
    logits = models.decoder(TINY).apply(variables, rows)[0].logits
    own = jax.nn.log_softmax(logits)[:, :-1]
    return np.take_along_axis(np.asarray(own), tokens[:, 1:, None], -1)[..., 0]


PROMPTS = np.array([[1, 2, 3], [4, 0, 0]], np.int32)
MASK = np.array([[1, 1, 1], [1, 0, 0]], np.int32)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_search_writes_what_transformers_writes(family):
    rows, expected = given(family)
    loaded = hugging_face_decoders.load(STORED / family)
    both = loaded.shape, loaded.params, rows["tokens"], rows["mask"]
    found = generate(*both, new=8)
    np.testing.assert_array_equal(found.tokens, expected["written"])
    assert (found.mask == 1).all()
    one = beam_search(*both, new=8, beams=1)
    np.testing.assert_array_equal(one.tokens, found.tokens)
    np.testing.assert_allclose(
        one.log_probabilities, found.log_probabilities, atol=1e-4
    )
    text = np.concatenate([rows["tokens"][:1], found.tokens[:1]], 1)
    logits = applied(loaded, {"tokens": text, "mask": np.ones_like(text)}).logits
    whole = jax.nn.log_softmax(logits[0])[np.arange(19, 27), text[0, 20:]]
    np.testing.assert_allclose(found.log_probabilities[0], whole, atol=1e-4)


def test_samples_have_the_probabilities_of_the_decoder(tiny):
    count, temperature = 4000, 1.5
    prompts = np.tile(PROMPTS[:1], (count, 1))
    write = jax.jit(partial(generate, TINY, new=2))
    found = write(
        tiny, prompts, np.ones_like(prompts), jax.random.key(0), temperature=temperature
    )
    pairs = np.array(list(itertools.product(range(5), range(5))), np.int32)
    texts = np.concatenate([np.tile(PROMPTS[:1], (25, 1)), pairs], 1)
    rows = {"tokens": texts, "mask": np.ones_like(texts)}
    logits = models.decoder(TINY).apply({"params": tiny, "state": {}}, rows)[0].logits
    warm = np.asarray(jax.nn.log_softmax(logits / temperature), float)
    each = np.arange(25)
    p = np.exp(warm[each, 2, pairs[:, 0]] + warm[each, 3, pairs[:, 1]])
    p /= p.sum()  # to the precision that the test below asks for
    seen = np.bincount(np.asarray(found.tokens) @ [5, 1], minlength=25)
    common = p * count >= 5
    observed = [*seen[common], seen[~common].sum()]
    expected = [*p[common] * count, p[~common].sum() * count]
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    own = log_probabilities(tiny, np.concatenate([prompts, found.tokens], 1))[:, -2:]
    np.testing.assert_allclose(found.log_probabilities, own, atol=1e-4)


def test_only_the_most_probable_tokens_are_sampled(tiny):
    prompts = np.tile(PROMPTS[:1], (500, 1))
    rows = {"tokens": PROMPTS[:1], "mask": MASK[:1]}
    logits = models.decoder(TINY).apply({"params": tiny, "state": {}}, rows)[0].logits
    p = np.asarray(jax.nn.softmax(logits[0, -1]))
    order = np.argsort(-p)
    write = jax.jit(partial(generate, TINY, new=1))
    for top_p, kept in ((0.0, 1), (float(p[order[:2]].sum()) - 1e-3, 2), (1.0, 5)):
        found = write(
            tiny, prompts, np.ones_like(prompts), jax.random.key(2), top_p=top_p
        )
        assert set(np.unique(found.tokens)) <= set(order[:kept])
        assert len(np.unique(found.tokens)) >= min(kept, 2)


def test_writing_stops_at_the_end_and_text_before_it_is_the_same(tiny):
    key = jax.random.key(3)
    free = generate(TINY, tiny, PROMPTS, MASK, key, new=10)
    end = int(free.tokens[0, 2])
    found = generate(TINY, tiny, PROMPTS, MASK, key, new=10, end=end)
    for row in range(2):
        tokens = np.asarray(free.tokens[row])
        ends = np.flatnonzero(tokens == end)
        length = ends[0] + 1 if len(ends) else 10
        expected = np.where(np.arange(10) < length, tokens, 0)
        np.testing.assert_array_equal(found.tokens[row], expected)
        np.testing.assert_array_equal(found.mask[row], np.arange(10) < length)
        assert (found.log_probabilities[row][length:] == 0).all()


def test_a_prompt_is_continued_alike_alone_and_beside_longer_ones(tiny):
    both = generate(TINY, tiny, PROMPTS, MASK, new=6)
    alone = generate(TINY, tiny, PROMPTS[1:, :1], MASK[1:, :1], new=6)
    np.testing.assert_array_equal(both.tokens[1], alone.tokens[0])


@pytest.mark.parametrize(
    ("ends_early", "penalty"), [(False, 0.0), (True, 0.0), (True, 4.0)]
)
def test_a_wide_beam_finds_the_best_of_all_texts(tiny, ends_early, penalty):
    new = 3
    prompts = np.array(list(itertools.product(range(5), repeat=2)), np.int32)
    both = TINY, tiny, prompts, np.ones_like(prompts)
    greedy = np.asarray(generate(*both, new=new).tokens)
    end = int(greedy[0, 0]) if ends_early else None
    settings = {"new": new, "beams": 125, "end": end, "length_penalty": penalty}
    found = beam_search(*both, **settings)
    every = np.array(list(itertools.product(range(5), repeat=new)), np.int32)
    ends = every == (-1 if end is None else end)
    lengths = np.where(ends.any(1), ends.argmax(1) + 1, new)
    pairs = itertools.product(prompts, every)
    texts = np.array([np.concatenate(pair) for pair in pairs])
    each = log_probabilities(tiny, texts)[:, 1:].reshape(25, 125, new)
    sums = np.where(np.arange(new) < lengths[:, None], each, 0).sum(-1)
    scores = sums / lengths**penalty
    best = scores.argmax(1)
    expected = np.where(np.arange(new) < lengths[best, None], every[best], 0)
    np.testing.assert_array_equal(found.tokens, expected)
    np.testing.assert_array_equal(found.mask.sum(1), lengths[best])
    own = found.log_probabilities.sum(1) / lengths[best] ** penalty
    np.testing.assert_allclose(own, scores.max(1), atol=1e-4)
    if not ends_early:
        all_of_them = candidates(*both, **settings)
        from_best = -np.sort(-scores, 1)
        sums = all_of_them.log_probabilities.sum(-1)
        np.testing.assert_allclose(sums, from_best, atol=1e-4)
        np.testing.assert_array_equal(all_of_them.tokens[:, 0], found.tokens)
    assert (expected != greedy).any()  # which a search without candidates would write
    if ends_early:
        assert (lengths[best] != lengths[sums.argmax(1)]).any() == (penalty > 0)


def test_bad_prompts_are_refused(tiny):
    with pytest.raises(ValueError, match="prompts of 3 tokens and 14 new ones exceed"):
        generate(TINY, tiny, PROMPTS, MASK, new=14)
    with pytest.raises(ValueError, match="new is 0, but takes at least 1"):
        generate(TINY, tiny, PROMPTS, MASK, new=0)
    with pytest.raises(ValueError, match="beams is 0, but takes at least 1"):
        beam_search(TINY, tiny, PROMPTS, MASK, new=1, beams=0)
    for bad in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"temperature is {bad}, but takes a pos"):
            generate(TINY, tiny, PROMPTS, MASK, new=1, temperature=bad)
        with pytest.raises(ValueError, match=f"temperature is {bad}, but takes a pos"):
            writing.by_student(TINY, prompt=1, temperature=bad)
        with pytest.raises(ValueError, match=f"temperature is {bad}, but takes a pos"):
            replay.distillm(TINY, prompt=1, steps=1, temperature=bad)
    with pytest.raises(ValueError, match=r"top_p is 90, but takes a number in \[0, 1"):
        generate(TINY, tiny, PROMPTS, MASK, new=1, top_p=90)
    empty = np.where([[1], [0]], MASK, 0)
    write = partial(generate, TINY, new=1)
    for wrong, says in (
        ((PROMPTS, empty), "prompt 1 has no"),
        ((PROMPTS[:0],) * 2, ""),
    ):
        with pytest.raises(
            ValueError, match=f"at least one of some tokens, but {says}"
        ):
            teacher_texts.stored(write, tiny, *wrong, jax.random.key(0))
    with pytest.raises(ValueError, match="prompt 1 has no token"):
        generate(TINY, tiny, PROMPTS, empty, new=1)
    left = PROMPTS[:, ::-1], MASK[:, ::-1]
    with pytest.raises(ValueError, match="mask has padding before a token"):
        generate(TINY, tiny, *left, new=1)
    with pytest.raises(ValueError, match="mask has padding before a token"):
        teacher_texts.stored(write, tiny, *left, jax.random.key(0))
    traced = jax.jit(partial(generate, TINY, new=1))(tiny, PROMPTS, empty)
    assert np.isnan(traced.log_probabilities[1]).all()
    assert np.isfinite(traced.log_probabilities[0]).all()
    assert jnp.shape(traced.tokens) == (2, 1)


def test_tokens_of_a_mixture_come_from_both(tiny):
    wide = models.DecoderShape(5, 2, 8, 2, 1, 8, context=16)
    rows = {n: np.zeros((1, 2), np.int32) for n in ("tokens", "mask")}
    other = models.decoder(wide).init(jax.random.key(7), rows)["params"]
    other = jax.tree.map(lambda a: 40 * a if a.ndim > 1 else a, other)
    prompts = np.tile(PROMPTS[:1], (4000, 1))
    key, ones = jax.random.key(5), np.ones_like(prompts)

    def first(shape, params):
        given = {"tokens": PROMPTS[:1], "mask": MASK[:1]}
        variables = {"params": params, "state": {}}
        logits = models.decoder(shape).apply(variables, given)[0].logits
        return np.asarray(jax.nn.softmax(logits[0, -1]), np.float64)

    @partial(jax.jit, static_argnames="share")
    def written(share):
        mixed = Mixed(wide, other, share)
        return generate(TINY, tiny, prompts, ones, key, new=2, mixed=mixed)

    own, others = first(TINY, tiny), first(wide, other)
    assert np.abs(own - others).max() > 0.2
    for share in (0.0, 0.3, 1.0):
        found = written(share)
        expected = (1 - share) * own + share * others
        observed = np.bincount(found.tokens[:, 0], minlength=5)
        scaled = 4000 * expected / expected.sum()
        assert stats.chisquare(observed, scaled).pvalue > 1e-3
        # What the student itself thinks of the tokens, of the second one as well.
        texts = np.concatenate([prompts, found.tokens], 1)
        expected = log_probabilities(tiny, texts)[:, -2:]
        np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-4)
    plain = jax.jit(partial(generate, TINY, new=2))(tiny, prompts, ones, key)
    np.testing.assert_array_equal(written(0.0).tokens, plain.tokens)


def test_a_mixture_of_other_tokens_is_refused(tiny):
    other = models.DecoderShape(6, 1, 8, 2, 1, 8, context=16)
    mixed = Mixed(other, tiny, 0.2)
    with pytest.raises(ValueError, match="mixed has a vocabulary of 6, but takes .* 5"):
        generate(TINY, tiny, PROMPTS, MASK, jax.random.key(0), new=1, mixed=mixed)
    with pytest.raises(ValueError, match=r"share is 1.5, but takes a number in \[0, 1"):
        generate(TINY, tiny, PROMPTS, MASK, new=1, mixed=Mixed(TINY, tiny, 1.5))
    with pytest.raises(ValueError, match="key is None, but mixed is given"):
        generate(TINY, tiny, PROMPTS, MASK, new=1, mixed=Mixed(TINY, tiny, 0.5))


def test_padding_may_be_outside_the_vocabulary(tiny):
    other = np.where(MASK, PROMPTS, TINY.vocabulary + 7)
    assert (other != PROMPTS).any()
    for prompts in (PROMPTS, other):
        found = generate(TINY, tiny, prompts, MASK, new=2)
        rows = {"tokens": prompts, "mask": MASK}
        variables = {"params": tiny, "state": {}}
        logits = models.decoder(TINY).apply(variables, rows)[0].logits
        if prompts is PROMPTS:
            expected = found, logits
    np.testing.assert_array_equal(found.tokens, expected[0].tokens)
    np.testing.assert_array_equal(logits, expected[1])


def test_a_beam_wider_than_all_texts_has_each_of_them_once(tiny):
    found = candidates(TINY, tiny, PROMPTS, MASK, new=1, beams=7)
    for row in found.tokens[:, :, 0]:
        assert sorted(row[:5].tolist()) == [0, 1, 2, 3, 4]
    assert found.mask[:, :5].all() and not found.mask[:, 5:].any()
    assert np.isneginf(found.log_probabilities[:, 5:]).all()
