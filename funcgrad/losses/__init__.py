"""Losses: how far predictions are from what they should be.

A loss has one value for each example, or each element, so that it can be weighted, masked and looked at; take the mean
to train on it, or `mean_where` if some do not count. Only functions whose names begin with `mean_` take it themselves.

All of them have the dtype of their arguments, and compute in float32 where that is float16 or bfloat16. The names are
Optax's where it has the function, otherwise those of PyTorch's functional interface.
"""

from funcgrad.losses.averaging import mean_where
from funcgrad.losses.binary import binary_cross_entropy, sigmoid_binary_cross_entropy, sigmoid_focal_loss
from funcgrad.losses.classification import (
    nll_loss,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from funcgrad.losses.ctc import ctc_loss
from funcgrad.losses.distances import (
    contrastive_loss,
    cosine_distance,
    cosine_embedding_loss,
    cosine_similarity,
    triplet_margin_loss,
)
from funcgrad.losses.likelihoods import (
    gaussian_nll_loss,
    kl_divergence,
    kl_divergence_with_log_targets,
    poisson_nll_loss,
)
from funcgrad.losses.margins import (
    hinge_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multiclass_hinge_loss,
    squared_hinge_loss,
)
from funcgrad.losses.regression import (
    absolute_error,
    huber_loss,
    l2_loss,
    log_cosh,
    mean_absolute_error,
    mean_squared_error,
    smooth_l1_loss,
    squared_error,
)

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "contrastive_loss",
    "cosine_distance",
    "cosine_embedding_loss",
    "cosine_similarity",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "l2_loss",
    "log_cosh",
    "margin_ranking_loss",
    "mean_absolute_error",
    "mean_squared_error",
    "mean_where",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "nll_loss",
    "poisson_nll_loss",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error",
    "squared_hinge_loss",
    "triplet_margin_loss",
]
