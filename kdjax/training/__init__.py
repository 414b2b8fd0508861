"""Training: one step, and the loop that runs it and can be stopped and resumed."""

from kdjax.training.metrics import Measure as Measure
from kdjax.training.step import Training as Training
from kdjax.training.train import Trained as Trained
from kdjax.training.train import train as train
