"""Optimizers against known values of Optax and PyTorch, and as parts that fit together."""

import json
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import optim
from funcgrad.errors import ArgumentError, ShapeError, TreeError

KNOWN = json.loads((Path(__file__).parent / "known_values" / "optimizers.json").read_text())
NAMES = vars(optim) | {
    "matrices": lambda params: fg.tree.map(lambda x: x.ndim == 2, params),
    "labels": lambda params: {"weight": "a", "bias": "b", "gain": "a"},
    "adversary": optim.chain(optim.normalize_by_update_norm(), optim.sgd(0.05)),
}
# The known values are stored under the code that makes the optimizer, which is the same here and in Optax.
OPTIMIZERS = {name: eval(name, dict(NAMES)) for name in KNOWN["params_after"]}
# One of each family, without decay, so that parameters at rest stay where they are.
FAMILIES = {
    code: eval(code, dict(NAMES))
    for code in [
        "sgd(0.1)",
        "sgd(0.1, momentum=0.9, nesterov=True)",
        "sign_sgd(0.1)",
        "adam(0.01)",
        "adamax(0.01)",
        "nadam(0.01)",
        "amsgrad(0.01)",
        "adagrad(0.1)",
        "adadelta(0.5)",
        "rmsprop(0.01)",
        "rmsprop(0.01, centered=True, momentum=0.9)",
        "lamb(0.01)",
        "lars(0.1)",
        "lion(0.01, weight_decay=0.0)",
        "adafactor(0.1, min_dim_size_to_factor=2)",
        "muon(0.01)",
        "rprop(0.01)",
        "chain(clip_by_global_norm(1.0), adam(0.01))",
        "chain(adaptive_grad_clip(0.1), sgd(0.1))",
        "masked(adam(0.01), matrices)",
        "partition({'a': adam(0.01), 'b': sgd(0.1)}, labels)",
    ]
}
SMALL = {"weight": [[0.5, -1.0, 2.0], [0.1, 0.2, -0.3]], "bias": [1.0, -0.5], "gain": 1.5}


def as_arrays(values, dtype):
    return {name: fg.array(value, dtype=dtype) for name, value in values.items()}


def minimize(loss, params, optimizer, steps):
    state = optimizer.init(params)

    @fg.jit
    def step(params, state):
        updates, state = optimizer.update(fg.grad(loss)(params), state, params)
        return optim.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def step_of(optimizer):
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optim.apply_updates(params, updates), state

    return step


def check_trajectory(name, dtype, step, tolerance):
    params = as_arrays(KNOWN["start"], dtype)
    state = OPTIMIZERS[name].init(params)
    expected = KNOWN["params_after"][name]
    checked = 0
    for count, gradient in enumerate(KNOWN["gradients"], start=1):
        params, state = step(params, state, as_arrays(gradient, dtype))
        for key, value in expected.get(str(count), {}).items():
            assert params[key].dtype == dtype
            numpy.testing.assert_allclose(params[key], value, rtol=tolerance, atol=tolerance)
            checked += 1
    assert checked == 15


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_the_known_ones(name):
    check_trajectory(name, fg.float64, step_of(OPTIMIZERS[name]), 1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_compiled_steps_equal_the_known_ones(name):
    check_trajectory(name, fg.float64, fg.jit(step_of(OPTIMIZERS[name])), 1e-6)


@pytest.mark.parametrize("name", ["sgd(0.1, momentum=0.9)", "adam(0.01)", "lamb(0.01, weight_decay=0.1)"])
def test_steps_in_float32_are_close(name):
    check_trajectory(name, fg.float32, step_of(OPTIMIZERS[name]), 3e-6)


@pytest.mark.parametrize("name", KNOWN["lookahead"])
def test_lookahead_equals_the_known_steps(name):
    optimizer = eval(name, dict(NAMES))
    params = optim.LookaheadParams.init_synced(as_arrays(KNOWN["start"], fg.float64))
    state = optimizer.init(params)
    step = fg.jit(step_of(optimizer))
    for count, gradient in enumerate(KNOWN["gradients"], start=1):
        params, state = step(params, state, as_arrays(gradient, fg.float64))
        for part, values in KNOWN["lookahead"][name].get(str(count), {}).items():
            for key, value in values.items():
                numpy.testing.assert_allclose(getattr(params, part)[key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_zero_gradients_keep_the_parameters(name):
    for dtype in (fg.float64, fg.float32, fg.float16, fg.bfloat16):
        params = as_arrays(SMALL, dtype)
        state = FAMILIES[name].init(params)
        zeros = fg.tree.map(np.zeros_like, params)
        after = params
        for _ in range(2):
            after, state = step_of(FAMILIES[name])(after, state, zeros)
        for key in params:
            numpy.testing.assert_array_equal(after[key].astype(fg.float64), params[key].astype(fg.float64))


@pytest.mark.parametrize("dtype", [fg.bfloat16, fg.float16, fg.float32, fg.float64], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_dtypes_of_parameters_updates_and_states_stay(name, dtype):
    params = as_arrays(SMALL, dtype)
    state = FAMILIES[name].init(params)
    gradients = fg.tree.map(lambda p: p * 2, params)
    updates, after = FAMILIES[name].update(gradients, state, params)
    assert {x.dtype for x in fg.tree.leaves(updates)} == {numpy.dtype(dtype)}
    assert fg.tree.structure(state) == fg.tree.structure(after)
    for x, y in zip(fg.tree.leaves(state), fg.tree.leaves(after), strict=True):
        assert (x.shape, x.dtype, x.weak_type) == (y.shape, y.dtype, y.weak_type)
    assert all(np.all(np.isfinite(u)) for u in fg.tree.leaves(updates))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_ensemble_of_optimizers_makes_the_steps_of_each(name):
    optimizer = FAMILIES[name]
    members = [fg.tree.map(lambda p, n=n: p * (n + 1), as_arrays(SMALL, fg.float64)) for n in range(3)]
    stack = lambda trees: fg.tree.map(lambda *leaves: np.stack(leaves), *trees)

    def two_steps(params):
        state = optimizer.init(params)
        for _ in range(2):
            params, state = step_of(optimizer)(params, state, fg.tree.map(np.sin, params))
        return params

    together = fg.jit(fg.vmap(two_steps))(stack(members))
    alone = stack([two_steps(member) for member in members])
    for key in together:
        numpy.testing.assert_allclose(together[key], alone[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_may_reuse_what_it_is_given(name):
    optimizer = FAMILIES[name]
    params = as_arrays(SMALL, fg.float32)
    expected, expected_state = params, optimizer.init(params)
    given, state = fg.tree.map(lambda p: np.array(p, copy=True), params), optimizer.init(params)
    step = fg.jit(step_of(optimizer), donate_argnums=(0, 1))
    for _ in range(3):
        gradients = fg.tree.map(np.cos, expected)
        expected, expected_state = step_of(optimizer)(expected, expected_state, gradients)
        given, state = step(given, state, gradients)
    for key in params:
        numpy.testing.assert_allclose(given[key], expected[key], rtol=1e-5, atol=1e-6)


def test_chains_associate():
    parts = [optim.clip_by_global_norm(1.0), optim.scale_by_adam(), optim.add_decayed_weights(0.1), optim.scale(-0.1)]
    left = optim.chain(optim.chain(optim.chain(parts[0], parts[1]), parts[2]), parts[3])
    right = optim.chain(parts[0], optim.chain(parts[1], optim.chain(parts[2], parts[3])))
    flat = optim.chain(*parts)
    for step in KNOWN["gradients"][:3]:
        gradient = as_arrays(step, fg.float64)
        results = [o.update(gradient, o.init(gradient), gradient)[0] for o in (left, right, flat)]
        for key in gradient:
            numpy.testing.assert_array_equal(results[0][key], results[2][key])
            numpy.testing.assert_array_equal(results[1][key], results[2][key])


@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0), st.integers(0, 9))
def test_clipping_and_scaling_can_be_exchanged(threshold, factor, step):
    gradient = as_arrays(KNOWN["gradients"][step], fg.float64)
    for clip in (optim.clip, optim.clip_by_global_norm, optim.clip_by_block_rms):
        clip_first = optim.chain(clip(threshold), optim.scale(factor))
        scale_first = optim.chain(optim.scale(factor), clip(threshold * factor))
        one, other = (o.update(gradient, o.init(gradient))[0] for o in (clip_first, scale_first))
        for key in gradient:
            numpy.testing.assert_allclose(one[key], other[key], rtol=1e-9)


@given(st.floats(0.01, 100.0), st.integers(0, 9))
def test_clipping_twice_is_clipping_once(threshold, step):
    gradient = as_arrays(KNOWN["gradients"][step], fg.float64)
    for clip in (optim.clip(threshold), optim.clip_by_global_norm(threshold), optim.clip_by_block_rms(threshold)):
        once, _ = clip.update(gradient, clip.init(gradient))
        twice, _ = clip.update(once, clip.init(gradient))
        for key in gradient:
            numpy.testing.assert_allclose(twice[key], once[key], rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("clipped",)])
def test_gradients_of_another_structure_are_an_error_that_names_the_place(name):
    params = (
        {"layer": as_arrays(SMALL, fg.float32)} if not name.startswith("partition") else as_arrays(SMALL, fg.float32)
    )
    state = FAMILIES[name].init(params)
    wrong = fg.tree.map(lambda x: x, params)
    place = wrong["layer"] if not name.startswith("partition") else wrong
    place["gain"] = (place["gain"], place["gain"])
    with pytest.raises(TreeError, match="gain" if not name.startswith("partition") else "gain|label"):
        optim.apply_updates(params, FAMILIES[name].update(wrong, state, params)[0])


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.adamw(0.1),
        optim.adamaxw(0.1),
        optim.lamb(0.1),
        optim.lars(0.1),
        optim.lion(0.1),
        optim.adafactor(0.1),
        optim.muon(0.1),
        optim.add_decayed_weights(0.1),
        optim.adaptive_grad_clip(0.1),
        optim.sam(optim.sgd(0.1), optim.sgd(0.1)),
    ],
    ids=[
        "adamw",
        "adamaxw",
        "lamb",
        "lars",
        "lion",
        "adafactor",
        "muon",
        "add_decayed_weights",
        "adaptive_grad_clip",
        "sam",
    ],
)
def test_missing_parameters_are_an_error(optimizer):
    params = as_arrays(SMALL, fg.float32)
    with pytest.raises(ArgumentError, match=r"needs the parameters; call update\(updates, state, params\)"):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.parametrize("optimizer", [optim.sgd(0.1, momentum=0.5), optim.adam(0.3)], ids=["sgd", "adam"])
def test_optimizers_find_the_minimum_of_a_quadratic(optimizer):
    target = {"w": fg.array([1.0, -2.0]), "b": fg.array(3.0)}

    def loss(params):
        return sum(np.sum((params[name] - target[name]) ** 2) for name in target)

    found = minimize(loss, fg.tree.map(np.zeros_like, target), optimizer, 200)
    for name in target:
        numpy.testing.assert_allclose(found[name], target[name], atol=1e-3)


def test_init_and_update_are_pure():
    optimizer = optim.adam(0.1)
    params, gradient = fg.array([1.0, 2.0]), fg.array([0.5, -0.5])
    state = optimizer.init(params)
    first, _ = optimizer.update(gradient, state, params)
    second, _ = optimizer.update(gradient, state, params)
    numpy.testing.assert_array_equal(first, second)


def test_states_are_pytrees_of_arrays_with_fixed_dtypes():
    optimizer = optim.chain(optim.adam(lambda count: 0.1 / (1 + count)), optim.sgd(0.1, momentum=0.9))
    params = {"w": fg.array([1.0, 2.0], dtype=fg.float64), "b": fg.array(1.0)}
    state = optimizer.init(params)
    _, next_state = optimizer.update(params, state, params)
    before, after = fg.tree.flatten(state), fg.tree.flatten(next_state)
    assert before[1] == after[1]
    assert [(x.shape, x.dtype, x.weak_type) for x in before[0]] == [(x.shape, x.dtype, x.weak_type) for x in after[0]]


def test_jit_traces_a_training_step_once():
    traces = []
    optimizer = optim.adam(0.1)

    @fg.jit
    def step(params, state):
        traces.append(1)
        updates, state = optimizer.update(fg.grad(lambda x: np.sum(x**2))(params), state, params)
        return optim.apply_updates(params, updates), state

    params = fg.array([1.0, 2.0])
    state = optimizer.init(params)
    for _ in range(4):
        params, state = step(params, state)
    assert len(traces) == 1


def test_an_array_of_a_wider_dtype_as_learning_rate_does_not_widen_the_parameters():
    optimizer = optim.sgd(fg.array(0.5, dtype=fg.float64), momentum=fg.array(0.9, dtype=fg.float64))
    params = fg.array([1.0, 2.0])
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert updates.dtype == fg.float32
    assert {x.dtype for x in fg.tree.leaves(state)} == {fg.dtypes.float32}


def test_a_step_can_be_differentiated_by_the_learning_rate():
    gradient, params = fg.array([2.0, -3.0]), fg.array([1.0, 1.0])

    def after_step(learning_rate):
        optimizer = optim.sgd(learning_rate)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return np.sum(optim.apply_updates(params, updates))

    assert float(fg.grad(after_step)(0.1)) == pytest.approx(1.0)  # minus the sum of the gradient


def test_adam_can_be_differentiated_by_its_decay():
    gradient, params = fg.array([2.0, -3.0]), fg.array([1.0, 1.0])

    def after_two_steps(b1):
        optimizer = optim.adam(0.1, b1=b1)
        state = optimizer.init(params)
        _, state = optimizer.update(gradient, state, params)
        updates, _ = optimizer.update(-2 * gradient, state, params)
        return updates[0]

    # With decay b, the corrected mean of g and -2g is (b - 2) / (1 + b) times g, whose derivative is 3 / (1 + b)**2.
    size = -0.1 * 2.0 / numpy.sqrt((0.999 * 4 + 16) / 1.999)
    assert float(fg.grad(after_two_steps)(0.9)) == pytest.approx(size * 3 / 1.9**2, rel=1e-4)


def test_clipping_leaves_small_updates_exactly_as_they_are():
    clip = optim.clip_by_global_norm(10.0)
    updates = {"a": fg.array([0.1, 0.3]), "b": fg.array(0.7)}
    clipped, _ = clip.update(updates, clip.init(updates))
    for name in updates:
        numpy.testing.assert_array_equal(clipped[name], updates[name])


def test_clipping_shrinks_large_updates_to_the_norm_and_keeps_zeros():
    clip = optim.clip_by_global_norm(2.0)
    clipped, _ = clip.update({"a": fg.array([30.0, 0.0]), "b": fg.array(40.0)}, optim.EmptyState())
    assert float(optim.global_norm(clipped)) == pytest.approx(2.0)
    zeros, _ = clip.update({"a": fg.array([0.0, 0.0])}, optim.EmptyState())
    numpy.testing.assert_array_equal(zeros["a"], [0.0, 0.0])


def test_global_norm_of_complex_numbers_and_of_nothing():
    assert float(optim.global_norm([fg.array([3 + 4j]), fg.array([12.0])])) == pytest.approx(13.0)
    assert float(optim.global_norm(())) == 0.0


def test_identity_changes_nothing():
    updates, state = optim.identity().update({"w": 1.0}, optim.EmptyState())
    assert updates == {"w": 1.0}
    assert state == optim.EmptyState()


def test_scale_by_learning_rate_can_go_up():
    up = optim.scale_by_learning_rate(0.5, flip_sign=False)
    updates, _ = up.update(fg.array(2.0), up.init(None))
    assert float(updates) == 1.0


def test_schedules_see_the_count_of_earlier_updates():
    optimizer = optim.scale_by_schedule(lambda count: count)
    state = optimizer.init(None)
    seen = []
    for _ in range(3):
        updates, state = optimizer.update(fg.array(1.0), state)
        seen.append(float(updates))
    assert seen == [0.0, 1.0, 2.0]


def test_parameters_without_arrays_are_left_out():
    params = {"w": fg.array([1.0]), "bias": None}
    optimizer = optim.adam(0.1)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert optim.apply_updates(params, updates)["bias"] is None


def test_apply_updates_keeps_dtypes():
    params = optim.apply_updates({"w": fg.array([1.0])}, {"w": fg.array([1.0], dtype=fg.float64)})
    assert params["w"].dtype == fg.float32


def test_updates_of_another_structure_are_an_error():
    with pytest.raises(TreeError):
        optim.apply_updates({"w": fg.array(1.0)}, {"v": fg.array(1.0)})


def test_updates_of_another_shape_are_an_error_that_names_the_place():
    params = {"w": fg.array([1.0, 2.0])}
    with pytest.raises(
        ShapeError, match=r"parameter at \['w'\] has the shape \(2,\) and its update the shape \(1, 2\)"
    ):
        optim.apply_updates(params, {"w": fg.array([[1.0, 2.0]])})


def test_a_state_of_another_chain_is_an_error():
    optimizer = optim.chain(optim.sgd(0.1), optim.sgd(0.1))
    with pytest.raises(ArgumentError, match="a chain of 2 transformations got a state of 1 parts"):
        optimizer.update(fg.array(1.0), optim.chain(optim.sgd(0.1)).init(None))


@pytest.mark.parametrize("decays", [{"b1": 1.0}, {"b2": -0.1}])
def test_decays_out_of_range_are_an_error(decays):
    with pytest.raises(ArgumentError, match="from 0 to below 1"):
        optim.adam(0.1, **decays)


def test_adam_without_memory_takes_the_sign_of_the_gradient():
    optimizer = optim.adam(0.1, b1=0.0, b2=0.0)
    updates, _ = optimizer.update(fg.array([5.0, -0.01]), optimizer.init(fg.array([0.0, 0.0])))
    numpy.testing.assert_allclose(updates, [-0.1, 0.1], rtol=1e-5)
