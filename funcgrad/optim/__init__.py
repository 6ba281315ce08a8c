"""Optimizers: pairs of pure functions that turn gradients into updates of the parameters."""

from funcgrad.optim.clipping import clip_by_global_norm, global_norm
from funcgrad.optim.optimizers import adam, sgd
from funcgrad.optim.scaling import (
    ScaleByAdamState,
    ScaleByScheduleState,
    TraceState,
    scale,
    scale_by_adam,
    scale_by_learning_rate,
    scale_by_schedule,
    trace,
)
from funcgrad.optim.transformation import (
    EmptyState,
    GradientTransformation,
    apply_updates,
    chain,
    identity,
)

__all__ = [
    "EmptyState",
    "GradientTransformation",
    "ScaleByAdamState",
    "ScaleByScheduleState",
    "TraceState",
    "adam",
    "apply_updates",
    "chain",
    "clip_by_global_norm",
    "global_norm",
    "identity",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "sgd",
    "trace",
]
