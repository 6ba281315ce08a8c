"""What surrounds optimizers: schedules, groups of parameters, averages, accumulation, and hyper-parameters as state."""

import json
from pathlib import Path

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import optim
from funcgrad.errors import ArgumentError, TreeError

KNOWN = json.loads((Path(__file__).parent / "known_values" / "optimizers.json").read_text())
NAMES = {name: getattr(optim, name) for name in optim.__all__}
NAMES["CYCLE"] = dict(init_value=0.5, peak_value=0.5, warmup_steps=0)


@pytest.mark.parametrize("name", KNOWN["schedules"])
def test_schedules_have_the_known_values(name):
    schedule = eval(name, dict(NAMES))
    expected = KNOWN["schedules"][name]
    counts = np.arange(len(expected))
    numpy.testing.assert_allclose([float(schedule(n)) for n in range(len(expected))], expected, rtol=1e-5, atol=1e-7)
    compiled = fg.jit(fg.vmap(lambda count: np.asarray(schedule(count))))(counts)
    numpy.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-7)


def test_schedules_without_warm_up_begin_at_the_peak():
    for schedule in (
        optim.warmup_constant_schedule(0.0, 2.0, 0),
        optim.warmup_cosine_decay_schedule(0.0, 2.0, 0, 10),
        optim.warmup_exponential_decay_schedule(0.0, 2.0, 0, 10, 0.5),
    ):
        assert float(schedule(0)) == 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.linear_schedule(0.0, 1.0, 0), "transition_steps=0; give a positive number"),
        (lambda: optim.polynomial_schedule(0.0, 1.0, 1, 5, -1), "transition_begin=-1"),
        (lambda: optim.exponential_decay(1.0, 5, 0.0), "decay_rate=0.0; give a positive number"),
        (lambda: optim.cosine_decay_schedule(1.0, 0), "decay_steps=0"),
        (lambda: optim.cosine_onecycle_schedule(0, 1.0), "transition_steps=0"),
        (lambda: optim.linear_onecycle_schedule(0, 1.0), "transition_steps=0"),
        (lambda: optim.piecewise_constant_schedule(1.0, {5: -1.0}), "the factor -1.0 at step 5"),
        (lambda: optim.piecewise_interpolate_schedule("cubic", 1.0), "give 'linear' or 'cosine'"),
        (lambda: optim.join_schedules([optim.constant_schedule(1.0)], [3]), "1 schedules and the boundaries"),
        (lambda: optim.warmup_cosine_decay_schedule(0.0, 1.0, 5, 5), "more steps in all than for the warm-up"),
        (lambda: optim.warmup_constant_schedule(0.0, 1.0, -1), "give 0 for no warm-up"),
        (lambda: optim.sgdr_schedule([]), "0 schedules"),
        (lambda: optim.reduce_on_plateau(factor=1.0), "factor=1.0"),
        (lambda: optim.reduce_on_plateau(rtol=0.0), "at least one positive"),
        (lambda: optim.reduce_on_plateau(patience=0), "patience=0"),
        (lambda: optim.MultiSteps(optim.sgd(0.1), 0), "every_k_schedule=0"),
        (lambda: optim.lookahead(optim.sgd(0.1), 0, 0.5), "sync_period=0"),
        (lambda: optim.sam(optim.sgd(0.1), optim.sgd(0.1), 0), "sync_period=0"),
        (lambda: optim.inject_hyperparams(optim.sgd, "rate"), "no argument 'rate'"),
        (lambda: optim.rmsprop(0.1, decay=1.0), "scale_by_rms got decay=1.0"),
        (lambda: optim.muon(0.1, beta=1.5), "scale_by_muon got beta=1.5"),
    ],
)
def test_arguments_out_of_range_are_an_error(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", KNOWN["plateaus"])
def test_plateaus_are_found_as_known(name, jitted):
    transformation = eval(name, dict(NAMES))
    update = lambda state, loss: transformation.update(fg.array(1.0), state, value=loss)
    update = fg.jit(update) if jitted else update
    state = transformation.init(fg.array(0.0))
    scales = []
    for loss in KNOWN["losses"]:
        updates, state = update(state, fg.array(loss, dtype=fg.float32))
        scales.append(float(updates))
    numpy.testing.assert_allclose(scales, KNOWN["plateaus"][name], rtol=1e-6)


def test_a_plateau_needs_the_value():
    optimizer = optim.chain(optim.sgd(0.1), optim.reduce_on_plateau())
    with pytest.raises(ArgumentError, match="value=loss"):
        optimizer.update(fg.array(1.0), optimizer.init(fg.array(1.0)))


def test_further_arguments_reach_the_part_that_takes_them_through_everything():
    plateau = optim.reduce_on_plateau(0.5, 1)
    inside = optim.MultiSteps(optim.partition({"a": optim.chain(optim.sgd(1.0), plateau)}, "a"), 1)
    optimizer = optim.chain(optim.clip(5.0), optim.masked(inside.gradient_transformation(), True))
    params = {"w": fg.array(1.0)}
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(params, state, params, value=1.0)
    assert float(updates["w"]) == -0.5


def test_accumulation_makes_the_step_of_the_mean_gradient():
    gradients = [fg.array([1.0, -2.0]), fg.array([3.0, 4.0]), fg.array([-1.0, 7.0])]
    params = fg.array([0.5, 0.5])
    accumulating, plain = optim.MultiSteps(optim.adam(0.1), 3), optim.adam(0.1)
    state = accumulating.init(params)
    for gradient in gradients:
        updates, state = accumulating.update(gradient, state, params)
    expected, _ = plain.update(sum(gradients[1:], gradients[0]) / 3, plain.init(params), params)
    numpy.testing.assert_allclose(updates, expected, rtol=1e-6)
    assert bool(accumulating.has_updated(state))


def test_accumulation_in_16_bits_does_not_lose_small_gradients():
    optimizer = optim.MultiSteps(optim.sgd(1.0), 1000, use_grad_mean=False)
    params = fg.array(0.0, dtype=fg.bfloat16)
    gradient = fg.array(1.0, dtype=fg.bfloat16)
    step = fg.jit(lambda state: optimizer.update(gradient, state, params))
    state = optimizer.init(params)
    for _ in range(1000):
        updates, state = step(state)
    assert float(updates) == -1000.0  # a sum in bfloat16 would have stopped at 256
    assert updates.dtype == fg.bfloat16


def test_averages_of_parameters():
    mean, moving = fg.array([0.0, 0.0]), optim.ema(0.9)
    state = moving.init(mean)
    values = numpy.random.default_rng(0).normal(size=(10, 2))
    for n, value in enumerate(values):
        mean = optim.incremental_update(fg.array(value, dtype=fg.float32), mean, 1 / (n + 1))
        average, state = moving.update(fg.array(value, dtype=fg.float32), state)
    weights = 0.9 ** numpy.arange(9, -1, -1)
    numpy.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-5)
    numpy.testing.assert_allclose(average, weights @ values / weights.sum(), rtol=1e-5)


def test_averages_of_another_structure_are_an_error():
    with pytest.raises(TreeError, match="the new values given to incremental_update"):
        optim.incremental_update({"a": fg.array(1.0)}, {"b": fg.array(1.0)}, 0.5)


def test_masks_may_be_prefixes_and_leave_no_state_for_what_they_hide():
    params = {"frozen": {"w": np.ones((3,)), "b": np.ones(())}, "trained": np.ones((2,))}
    optimizer = optim.masked(optim.adam(0.1), {"frozen": False, "trained": True})
    state = optimizer.init(params)
    assert sorted(x.size for x in fg.tree.leaves(state)) == [1, 2, 2]
    updates, _ = optimizer.update(params, state, params)
    numpy.testing.assert_array_equal(updates["frozen"]["w"], params["frozen"]["w"])
    numpy.testing.assert_allclose(updates["trained"], [-0.1, -0.1], rtol=1e-5)


def test_a_module_of_bools_is_a_mask_and_not_a_function():
    model = fg.nn.Linear(2, 3, key=fg.random.key(0))
    mask = fg.tree.map(lambda x: x.ndim == 2, model)
    optimizer = optim.masked(optim.set_to_zero(), mask)
    updates, _ = optimizer.update(model, optimizer.init(model), model)
    assert not np.any(updates.weight)
    numpy.testing.assert_array_equal(updates.bias, model.bias)


def test_groups_by_path_in_a_model():
    model = {"layers": [{"weight": np.ones((2, 2)), "bias": np.ones((2,))} for _ in range(2)], "head": np.ones((2,))}
    labels = optim.labels_by_path({"layers/0/*": "frozen", "*bias": "slow"}, default="fast")
    transforms = {"frozen": optim.set_to_zero(), "slow": optim.sgd(0.25), "fast": optim.sgd(1.0)}
    optimizer = optim.partition(transforms, labels)
    updates, _ = fg.jit(optimizer.update)(model, optimizer.init(model), model)
    means = fg.tree.map(lambda u: float(np.mean(u)), updates)
    assert means["layers"][0] == {"weight": 0.0, "bias": 0.0}
    assert means["layers"][1] == {"weight": -1.0, "bias": -0.25}
    assert means["head"] == -1.0


def test_parameters_without_a_group_are_an_error():
    params = {"a": {"w": fg.array(1.0)}}
    with pytest.raises(ArgumentError, match=r"the label 'x' of the parameter \['a'\]\['w'\]"):
        optim.partition({"y": optim.sgd(0.1)}, "x").init(params)
    with pytest.raises(ArgumentError, match="fits the parameter 'a/w'"):
        optim.partition({"y": optim.sgd(0.1)}, optim.labels_by_path({"b/*": "y"})).init(params)
    with pytest.raises(TreeError, match="the labels of partition"):
        optim.partition({"y": optim.sgd(0.1)}, {"b": "y"}).init(params)


def test_hyper_parameters_in_the_state_change_a_compiled_step_without_tracing_it_again():
    traces = []
    optimizer = optim.inject_hyperparams(optim.sgd, static_args="nesterov")(0.5, momentum=0.5)

    @fg.jit
    def step(params, state):
        traces.append(1)
        return optimizer.update(params, state, params)

    params = fg.array(1.0)
    state = optimizer.init(params)
    _, state = step(params, state)
    state.hyperparams["learning_rate"] = fg.array(2.0)
    updates, state = step(params, state)
    assert float(updates) == -3.0  # twice the momentum of 1.5
    assert len(traces) == 1
    assert set(state.hyperparams) == {"learning_rate", "momentum"}


def test_a_batch_of_learning_rates():
    def loss_after(learning_rate):
        optimizer = optim.inject_hyperparams(optim.sgd)(learning_rate)
        params = fg.array(1.0)
        updates, _ = optimizer.update(2 * params, optimizer.init(params), params)
        return optim.apply_updates(params, updates) ** 2

    rates = fg.array([0.0, 0.25, 0.5])
    numpy.testing.assert_allclose(fg.vmap(loss_after)(rates), [1.0, 0.25, 0.0], atol=1e-7)


def test_weight_decay_by_a_schedule():
    decay = optim.add_decayed_weights(lambda count: 1.0 * count)
    params = fg.array(3.0)
    state = decay.init(params)
    seen = []
    for _ in range(3):
        updates, state = decay.update(np.zeros(()), state, params)
        seen.append(float(updates))
    assert seen == [0.0, 3.0, 6.0]


def test_muon_makes_singular_values_nearly_equal():
    matrix = fg.random.normal(fg.random.key(0), (6, 10))
    singular = numpy.linalg.svd(numpy.asarray(optim.orthogonalize_via_newton_schulz(matrix)), compute_uv=False)
    assert 0.65 < singular.min() <= singular.max() < 1.25


def test_muon_needs_matrices():
    optimizer = optim.scale_by_muon()
    state = optimizer.init(fg.array([1.0]))
    with pytest.raises(ArgumentError, match="needs matrices"):
        optimizer.update(fg.array([1.0]), state)


def test_sam_at_once_equals_sam_by_turns():
    loss = lambda x: np.sum(np.cos(x) + x**2)
    up = optim.chain(optim.normalize_by_update_norm(), optim.sgd(0.1))
    by_turns, at_once = (optim.sam(optim.adam(0.1), up, opaque_mode=mode) for mode in (False, True))
    x = y = fg.array([1.0, -2.0], dtype=fg.float64)
    state, other = by_turns.init(x), at_once.init(y)
    for _ in range(3):
        for _ in range(2):
            updates, state = by_turns.update(fg.grad(loss)(x), state, x)
            x = optim.apply_updates(x, updates)
        updates, other = at_once.update(fg.grad(loss)(y), other, y, grad_fn=lambda point, i: fg.grad(loss)(point))
        y = optim.apply_updates(y, updates)
    numpy.testing.assert_allclose(x, y, rtol=1e-9)
    with pytest.raises(ArgumentError, match="needs a function for gradients"):
        at_once.update(y, other, y)


def test_lookahead_needs_its_own_parameters():
    optimizer = optim.lookahead(optim.sgd(0.1), 2, 0.5)
    with pytest.raises(ArgumentError, match=r"LookaheadParams\.init_synced"):
        optimizer.init(fg.array(1.0))


def test_adaptive_clipping_knows_the_units_of_layers():
    clip = optim.adaptive_grad_clip(0.5)
    for shape, axes in [((4,), (0,)), ((4, 3), (0,)), ((2, 4, 3), (0,)), ((3, 3, 2, 4), (0, 1, 2))]:
        params = fg.random.normal(fg.random.key(1), shape)
        clipped, _ = clip.update(100 * params, clip.init(params), params)
        norms = numpy.sqrt(numpy.sum(numpy.square(clipped) / 1.0, axis=axes))
        limits = 0.5 * numpy.sqrt(numpy.sum(numpy.square(params), axis=axes))
        numpy.testing.assert_allclose(norms, limits, rtol=1e-5)
    with pytest.raises(ArgumentError, match="give it the axes"):
        clip.update(np.ones((2,) * 6), clip.init(None), np.ones((2,) * 6))


def test_zero_momentum_states_of_16_bit_parameters_are_single_precision():
    params = fg.array([1.0, 2.0], dtype=fg.bfloat16)
    state = optim.scale_by_adam().init(params)
    assert state.mu.dtype == state.nu.dtype == fg.float32
    assert optim.scale_by_adam(mu_dtype=fg.bfloat16).init(params).mu.dtype == fg.bfloat16


def test_complex_parameters():
    target = fg.array([1 + 2j, -1j], dtype=fg.complex64)
    for optimizer in (optim.adam(0.1), optim.rmsprop(0.05), optim.adagrad(1.0), optim.sgd(0.1, momentum=0.5)):
        params = np.zeros_like(target)
        state = optimizer.init(params)
        for _ in range(200):
            updates, state = optimizer.update(params - target, state, params)
            params = optim.apply_updates(params, updates)
        numpy.testing.assert_allclose(params, target, atol=0.1)
