"""Four texts of up to four tokens, of six words."""

import numpy as np

_RNG = np.random.default_rng(0)
STUDENT, TEACHER = 2 * _RNG.normal(size=(2, 4, 4, 6)).astype(np.float32)
TOKENS = _RNG.integers(0, 6, (4, 4))
MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
