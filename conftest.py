"""Four simulated devices, and no silent broadcasting: [B] - [B, 1] is an error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from kdjax.data import Data
from kdjax.models import Batch, Outputs
from kdjax.training import checkpoint

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    # Workers write into one cache. What one has half written, another compiles itself.
    half_written = "Error reading persistent compilation cache entry"
    config.addinivalue_line("filterwarnings", f"ignore:{half_written}:UserWarning")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory, request):
    """A worker's own, not the user's; but compiled programs are shared by all."""
    root = tmp_path_factory.getbasetemp()
    shared = (root.parent if hasattr(request.config, "workerinput") else root) / "xla"
    shared.mkdir(exist_ok=True)
    own = tmp_path_factory.mktemp("cache")
    (own / "xla").symlink_to(shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDJAX_CACHE", str(own))
        checkpoint.cache_compilations()
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_of_one_module():
    """Programs, of which each holds memory, are let go when their module ends."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def digits():
    """Real digits, 700 to train on, with a teacher's logits that are not its labels."""
    from kdjax import data

    loaded, _ = data.load("mnist5k")
    rng = np.random.default_rng(0)

    def some(split: Batch, n: int) -> Batch:
        some = {name: array[::5][:n] for name, array in split.items()}
        logits = 4 * np.eye(10)[some["label"]] + rng.normal(size=(n, 10))
        return {**some, "teacher": Outputs(logits.astype(np.float32))}

    return Data(*(some(s, n) for s, n in zip(loaded, (700, 100, 200), strict=True)))


@pytest.fixture(scope="module")
def hasty():
    """Experiments compile for one device, and with little care.

    Most of the time would go into making fast what runs for a moment.
    """
    from kdjax.study import arms

    with pytest.MonkeyPatch.context() as patch:
        one = partial(arms.sweep, devices=jax.devices()[:1])
        patch.setattr(arms, "sweep", one)
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace):
    public = {n: f for n, f in vars(losses).items() if callable(f)}
    doctest_namespace.update(public, jax=jax, jnp=jnp)
