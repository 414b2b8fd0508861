"""Students and teachers, each as two pure functions.

No batch normalisation: its running means are state that is no parameter, which
would leak into every training loop. Use layer or group normalisation.
"""

from kdjax.models.mlp import max_norm as max_norm
from kdjax.models.mlp import mlp as mlp
from kdjax.models.types import Model as Model
from kdjax.models.types import Outputs as Outputs
