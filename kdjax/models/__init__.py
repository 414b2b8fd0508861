"""Models and projectors, each a pair of pure functions."""

from kdjax.models.linen import from_linen as from_linen
from kdjax.models.mlp import max_norm as max_norm
from kdjax.models.mlp import mlp as mlp
from kdjax.models.projectors import Projector as Projector
from kdjax.models.types import Batch as Batch
from kdjax.models.types import Model as Model
from kdjax.models.types import Outputs as Outputs
from kdjax.models.types import Variables as Variables
