"""Models and projectors, each a pair of pure functions."""

from kdjax.models.bert import Shape as Shape
from kdjax.models.bert import bert as bert
from kdjax.models.convolution import max_pool as max_pool
from kdjax.models.decoder import DecoderShape as DecoderShape
from kdjax.models.decoder import decoder as decoder
from kdjax.models.linen import from_linen as from_linen
from kdjax.models.mlp import max_norm as max_norm
from kdjax.models.mlp import mlp as mlp
from kdjax.models.peer import with_peer as with_peer
from kdjax.models.pixels import Pixels as Pixels
from kdjax.models.plain import plain as plain
from kdjax.models.projectors import Projector as Projector
from kdjax.models.resnet import from_torch as from_torch
from kdjax.models.resnet import resnet as resnet
from kdjax.models.types import Batch as Batch
from kdjax.models.types import Model as Model
from kdjax.models.types import Outputs as Outputs
from kdjax.models.types import Variables as Variables
