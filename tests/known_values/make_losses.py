"""Writes losses.json: values and gradients of PyTorch's and Optax's losses in float64.

Run it with a Python that has torch, jax and optax.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy
import optax
import torch
import torch.nn.functional as F

jax.config.update("jax_enable_x64", True)

random = numpy.random.default_rng(5)


def normal(*shape, scale=2.0):
    return (scale * random.standard_normal(shape)).round(3)


LOGITS = numpy.concatenate([normal(4, 5), [[900.0, -900.0, 0.0, 899.0, 1.0]]])
LABELS = numpy.array([0, 3, 4, 1, 2])
SOFT = numpy.maximum(random.dirichlet(numpy.ones(5), 5), 0.01).round(3)  # at 0, peers have NaN where we do not
WEIGHTS = numpy.array([0.5, 1.0, 2.0, 0.25, 1.5])
SCORES = numpy.array([-700.0, -30.0, -2.3, -0.4, 0.3, 0.7, 5.0, 40.0, 800.0, 0.1])
YES = numpy.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 1])
PARTLY = numpy.array([0.1, 0.9, 0.0, 1.0, 0.3, 0.5, 0.7, 0.2, 0.6, 0.45])
SIGNS = 2 * YES - 1
PROBABILITIES = numpy.array([0.0, 1.0, 1e-9, 0.3, 0.5, 0.999, 0.25, 0.1, 0.75, 0.01])
ERRORS = numpy.array([-1e4, -30.0, -2.3, -0.4, 1e-4, 0.7, 5.0, 40.0, 800.0, 0.1])
TARGETS = normal(10, scale=0.5)
COUNTS = numpy.array([0, 1, 2, 5, 30])
FIRST, SECOND, THIRD = normal(4, 6), normal(4, 6), normal(4, 6)
PAIRS = numpy.array([1, -1, -1, 1])
CTC_LOGITS = normal(4, 9, 5)
CTC_LABELS = numpy.array([[1, 2, 3, 4], [1, 1, 2, 0], [4, 0, 0, 0], [2, 2, 2, 2]])
CTC_LENGTHS, CTC_TIMES = [4, 3, 1, 4], [9, 6, 3, 7]
CTC_LABEL_PADDINGS = (numpy.arange(4) >= numpy.array(CTC_LENGTHS)[:, None]).astype(float)
CTC_LOGIT_PADDINGS = (numpy.arange(9) >= numpy.array(CTC_TIMES)[:, None]).astype(float)
NONE = {"reduction": "none"}


def log_softmax(x):
    return x - numpy.log(numpy.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


def torch_ctc(logits, logit_paddings, labels, label_paddings):
    log_probabilities = F.log_softmax(logits, dim=-1).transpose(0, 1)
    return F.ctc_loss(log_probabilities, labels, torch.tensor(CTC_TIMES), torch.tensor(CTC_LENGTHS), **NONE)


# Our function, what it is compared with, the arguments, how many of these to differentiate, our keywords.
CROSS = "softmax_cross_entropy_with_integer_labels"
TORCH = [
    (CROSS, lambda x, y: F.cross_entropy(x, y, **NONE), (LOGITS, LABELS), 1, {}),
    (
        CROSS,
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2, **NONE),
        (LOGITS, LABELS),
        1,
        {"label_smoothing": 0.2},
    ),
    (
        CROSS,
        lambda x, y: F.cross_entropy(x, y, torch.tensor(WEIGHTS), label_smoothing=0.2, **NONE),
        (LOGITS, LABELS),
        1,
        {"label_smoothing": 0.2, "class_weights": WEIGHTS},
    ),
    (
        CROSS,
        lambda x, y: F.cross_entropy(x, y, torch.tensor(WEIGHTS), **NONE),
        (LOGITS, LABELS),
        1,
        {"class_weights": WEIGHTS},
    ),
    ("softmax_cross_entropy", lambda x, y: F.cross_entropy(x, y, **NONE), (LOGITS, SOFT), 2, {}),
    (
        "softmax_cross_entropy",
        lambda x, y: F.cross_entropy(x, y, torch.tensor(WEIGHTS), label_smoothing=0.1, **NONE),
        (LOGITS, SOFT),
        2,
        {"label_smoothing": 0.1, "class_weights": WEIGHTS},
    ),
    ("nll_loss", lambda x, y: F.nll_loss(x, y, **NONE), (log_softmax(LOGITS), LABELS), 1, {}),
    (
        "nll_loss",
        lambda x, y: F.nll_loss(x, y, torch.tensor(WEIGHTS), **NONE),
        (log_softmax(LOGITS), LABELS),
        1,
        {"class_weights": WEIGHTS},
    ),
    (
        "sigmoid_binary_cross_entropy",
        lambda x, y: F.binary_cross_entropy_with_logits(x, y, **NONE),
        (SCORES, PARTLY),
        1,
        {},
    ),
    (
        "sigmoid_binary_cross_entropy",
        lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor(3.0), **NONE),
        (SCORES, PARTLY),
        1,
        {"pos_weight": 3.0},
    ),
    # PyTorch limits the derivative at wrong certainty elsewhere: only values there, and gradients of the others.
    ("binary_cross_entropy", lambda x, y: F.binary_cross_entropy(x, y, **NONE), (PROBABILITIES, PARTLY), 0, {}),
    ("binary_cross_entropy", lambda x, y: F.binary_cross_entropy(x, y, **NONE), (PROBABILITIES[2:], PARTLY[2:]), 1, {}),
    ("mean_squared_error", F.mse_loss, (ERRORS, TARGETS), 2, {}),
    ("absolute_error", lambda x, y: F.l1_loss(x, y, **NONE), (ERRORS, TARGETS), 2, {}),
    ("mean_absolute_error", F.l1_loss, (ERRORS, TARGETS), 2, {}),
    ("huber_loss", lambda x, y: F.huber_loss(x, y, delta=0.75, **NONE), (ERRORS, TARGETS), 2, {"delta": 0.75}),
    ("smooth_l1_loss", lambda x, y: F.smooth_l1_loss(x, y, beta=0.75, **NONE), (ERRORS, TARGETS), 2, {"beta": 0.75}),
    ("smooth_l1_loss", lambda x, y: F.smooth_l1_loss(x, y, beta=0.0, **NONE), (ERRORS, TARGETS), 2, {"beta": 0.0}),
    ("multi_margin_loss", lambda x, y: F.multi_margin_loss(x, y, **NONE), (LOGITS, LABELS), 1, {}),
    (
        "multi_margin_loss",
        lambda x, y: F.multi_margin_loss(x, y, p=2, margin=0.7, weight=torch.tensor(WEIGHTS), **NONE),
        (LOGITS, LABELS),
        1,
        {"p": 2, "margin": 0.7, "class_weights": WEIGHTS},
    ),
    (
        "margin_ranking_loss",
        lambda x, y, t: F.margin_ranking_loss(x, y, t, margin=0.3, **NONE),
        (FIRST[0], SECOND[0], numpy.array([1, -1, 1, -1, 1, -1])),
        2,
        {"margin": 0.3},
    ),
    ("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=-1), (FIRST, SECOND), 2, {}),
    (
        "cosine_embedding_loss",
        lambda x, y, t: F.cosine_embedding_loss(x, y, t, margin=0.1, **NONE),
        (FIRST, SECOND, PAIRS),
        2,
        {"margin": 0.1},
    ),
    ("kl_divergence", lambda x, y: F.kl_div(x, y, **NONE).sum(-1), (log_softmax(LOGITS), SOFT), 2, {}),
    (
        "kl_divergence_with_log_targets",
        lambda x, y: F.kl_div(x, y, log_target=True, **NONE).sum(-1),
        (log_softmax(LOGITS), numpy.log(SOFT)),
        2,
        {},
    ),
    ("poisson_nll_loss", lambda x, y: F.poisson_nll_loss(x, y, **NONE), (LOGITS[0], COUNTS), 1, {}),
    (
        "poisson_nll_loss",
        lambda x, y: F.poisson_nll_loss(x, y, log_input=False, **NONE),
        (numpy.exp(LOGITS[0]), COUNTS),
        1,
        {"log_input": False},
    ),
    (
        "gaussian_nll_loss",
        lambda x, y, v: F.gaussian_nll_loss(x, y, v, full=True, **NONE),
        (FIRST[0], SECOND[0], numpy.array([0.0, 1e-9, 0.1, 1.0, 30.0, 1e6])),
        2,
        {"full": True},
    ),
    (
        "gaussian_nll_loss",
        lambda x, y, v: F.gaussian_nll_loss(x, y, v, eps=0.01, **NONE),
        (FIRST[0], SECOND[0], numpy.array([0.0, 1e-9, 0.1, 1.0, 30.0, 1e6])),
        3,
        {"eps": 0.01},
    ),
    ("ctc_loss", torch_ctc, (CTC_LOGITS, CTC_LOGIT_PADDINGS, CTC_LABELS, CTC_LABEL_PADDINGS), 1, {}),
]
OPTAX = [
    (CROSS, (LOGITS, LABELS), 1, {}),
    ("softmax_cross_entropy", (LOGITS, SOFT), 2, {}),
    ("smooth_labels", (SOFT,), 1, {"alpha": 0.3}),
    ("sigmoid_binary_cross_entropy", (SCORES, PARTLY), 2, {}),
    ("sigmoid_focal_loss", (SCORES, YES), 1, {}),
    ("sigmoid_focal_loss", (SCORES, PARTLY), 1, {"alpha": 0.25, "gamma": 1.5}),
    ("squared_error", (ERRORS, TARGETS), 2, {}),
    ("l2_loss", (ERRORS, TARGETS), 2, {}),
    ("huber_loss", (ERRORS, TARGETS), 2, {"delta": 2.0}),
    ("log_cosh", (ERRORS, TARGETS), 2, {}),
    ("hinge_loss", (SCORES, SIGNS), 1, {}),
    ("multiclass_hinge_loss", (LOGITS, LABELS), 1, {}),
    ("cosine_similarity", (FIRST, SECOND), 2, {}),
    ("cosine_distance", (FIRST, SECOND), 2, {}),
    ("triplet_margin_loss", (FIRST, SECOND, THIRD), 3, {}),
    ("triplet_margin_loss", (FIRST, SECOND, THIRD), 3, {"norm_degree": 4, "margin": 2.5}),
    ("kl_divergence", (log_softmax(LOGITS), SOFT), 2, {}),
    ("kl_divergence_with_log_targets", (log_softmax(LOGITS), numpy.log(SOFT)), 2, {}),
    ("ctc_loss", (CTC_LOGITS, CTC_LOGIT_PADDINGS, CTC_LABELS, CTC_LABEL_PADDINGS), 1, {}),
]


def of_torch(function, arguments, count):
    arguments = [torch.tensor(x) for x in arguments]
    for x in arguments[:count]:
        x.requires_grad_()
    value = function(*arguments)
    gradients = torch.autograd.grad(value.sum(), arguments[:count]) if count else []
    return value.tolist(), [x.tolist() for x in gradients]


def of_optax(name, arguments, count, keywords):
    function = getattr(optax.losses, name)
    arguments = [jnp.array(x) for x in arguments]
    gradients = jax.grad(lambda *x: function(*x, **keywords).sum(), argnums=tuple(range(count)))(*arguments)
    return function(*arguments, **keywords).tolist(), [x.tolist() for x in gradients]


def case(source, name, arguments, keywords, known):
    value, gradients = known
    return {
        "source": source,
        "name": name,
        "arguments": [x.tolist() for x in arguments],
        "keywords": {key: x.tolist() if isinstance(x, numpy.ndarray) else x for key, x in keywords.items()},
        "value": value,
        "gradients": gradients,
    }


def main():
    cases = [
        case("torch", name, arguments, keywords, of_torch(function, arguments, count))
        for name, function, arguments, count, keywords in TORCH
    ] + [
        case("optax", name, arguments, keywords, of_optax(name, arguments, count, keywords))
        for name, arguments, count, keywords in OPTAX
    ]
    path = Path(__file__).with_name("losses.json")
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
