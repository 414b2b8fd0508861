"""Training: a pure step function, and a loop that checkpoints and resumes."""

from kdjax.training.metrics import Measure as Measure
from kdjax.training.step import Training as Training
from kdjax.training.train import Trained as Trained
from kdjax.training.train import train as train
