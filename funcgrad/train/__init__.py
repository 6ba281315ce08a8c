"""Training: a light loop with callbacks, metrics that add up exactly, and loggers.

`fit(step, state, data, epochs)` is the loop that you would write yourself, and gives the same numbers.
"""

from funcgrad.train.classification import F1, Accuracy, ConfusionMatrix, Precision, Recall, TopKAccuracy
from funcgrad.train.files import CSVLogger, JSONLinesLogger
from funcgrad.train.logs import ConsoleLogger, Log, Logger
from funcgrad.train.loop import Callback, Run, Seconds, evaluate, fit
from funcgrad.train.metrics import Mean, Metric, Perplexity
from funcgrad.train.profiling import Profile
from funcgrad.train.progress import ProgressBar
from funcgrad.train.ranking import AUC
from funcgrad.train.saving import Checkpoints
from funcgrad.train.stopping import EarlyStopping
from funcgrad.train.tensorboard import TensorBoardLogger
from funcgrad.train.watching import GradientWatch, LearningRate, NaNWatch

__all__ = [
    "AUC",
    "Accuracy",
    "CSVLogger",
    "Callback",
    "Checkpoints",
    "ConfusionMatrix",
    "ConsoleLogger",
    "EarlyStopping",
    "F1",
    "GradientWatch",
    "JSONLinesLogger",
    "LearningRate",
    "Log",
    "Logger",
    "Mean",
    "Metric",
    "NaNWatch",
    "Perplexity",
    "Precision",
    "Profile",
    "ProgressBar",
    "Recall",
    "Run",
    "Seconds",
    "TensorBoardLogger",
    "TopKAccuracy",
    "evaluate",
    "fit",
]
