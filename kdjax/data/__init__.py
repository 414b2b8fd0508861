"""Data sets, whole and in memory."""

from kdjax.data.augment import jitter as jitter
from kdjax.data.images import load as load
from kdjax.data.types import Data as Data
from kdjax.data.types import Info as Info
from kdjax.data.types import Split as Split
