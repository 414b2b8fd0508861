"""A mixture of small grammars, whose probability of every text is known exactly.

Each grammar is a template: a text has a fixed number of words, and at each place one of
a few words, with probabilities of its own. Now and then any other token comes instead,
so that every text has some probability. A text ends with token 0, or is cut off at the
greatest length.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data import Data
from kdjax.data.language import next_tokens
from kdjax.models import Batch, Outputs

END = 0  # ends a text, and begins it


@dataclass(frozen=True)
class Mixture:
    """A mixture of templates.

    Args:
      weights: The probability of each template.
      words: Number of words; the tokens are these and the end.
      longest: The largest number of tokens of a text.
      choices: Number of words that a template allows at each place.
      noise: Probability that a token is drawn from all with equal probability.
      seed: Of the templates.
    """

    weights: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)
    words: int = 16
    longest: int = 12
    choices: int = 3
    noise: float = 0.01
    seed: int = 0

    @property
    def vocabulary(self) -> int:
        return self.words + 1

    @cached_property
    def allowed(self) -> np.ndarray:
        """Probabilities ``[templates, longest, vocabulary]`` without noise.

        Templates have from half to all but one of the places; then comes the end.
        """
        rng = np.random.default_rng(self.seed)
        size = len(self.weights), self.longest, self.vocabulary
        probabilities = np.zeros(size)
        for template in probabilities:
            count = rng.integers(self.longest // 2, self.longest)
            template[count:, END] = 1
            for place in template[:count]:
                chosen = 1 + rng.choice(self.words, self.choices, replace=False)
                place[chosen] = rng.dirichlet(np.ones(self.choices))
        return probabilities

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """Logarithms ``[templates, longest, vocabulary]``, with noise."""
        mixed = (1 - self.noise) * self.allowed + self.noise / self.vocabulary
        return np.log(mixed).astype(np.float32)

    def sample(self, count: int, seed: int) -> Batch:
        """Texts as a batch; see `batch`."""
        rng = np.random.default_rng(seed)
        each = np.exp(self.log_probabilities.astype(float)).cumsum(-1)
        template = rng.choice(len(self.weights), count, p=self.weights)
        drawn = rng.uniform(size=(count, self.longest, 1)) * each[template][..., -1:]
        written = (drawn > each[template]).sum(-1)
        mask = np.cumsum(written == END, 1) - (written == END) == 0
        return batch(written, mask)


def batch(written: np.ndarray, mask: np.ndarray) -> Batch:
    """Texts ``[B, longest]`` with the token that begins them, and what comes next."""
    first = np.full((len(written), 1), END)
    tokens = np.concatenate([first, np.where(mask, written, 0)], 1).astype(np.int32)
    mask = np.concatenate([np.ones_like(first), mask], 1).astype(np.int32)
    label = np.asarray(next_tokens(tokens, mask))
    length = np.ones(len(tokens), np.int32)
    return {"tokens": tokens, "mask": mask, "label": label, "prompt_length": length}


def splits(mixture: Mixture, train: int, other: int) -> Data:
    """Texts for training, and others for validation and for testing."""
    counts = (train, other, other)
    return Data(*(mixture.sample(count, seed) for seed, count in enumerate(counts)))


def teacher(mixture: Mixture, fixed: object, batch: Batch) -> Outputs:
    """The true distribution of the next token, as a teacher of `Training`.

    The last place, which nothing can follow, has equal logits.
    """
    steps = _steps(mixture, mixture.log_probabilities, batch["tokens"])
    before = jnp.cumsum(steps, 1) - steps + _prior(mixture)
    each = before[..., None] + _by_place(mixture.log_probabilities)[None]
    logits = jax.nn.logsumexp(each, 2)
    logits = logits - jax.nn.logsumexp(before, 2)[..., None]
    return Outputs(jnp.pad(logits, ((0, 0), (0, 1), (0, 0))))


@cache
def entropy(mixture: Mixture) -> float:
    """The entropy of a text in nats, to about 0.01, from 200,000 texts."""
    return -float(jnp.mean(log_probability(mixture, mixture.sample(200_000, seed=0))))


def log_probability(mixture: Mixture, batch: Batch) -> jax.Array:
    """The exact log-probability ``[B]`` of texts, in nats."""
    return jax.nn.logsumexp(_joint(mixture, batch), -1)


def template_of(mixture: Mixture, batch: Batch) -> jax.Array:
    """The most probable template ``[B]`` of each text."""
    return jnp.argmax(_joint(mixture, batch), -1)


def is_valid(mixture: Mixture, batch: Batch) -> jax.Array:
    """Whether a template allows each text ``[B]``, without noise."""
    possible = _steps(mixture, mixture.allowed, batch["tokens"]) > 0
    return jnp.any(jnp.all(possible | ~_counts(batch)[..., None], 1), -1)


def _joint(mixture: Mixture, batch: Batch) -> jax.Array:
    """Log-probabilities ``[B, templates]`` of a text and its template."""
    steps = _steps(mixture, mixture.log_probabilities, batch["tokens"])
    counts = _counts(batch)[..., None]
    return _prior(mixture)[0] + jnp.sum(steps, 1, where=counts)


def _prior(mixture: Mixture) -> jax.Array:
    """Log-probabilities of the templates, ``[1, 1, templates]``."""
    return jnp.log(jnp.array(mixture.weights))[None, None]


def _counts(batch: Batch) -> jax.Array:
    """Which tokens ``[B, longest]`` after the first are of the text."""
    return batch["mask"][:, 1:] != 0


def _steps(mixture: Mixture, table: np.ndarray, tokens: jax.Array) -> jax.Array:
    """A table's entries ``[B, longest, templates]`` for all tokens but the first."""
    places = np.arange(mixture.longest)[None]
    return jnp.asarray(_by_place(table).swapaxes(1, 2))[places, tokens[:, 1:]]


def _by_place(table: np.ndarray) -> np.ndarray:
    """A table ``[longest, templates, vocabulary]``."""
    return table.swapaxes(0, 1)
