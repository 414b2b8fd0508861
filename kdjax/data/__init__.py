"""Data sets, and the sources of batches for training."""

from kdjax.data.augment import crop as crop
from kdjax.data.augment import flip as flip
from kdjax.data.augment import jitter as jitter
from kdjax.data.images import check_directory as check_directory
from kdjax.data.images import load as load
from kdjax.data.source import Stream as Stream
from kdjax.data.text import bucket_lengths as bucket_lengths
from kdjax.data.text import bucketed as bucketed
from kdjax.data.text import tokenized as tokenized
from kdjax.data.types import Data as Data
from kdjax.data.types import Info as Info
