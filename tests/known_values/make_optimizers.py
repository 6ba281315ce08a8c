"""Writes optimizers.json: what Optax's optimizers make of a sequence of gradients, in float64, and its schedules.

Run it with a Python that has jax, optax and torch. Where PyTorch has the same recurrence, its trajectory has to agree
with Optax's before anything is written.
"""

import json
from pathlib import Path

import jax
import numpy
import optax
import optax.contrib
import torch

jax.config.update("jax_enable_x64", True)

STEPS = 20
START = {"weight": [[0.5, -1.0, 2.0], [0.1, 0.0, -0.3]], "bias": [1.0, -0.5], "gain": 0.7}


def matrices(params):
    return jax.tree.map(lambda x: x.ndim == 2, params)


def labels(params):
    return {"weight": "a", "bias": "b", "gain": "a"}


ADVERSARY = optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.05))
OPTIMIZERS = {
    "sgd(0.1)": optax.sgd(0.1),
    "sgd(0.1, momentum=0.9)": optax.sgd(0.1, momentum=0.9),
    "sgd(0.1, momentum=0.9, nesterov=True)": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "sgd(lambda count: 0.1 / (1 + count))": optax.sgd(lambda count: 0.1 / (1 + count)),
    "sign_sgd(0.1)": optax.sign_sgd(0.1),
    "adam(0.01)": optax.adam(0.01),
    "adam(0.1, b1=0.8, b2=0.99, eps=1e-3, eps_root=1e-4)": optax.adam(0.1, b1=0.8, b2=0.99, eps=1e-3, eps_root=1e-4),
    "chain(clip_by_global_norm(1.0), adam(0.01))": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01)),
    "chain(clip_by_global_norm(1.0), sgd(0.1))": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    "adamw(0.01, weight_decay=0.1)": optax.adamw(0.01, weight_decay=0.1),
    "adamw(0.01, weight_decay=0.1, mask=matrices)": optax.adamw(0.01, weight_decay=0.1, mask=matrices),
    "nadam(0.01)": optax.nadam(0.01),
    "nadamw(0.01, weight_decay=0.1)": optax.nadamw(0.01, weight_decay=0.1),
    "adamax(0.01)": optax.adamax(0.01),
    "adamaxw(0.01, weight_decay=0.1)": optax.adamaxw(0.01, weight_decay=0.1),
    "amsgrad(0.01)": optax.amsgrad(0.01),
    "amsgrad(0.01, bias_correction_mu=False, bias_correction_nu=False)": optax.amsgrad(
        0.01, bias_correction_mu=False, bias_correction_nu=False
    ),
    "adagrad(0.1)": optax.adagrad(0.1),
    "adagrad(0.1, initial_accumulator_value=0.0, eps=1e-20)": optax.adagrad(
        0.1, initial_accumulator_value=0.0, eps=1e-20
    ),
    "adadelta(0.5)": optax.adadelta(0.5),
    "adadelta(0.5, weight_decay=0.1)": optax.adadelta(0.5, weight_decay=0.1),
    "rmsprop(0.01)": optax.rmsprop(0.01),
    "rmsprop(0.01, eps_in_sqrt=False)": optax.rmsprop(0.01, eps_in_sqrt=False),
    "rmsprop(0.01, eps_in_sqrt=False, momentum=0.9)": optax.rmsprop(0.01, eps_in_sqrt=False, momentum=0.9),
    "rmsprop(0.01, eps_in_sqrt=False, centered=True)": optax.rmsprop(0.01, eps_in_sqrt=False, centered=True),
    "rmsprop(0.01, centered=True, momentum=0.5, nesterov=True, bias_correction=True)": optax.rmsprop(
        0.01, centered=True, momentum=0.5, nesterov=True, bias_correction=True
    ),
    "rmsprop(0.01, initial_scale=1.0, bias_correction=True)": optax.rmsprop(
        0.01, initial_scale=1.0, bias_correction=True
    ),
    "lamb(0.01, weight_decay=0.1)": optax.lamb(0.01, weight_decay=0.1),
    "lars(0.5, weight_decay=0.1)": optax.lars(0.5, weight_decay=0.1),
    "lars(0.5, trust_ratio_mask=matrices, nesterov=True)": optax.lars(0.5, trust_ratio_mask=matrices, nesterov=True),
    "lion(0.01)": optax.lion(0.01),
    "lion(0.01, weight_decay=0.1)": optax.lion(0.01, weight_decay=0.1),
    "adafactor(0.1)": optax.adafactor(0.1),
    "adafactor(0.1, min_dim_size_to_factor=2)": optax.adafactor(0.1, min_dim_size_to_factor=2),
    "adafactor(0.1, min_dim_size_to_factor=2, momentum=0.9, weight_decay_rate=0.01)": optax.adafactor(
        0.1, min_dim_size_to_factor=2, momentum=0.9, weight_decay_rate=0.01, dtype_momentum=numpy.float64
    ),
    "muon(0.01)": optax.contrib.muon(0.01),
    "muon(0.01, weight_decay=0.1, nesterov=False, consistent_rms=0.2)": optax.contrib.muon(
        0.01, weight_decay=0.1, nesterov=False, consistent_rms=0.2
    ),
    "chain(clip(0.5), sgd(0.1))": optax.chain(optax.clip(0.5), optax.sgd(0.1)),
    "chain(adaptive_grad_clip(0.1), sgd(0.1))": optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1)),
    "chain(clip_by_block_rms(0.5), sgd(0.1))": optax.chain(optax.clip_by_block_rms(0.5), optax.sgd(0.1)),
    "chain(normalize_by_update_norm(2.0), sgd(0.1))": optax.chain(optax.normalize_by_update_norm(2.0), optax.sgd(0.1)),
    "chain(add_decayed_weights(0.1), sgd(0.1, momentum=0.9))": optax.chain(
        optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)
    ),
    "chain(ema(0.9), sgd(0.1))": optax.chain(optax.ema(0.9), optax.sgd(0.1)),
    "chain(ema(0.9, debias=False), sgd(0.1))": optax.chain(optax.ema(0.9, debias=False), optax.sgd(0.1)),
    "MultiSteps(adam(0.01), 3)": optax.MultiSteps(
        optax.adam(0.01), 3, accumulator_dtype=numpy.float64
    ).gradient_transformation(),
    "MultiSteps(adam(0.01), lambda step: 1 + step % 3, use_grad_mean=False)": optax.MultiSteps(
        optax.adam(0.01), lambda step: 1 + step % 3, use_grad_mean=False, accumulator_dtype=numpy.float64
    ).gradient_transformation(),
    "partition({'a': adam(0.01), 'b': sgd(0.1)}, labels)": optax.partition(
        {"a": optax.adam(0.01), "b": optax.sgd(0.1)}, labels
    ),
    "masked(adam(0.01), matrices)": optax.masked(optax.adam(0.01), matrices),
    "inject_hyperparams(adamw)(lambda count: 0.1 / (1 + count), weight_decay=0.1)": optax.inject_hyperparams(
        optax.adamw
    )(lambda count: 0.1 / (1 + count), weight_decay=0.1),
    "sam(adam(0.01), adversary)": optax.contrib.sam(optax.adam(0.01), ADVERSARY),
    "sam(sgd(0.1, momentum=0.9), adversary, sync_period=3, reset_state=False)": optax.contrib.sam(
        optax.sgd(0.1, momentum=0.9), ADVERSARY, sync_period=3, reset_state=False
    ),
}
LOOKAHEAD = {
    "lookahead(sgd(0.1, momentum=0.9), 3, 0.5)": optax.lookahead(optax.sgd(0.1, momentum=0.9), 3, 0.5),
    "lookahead(adam(0.01), 4, 0.8, reset_state=True)": optax.lookahead(optax.adam(0.01), 4, 0.8, reset_state=True),
}
IN_TORCH = {
    "sgd(0.1)": lambda params: torch.optim.SGD(params, 0.1),
    "sgd(0.1, momentum=0.9)": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9),
    "sgd(0.1, momentum=0.9, nesterov=True)": lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, nesterov=True),
    "adam(0.01)": lambda params: torch.optim.Adam(params, 0.01),
    "adamw(0.01, weight_decay=0.1)": lambda params: torch.optim.AdamW(params, 0.01, weight_decay=0.1),
    "adamax(0.01)": lambda params: torch.optim.Adamax(params, 0.01),
    "adagrad(0.1, initial_accumulator_value=0.0, eps=1e-20)": lambda params: torch.optim.Adagrad(
        params, 0.1, eps=1e-20
    ),
    "adadelta(0.5)": lambda params: torch.optim.Adadelta(params, 0.5, rho=0.9),
    "adadelta(0.5, weight_decay=0.1)": lambda params: torch.optim.Adadelta(params, 0.5, rho=0.9, weight_decay=0.1),
    "rmsprop(0.01, eps_in_sqrt=False)": lambda params: torch.optim.RMSprop(params, 0.01, alpha=0.9),
    "rmsprop(0.01, eps_in_sqrt=False, momentum=0.9)": lambda params: torch.optim.RMSprop(
        params, 0.01, alpha=0.9, momentum=0.9
    ),
    "rmsprop(0.01, eps_in_sqrt=False, centered=True)": lambda params: torch.optim.RMSprop(
        params, 0.01, alpha=0.9, centered=True
    ),
    "chain(add_decayed_weights(0.1), sgd(0.1, momentum=0.9))": lambda params: torch.optim.SGD(
        params, 0.1, momentum=0.9, weight_decay=0.1
    ),
}
# What Optax 0.2.8 does differently: the updates of its rprop are those of the step before.
ONLY_IN_TORCH = {
    "rprop(0.01)": lambda params: torch.optim.Rprop(params, 0.01),
    "rprop(0.1, 0.3, 1.5, 0.05, 0.2)": lambda params: torch.optim.Rprop(
        params, 0.1, etas=(0.3, 1.5), step_sizes=(0.05, 0.2)
    ),
}

COUNTS = list(range(25))
CYCLE = dict(init_value=0.5, peak_value=0.5, warmup_steps=0)
SCHEDULES = {
    "constant_schedule(0.5)": optax.constant_schedule(0.5),
    "linear_schedule(0.5, 0.1, 10)": optax.linear_schedule(0.5, 0.1, 10),
    "polynomial_schedule(0.5, 0.1, 2, 10, 5)": optax.polynomial_schedule(0.5, 0.1, 2, 10, 5),
    "piecewise_constant_schedule(0.5, {3: 0.1, 10: 2.0})": optax.piecewise_constant_schedule(0.5, {3: 0.1, 10: 2.0}),
    "piecewise_interpolate_schedule('linear', 0.5, {3: 2.0, 10: 0.1})": optax.piecewise_interpolate_schedule(
        "linear", 0.5, {3: 2.0, 10: 0.1}
    ),
    "piecewise_interpolate_schedule('cosine', 0.5, {3: 2.0, 10: 0.1})": optax.piecewise_interpolate_schedule(
        "cosine", 0.5, {3: 2.0, 10: 0.1}
    ),
    "exponential_decay(0.5, 4, 0.3)": optax.exponential_decay(0.5, 4, 0.3),
    "exponential_decay(0.5, 4, 0.3, 3, True, 0.02)": optax.exponential_decay(0.5, 4, 0.3, 3, True, 0.02),
    "exponential_decay(0.5, 4, 1.3, end_value=1.0)": optax.exponential_decay(0.5, 4, 1.3, end_value=1.0),
    "cosine_decay_schedule(0.5, 20, 0.1, 2.0)": optax.cosine_decay_schedule(0.5, 20, 0.1, 2.0),
    "linear_onecycle_schedule(20, 0.5)": optax.linear_onecycle_schedule(20, 0.5),
    "cosine_onecycle_schedule(20, 0.5)": optax.cosine_onecycle_schedule(20, 0.5),
    "warmup_constant_schedule(0.1, 0.5, 5)": optax.warmup_constant_schedule(0.1, 0.5, 5),
    "warmup_cosine_decay_schedule(0.1, 0.5, 5, 20, 0.01)": optax.warmup_cosine_decay_schedule(0.1, 0.5, 5, 20, 0.01),
    "warmup_exponential_decay_schedule(0.1, 0.5, 5, 4, 0.5)": optax.warmup_exponential_decay_schedule(
        0.1, 0.5, 5, 4, 0.5
    ),
    "sgdr_schedule([dict(CYCLE, decay_steps=5), dict(CYCLE, decay_steps=10)])": optax.sgdr_schedule(
        [dict(CYCLE, decay_steps=5), dict(CYCLE, decay_steps=10)]
    ),
}


def torch_schedule(make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    schedule = make(optimizer)
    values = []
    for _ in COUNTS:
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


SCHEDULES_IN_TORCH = {
    "linear_schedule(0.5, 0.1, 10)": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, 10),
    "exponential_decay(0.5, 4, 0.3)": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.3**0.25),
    "piecewise_constant_schedule(0.5, {3: 0.1, 10: 2.0})": lambda o: torch.optim.lr_scheduler.LambdaLR(
        o, lambda n: (0.1 if n >= 3 else 1) * (2.0 if n >= 10 else 1)
    ),
    "sgdr_schedule([dict(CYCLE, decay_steps=5), dict(CYCLE, decay_steps=10)])": lambda o: (
        torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2)
    ),
}

PLATEAU_LOSSES = [5, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 2.9, 2.9, 2.9999, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2]
PLATEAUS = {
    "reduce_on_plateau(0.5, 3)": optax.contrib.reduce_on_plateau(0.5, 3),
    "reduce_on_plateau(0.5, 2, cooldown=2, min_scale=0.2)": optax.contrib.reduce_on_plateau(
        0.5, 2, cooldown=2, min_scale=0.2
    ),
    "reduce_on_plateau(0.5, 2, rtol=0.1, atol=0.01, accumulation_size=2)": optax.contrib.reduce_on_plateau(
        0.5, 2, rtol=0.1, atol=0.01, accumulation_size=2
    ),
}


def gradients():
    """Gradients of very different sizes, among them zeros, which change sign now and then."""
    random = numpy.random.default_rng(0)
    scale = {
        "weight": numpy.array([[1e-3, 1.0, 30.0], [0.1, 0.0, 1.0]]),
        "bias": numpy.array([1.0, 1e-2]),
        "gain": numpy.array(0.5),
    }
    return [
        {name: (s * (0.5 + random.normal(size=s.shape))).round(6).tolist() for name, s in scale.items()}
        for _ in range(STEPS)
    ]


def as_arrays(values):
    return {name: jax.numpy.array(value) for name, value in values.items()}


def as_lists(params):
    return {name: numpy.asarray(value).tolist() for name, value in params.items()}


def optax_trajectory(optimizer, gradients):
    params = as_arrays(START)
    state = optimizer.init(params)
    trajectory = []
    for gradient in gradients:
        updates, state = optimizer.update(as_arrays(gradient), state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append(as_lists(params))
    return trajectory


def lookahead_trajectory(optimizer, gradients):
    params = optax.LookaheadParams.init_synced(as_arrays(START))
    state = optimizer.init(params)
    trajectory = []
    for gradient in gradients:
        updates, state = optimizer.update(as_arrays(gradient), state, params)
        params = optax.apply_updates(params, updates)
        trajectory.append({"fast": as_lists(params.fast), "slow": as_lists(params.slow)})
    return trajectory


def torch_trajectory(make, gradients):
    params = {name: torch.tensor(value, dtype=torch.float64) for name, value in START.items()}
    optimizer = make(list(params.values()))
    trajectory = []
    for gradient in gradients:
        for name, param in params.items():
            param.grad = torch.tensor(gradient[name], dtype=torch.float64)
        optimizer.step()
        trajectory.append({name: param.tolist() for name, param in params.items()})
    return trajectory


def plateau_scales(transformation, losses):
    params = jax.numpy.zeros((), dtype=numpy.float64)
    state = transformation.init(params)
    scales = []
    for loss in losses:
        updates, state = transformation.update(jax.numpy.ones(()), state, params, value=loss)
        scales.append(float(updates))
    return scales


def torch_plateau(losses, factor, patience):
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience - 1, eps=0.0)
    scales = []
    for loss in losses:
        schedule.step(loss)
        scales.append(optimizer.param_groups[0]["lr"])
    return scales


def main():
    given = gradients()
    found = {name: optax_trajectory(optimizer, given) for name, optimizer in OPTIMIZERS.items()}
    for name, make in IN_TORCH.items():
        for ours, theirs in zip(found[name], torch_trajectory(make, given), strict=True):
            for key in START:
                numpy.testing.assert_allclose(ours[key], theirs[key], rtol=1e-9, atol=1e-9, err_msg=name)
    found |= {name: torch_trajectory(make, given) for name, make in ONLY_IN_TORCH.items()}
    schedules = {name: [float(schedule(count)) for count in COUNTS] for name, schedule in SCHEDULES.items()}
    for name, make in SCHEDULES_IN_TORCH.items():
        # PyTorch goes on restarting where a list of cycles ends.
        length = 15 if "sgdr" in name else len(COUNTS)
        numpy.testing.assert_allclose(schedules[name][:length], torch_schedule(make)[:length], atol=1e-6, err_msg=name)
    plateaus = {name: plateau_scales(plateau, PLATEAU_LOSSES) for name, plateau in PLATEAUS.items()}
    numpy.testing.assert_allclose(plateaus["reduce_on_plateau(0.5, 3)"], torch_plateau(PLATEAU_LOSSES, 0.5, 3))
    # A few of the steps are enough to tell a wrong recurrence, and keep the file small.
    kept = (1, 2, 3, 10, 20)
    values = {
        "start": START,
        "gradients": given,
        "params_after": {name: {str(n): steps[n - 1] for n in kept} for name, steps in found.items()},
        "lookahead": {
            name: {str(n): steps[n - 1] for n in kept}
            for name, steps in ((name, lookahead_trajectory(o, given)) for name, o in LOOKAHEAD.items())
        },
        "schedules": schedules,
        "losses": PLATEAU_LOSSES,
        "plateaus": plateaus,
    }
    path = Path(__file__).with_name("optimizers.json")
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
