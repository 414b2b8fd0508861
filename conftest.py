"""Test setup: four simulated devices, and an error for [B] - [B, 1]."""

from functools import partial
from importlib.metadata import version
import os

# Most tests compile for longer than they compute. Without most optimizations, and with
# XLA's older emitters of fused loops, programs compile several times as fast. These
# are variables of the environment because tests start processes, too; what is set
# already stays. XLA aborts a process with an unknown option.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
if version("jax").startswith("0.10."):
    older = "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{older} {os.environ.get('XLA_FLAGS', '')}"

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
    # Workers share a cache. One may find an entry that another has only half written.
    half_written = "Error reading persistent compilation cache entry"
    config.addinivalue_line("filterwarnings", f"ignore:{half_written}:UserWarning")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory, request):
    """Uses a cache of its own for each worker, but shares compiled programs."""
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
    """Frees the memory of compiled programs at the end of each module."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _same_numbers(request):
    """Starts a module's ``RNG`` anew, so that no test depends on which ran before."""
    if rng := getattr(request.module, "RNG", None):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session")
def digits():
    """Real digits, 700 of them for training, with logits of a noisy teacher."""
    from kdjax import data

    loaded, _ = data.load("mnist5k")
    rng = np.random.default_rng(0)

    def some(split: Batch, n: int) -> Batch:
        some = {name: array[::5][:n] for name, array in split.items()}
        logits = 4 * np.eye(10)[some["label"]] + rng.normal(size=(n, 10))
        return {**some, "teacher": Outputs(logits.astype(np.float32))}

    return Data(*(some(s, n) for s, n in zip(loaded, (700, 100, 200), strict=True)))


@pytest.fixture(scope="session")
def few_digits():
    """Real digits without a teacher, 256 of them for training, and their metadata."""
    from kdjax import data

    images, info = data.load("mnist5k")
    splits = (
        {n: array[:: len(array) // size][:size] for n, array in split.items()}
        for split, size in zip(images, (256, 60, 60), strict=True)
    )
    return Data(*splits), info


@pytest.fixture(scope="module")
def one_device():
    """Lets the arms of experiments train on one device, for which they compile once."""
    from kdjax.study import arms

    with pytest.MonkeyPatch.context() as patch:
        one = partial(arms.sweep, devices=jax.devices()[:1])
        patch.setattr(arms, "sweep", one)
        yield


@pytest.fixture
def optimized():
    """Compiles with all optimizations, for tests that compute much."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace):
    public = {n: f for n, f in vars(losses).items() if callable(f)}
    doctest_namespace.update(public, jax=jax, jnp=jnp)
