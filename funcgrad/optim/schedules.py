"""Schedules: learning rates, and other numbers, as functions of the count of earlier steps.

A schedule takes a Python integer or an integer array of shape () and gives a number or an array of shape ().
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from funcgrad import numpy as np
from funcgrad.annotations import Array
from funcgrad.errors import ArgumentError
from funcgrad.optim.transformation import Scalar, Schedule


def constant_schedule(value: Scalar) -> Schedule:
    """Always the same number.

    Arguments:
        value: the number.

    Example:
        >>> import funcgrad as fg
        >>> fg.optim.constant_schedule(0.1)(7)
        0.1
    """
    return lambda count: value


def polynomial_schedule(
    init_value: Scalar, end_value: Scalar, power: Scalar, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """From one number to another by a power of the share of steps that remain.

    Arguments:
        init_value: the number until `transition_begin`.
        end_value: the number from `transition_begin + transition_steps` on.
        power: 1 for a straight line; larger ones change fast at first.
        transition_steps: how many steps the change takes.
        transition_begin: the step before which nothing changes.

    Raises:
        ArgumentError: if `transition_steps` is not positive or `transition_begin` is negative.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.polynomial_schedule(1.0, 0.0, power=2, transition_steps=4)
        >>> [float(schedule(count)) for count in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    _check_positive("polynomial_schedule", transition_steps=transition_steps)
    _check_begin("polynomial_schedule", transition_begin)

    def schedule(count: Any) -> Array:
        done = np.clip(np.asarray(count) - transition_begin, 0, transition_steps)
        return (init_value - end_value) * (1 - done / transition_steps) ** power + end_value

    return schedule


def linear_schedule(
    init_value: Scalar, end_value: Scalar, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """From one number to another in a straight line.

    Arguments:
        init_value, end_value, transition_steps, transition_begin: see `polynomial_schedule`.

    Raises:
        ArgumentError: if `transition_steps` is not positive or `transition_begin` is negative.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.linear_schedule(0.0, 1.0, transition_steps=4)
        >>> [float(schedule(count)) for count in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def piecewise_constant_schedule(
    init_value: Scalar, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """A number that is multiplied by factors at given steps.

    Arguments:
        init_value: the number before the first boundary.
        boundaries_and_scales: for each step at which the number changes, the factor.

    Raises:
        ArgumentError: if a factor is negative.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.piecewise_constant_schedule(1.0, {2: 0.5, 4: 0.25})
        >>> [float(schedule(count)) for count in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.125, 0.125]
    """
    boundaries = _sorted_boundaries("piecewise_constant_schedule", boundaries_and_scales)

    def schedule(count: Any) -> Scalar:
        value = init_value
        for boundary, factor in boundaries:
            value = value * np.where(np.asarray(count) < boundary, 1.0, factor)
        return value

    return schedule


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Scalar, boundaries_and_scales: Mapping[int, float] | None = None
) -> Schedule:
    """A number that is multiplied by factors up to given steps, and between these changes gradually.

    Arguments:
        interpolate_type: "linear" for straight lines, "cosine" for half waves.
        init_value: the number at step 0.
        boundaries_and_scales: for each step at which a change ends, the factor. After the last, the number stays.

    Raises:
        ArgumentError: for another `interpolate_type`, or a negative factor.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.piecewise_interpolate_schedule("linear", 1.0, {2: 2.0, 6: 0.5})
        >>> [float(schedule(count)) for count in range(8)]
        [1.0, 1.5, 2.0, 1.75, 1.5, 1.25, 1.0, 1.0]
    """
    if interpolate_type not in ("linear", "cosine"):
        raise ArgumentError(
            f"piecewise_interpolate_schedule got interpolate_type={interpolate_type!r}; give 'linear' or 'cosine'."
        )
    boundaries = _sorted_boundaries("piecewise_interpolate_schedule", boundaries_and_scales)

    def schedule(count: Any) -> Array:
        count = np.asarray(count)
        begin, value = 0, init_value
        result = np.asarray(init_value)
        for end, factor in boundaries:
            share = np.clip((count - begin) / max(end - begin, 1), 0.0, 1.0)
            if interpolate_type == "cosine":
                share = (1 - np.cos(np.pi * share)) / 2
            result = np.where(count < begin, result, value + (value * factor - value) * share)
            begin, value = end, value * factor
        return np.where(count < begin, result, value)

    return schedule


def exponential_decay(
    init_value: Scalar,
    transition_steps: int,
    decay_rate: Scalar,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """A number that is multiplied by the same factor again and again.

    Arguments:
        init_value: the number until `transition_begin`.
        transition_steps: how many steps it takes to multiply once.
        decay_rate: the factor, a positive number.
        transition_begin: the step before which nothing changes.
        staircase: whether the number jumps after each `transition_steps` rather than changing in every step.
        end_value: the bound at which the number stays: a lower one for a factor below 1, else an upper one.

    Raises:
        ArgumentError: if `transition_steps` or `decay_rate` is not positive, or `transition_begin` is negative.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.exponential_decay(1.0, transition_steps=2, decay_rate=0.25, staircase=True)
        >>> [float(schedule(count)) for count in range(6)]
        [1.0, 1.0, 0.25, 0.25, 0.0625, 0.0625]
    """
    _check_positive("exponential_decay", transition_steps=transition_steps, decay_rate=decay_rate)
    _check_begin("exponential_decay", transition_begin)

    def schedule(count: Any) -> Array:
        times = np.maximum(np.asarray(count) - transition_begin, 0) / transition_steps
        value = init_value * decay_rate ** (np.floor(times) if staircase else times)
        if end_value is None:
            return value
        return np.where(np.asarray(decay_rate) < 1, np.maximum(value, end_value), np.minimum(value, end_value))

    return schedule


def cosine_decay_schedule(
    init_value: Scalar, decay_steps: int, alpha: Scalar = 0.0, exponent: Scalar = 1.0
) -> Schedule:
    """From a number down to a share of it, along half a wave of the cosine.

    Arguments:
        init_value: the number at step 0.
        decay_steps: how many steps it takes.
        alpha: the share of `init_value` that remains.
        exponent: a power that is taken of the half wave.

    Raises:
        ArgumentError: if `decay_steps` is not positive.

    Source: I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    https://arxiv.org/abs/1608.03983.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.cosine_decay_schedule(1.0, decay_steps=4)
        >>> [round(float(schedule(count)), 3) for count in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    _check_positive("cosine_decay_schedule", decay_steps=decay_steps)

    def schedule(count: Any) -> Array:
        share = np.minimum(np.asarray(count) / decay_steps, 1.0)
        # Rounding must not take the half wave below zero, where other exponents have no value.
        wave = np.maximum((1 + np.cos(np.pi * share)) / 2, 0.0)
        return init_value * ((1 - alpha) * wave**exponent + alpha)

    return schedule


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: Scalar,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to a peak, down again, and then to almost nothing, in straight lines.

    Arguments:
        transition_steps: the number of all steps.
        peak_value: the largest value.
        pct_start: the share of steps that it takes to reach it.
        pct_final: the share of steps after which the value is where it started.
        div_factor: `peak_value` over the first value.
        final_div_factor: the first value over the last.

    Raises:
        ArgumentError: if `transition_steps` is not positive.

    Source: L. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates", https://arxiv.org/abs/1708.07120.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.linear_onecycle_schedule(10, 1.0, pct_start=0.2, pct_final=0.8, div_factor=4.0)
        >>> [round(float(schedule(count)), 3) for count in (0, 1, 2, 5, 8, 10)]
        [0.25, 0.625, 1.0, 0.625, 0.25, 0.0]
    """
    _check_positive("linear_onecycle_schedule", transition_steps=transition_steps)
    return piecewise_interpolate_schedule(
        "linear",
        peak_value / div_factor,
        {
            int(pct_start * transition_steps): div_factor,
            int(pct_final * transition_steps): 1.0 / div_factor,
            transition_steps: 1.0 / final_div_factor,
        },
    )


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: Scalar,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to a peak and down to almost nothing, along half waves of the cosine.

    Arguments:
        transition_steps: the number of all steps.
        peak_value: the largest value.
        pct_start: the share of steps that it takes to reach it.
        div_factor: `peak_value` over the first value.
        final_div_factor: the first value over the last.

    Raises:
        ArgumentError: if `transition_steps` is not positive.

    Source: L. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates", https://arxiv.org/abs/1708.07120.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.cosine_onecycle_schedule(10, 1.0, pct_start=0.2, div_factor=4.0)
        >>> [round(float(schedule(count)), 3) for count in (0, 1, 2, 6, 10)]
        [0.25, 0.625, 1.0, 0.5, 0.0]
    """
    _check_positive("cosine_onecycle_schedule", transition_steps=transition_steps)
    return piecewise_interpolate_schedule(
        "cosine",
        peak_value / div_factor,
        {int(pct_start * transition_steps): div_factor, transition_steps: 1.0 / (div_factor * final_div_factor)},
    )


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other.

    Arguments:
        schedules: the schedules. Each counts from the step at which it begins.
        boundaries: for each but the first, that step, in ascending order.

    Raises:
        ArgumentError: if there is not one boundary between each two schedules.

    Example:
        >>> import funcgrad as fg
        >>> warm_up = fg.optim.linear_schedule(0.0, 1.0, 2)
        >>> schedule = fg.optim.join_schedules([warm_up, fg.optim.cosine_decay_schedule(1.0, 4)], [2])
        >>> [round(float(schedule(count)), 3) for count in range(6)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
    """
    schedules, boundaries = list(schedules), list(boundaries)
    if not schedules or len(boundaries) != len(schedules) - 1 or boundaries != sorted(boundaries):
        raise ArgumentError(
            f"join_schedules got {len(schedules)} schedules and the boundaries {boundaries}; give the step at which "
            "each schedule but the first begins, in ascending order."
        )

    def joined(count: Any) -> Scalar:
        count = np.asarray(count)
        value = schedules[0](count)
        for boundary, schedule in zip(boundaries, schedules[1:], strict=True):
            value = np.where(count < boundary, value, schedule(np.maximum(count - boundary, 0)))
        return value

    return joined


def warmup_constant_schedule(init_value: Scalar, peak_value: Scalar, warmup_steps: int) -> Schedule:
    """Up in a straight line, and then constant.

    Arguments:
        init_value: the number at step 0.
        peak_value: the number from step `warmup_steps` on.
        warmup_steps: how many steps the warm-up takes; may be 0.

    Raises:
        ArgumentError: if `warmup_steps` is negative.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.warmup_constant_schedule(0.0, 1.0, warmup_steps=2)
        >>> [float(schedule(count)) for count in range(4)]
        [0.0, 0.5, 1.0, 1.0]
    """
    return _after_warmup(init_value, peak_value, warmup_steps, constant_schedule(peak_value))


def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    decay_steps: int,
    end_value: Scalar = 0.0,
    exponent: Scalar = 1.0,
) -> Schedule:
    """Up in a straight line, and down along half a wave of the cosine.

    Arguments:
        init_value: the number at step 0.
        peak_value: the number at step `warmup_steps`.
        warmup_steps: how many steps the warm-up takes; may be 0.
        decay_steps: the number of all steps, those of the warm-up among them.
        end_value: the number from step `decay_steps` on.
        exponent: see `cosine_decay_schedule`.

    Raises:
        ArgumentError: if `warmup_steps` is negative or `decay_steps` is not larger.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=2, decay_steps=6)
        >>> [round(float(schedule(count)), 3) for count in range(8)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    if decay_steps <= warmup_steps:
        raise ArgumentError(
            f"warmup_cosine_decay_schedule got decay_steps={decay_steps}, which is the number of all steps, and "
            f"warmup_steps={warmup_steps} of these; give more steps in all than for the warm-up."
        )
    decay = cosine_decay_schedule(1.0, decay_steps - warmup_steps, exponent=exponent)
    # Not by `alpha`, the share that remains, so that a peak of zero divides nothing.
    descend = lambda count: end_value + (peak_value - end_value) * decay(count)
    return _after_warmup(init_value, peak_value, warmup_steps, descend)


def warmup_exponential_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: Scalar,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """Up in a straight line, and down by the same factor again and again.

    Arguments:
        init_value: the number at step 0.
        peak_value: the number at step `warmup_steps`.
        warmup_steps: how many steps the warm-up takes; may be 0.
        transition_steps, decay_rate, transition_begin, staircase, end_value: see `exponential_decay`, which starts to
            count after the warm-up.

    Raises:
        ArgumentError: if `warmup_steps` is negative, or `exponential_decay` refuses an argument.

    Example:
        >>> import funcgrad as fg
        >>> schedule = fg.optim.warmup_exponential_decay_schedule(0.0, 1.0, 2, transition_steps=1, decay_rate=0.5)
        >>> [float(schedule(count)) for count in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.25]
    """
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return _after_warmup(init_value, peak_value, warmup_steps, decay)


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """Cosine decay with warm restarts: several `warmup_cosine_decay_schedule`, one after the other.

    Arguments:
        cosine_kwargs: for each, its arguments as a dict.

    Raises:
        ArgumentError: if there are none, or one of them has wrong arguments.

    Source: I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
    https://arxiv.org/abs/1608.03983.

    Example:
        >>> import funcgrad as fg
        >>> cycle = dict(init_value=1.0, peak_value=1.0, warmup_steps=0)
        >>> schedule = fg.optim.sgdr_schedule([dict(cycle, decay_steps=2), dict(cycle, decay_steps=4)])
        >>> [round(float(schedule(count)), 3) for count in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    cycles = [dict(cycle) for cycle in cosine_kwargs]
    boundaries = []
    for cycle in cycles[:-1]:
        boundaries.append((boundaries[-1] if boundaries else 0) + cycle["decay_steps"])
    return join_schedules([warmup_cosine_decay_schedule(**cycle) for cycle in cycles], boundaries)


def _after_warmup(init_value: Scalar, peak_value: Scalar, warmup_steps: int, schedule: Schedule) -> Schedule:
    if warmup_steps < 0:
        raise ArgumentError(f"the number of warm-up steps is {warmup_steps}; give 0 for no warm-up.")
    if warmup_steps == 0:
        return schedule
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), schedule], [warmup_steps])


def _sorted_boundaries(function: str, boundaries_and_scales: Mapping[int, float] | None) -> list[tuple[int, float]]:
    pairs = sorted((boundaries_and_scales or {}).items())
    for boundary, factor in pairs:
        if factor < 0:
            raise ArgumentError(f"{function} got the factor {factor} at step {boundary}; give factors of 0 or more.")
    return pairs


def _check_positive(function: str, **values: Scalar) -> None:
    for name, value in values.items():
        if isinstance(value, (int, float)) and value <= 0:
            raise ArgumentError(f"{function} got {name}={value}; give a positive number.")


def _check_begin(function: str, transition_begin: int) -> None:
    if transition_begin < 0:
        raise ArgumentError(f"{function} got transition_begin={transition_begin}; give 0 or a later step.")
