"""Optimizers against known values of Optax and PyTorch, and as parts that fit together."""

import json
from pathlib import Path

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import optim
from funcgrad.errors import ArgumentError, TreeError

KNOWN = json.loads((Path(__file__).parent / "known_values" / "optimizers.json").read_text())
OPTIMIZERS = {
    "sgd(0.1)": optim.sgd(0.1),
    "sgd(0.1, momentum=0.9)": optim.sgd(0.1, momentum=0.9),
    "sgd(0.1, momentum=0.9, nesterov=True)": optim.sgd(0.1, momentum=0.9, nesterov=True),
    "sgd(lambda count: 0.1 / (1 + count))": optim.sgd(lambda count: 0.1 / (1 + count)),
    "adam(0.01)": optim.adam(0.01),
    "adam(0.1, b1=0.8, b2=0.99, eps=1e-3, eps_root=1e-4)": optim.adam(0.1, b1=0.8, b2=0.99, eps=1e-3, eps_root=1e-4),
    "chain(clip_by_global_norm(1.0), adam(0.01))": optim.chain(optim.clip_by_global_norm(1.0), optim.adam(0.01)),
    "chain(clip_by_global_norm(1.0), sgd(0.1))": optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.1)),
}


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


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(fg.float64, 1e-6), (fg.float32, 3e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_those_of_optax(name, dtype, tolerance, jitted):
    optimizer = OPTIMIZERS[name]

    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optim.apply_updates(params, updates), state

    step = fg.jit(step) if jitted else step
    params = as_arrays(KNOWN["start"], dtype)
    state = optimizer.init(params)
    expected = KNOWN["params_after"][name]
    checked = 0
    for count, gradient in enumerate(KNOWN["gradients"], start=1):
        params, state = step(params, state, as_arrays(gradient, dtype))
        for key, value in expected.get(str(count), {}).items():
            assert params[key].dtype == dtype
            numpy.testing.assert_allclose(params[key], value, rtol=tolerance, atol=tolerance)
            checked += 1
    assert checked == 10


def test_known_values_cover_every_optimizer():
    assert set(KNOWN["params_after"]) == set(OPTIMIZERS)


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
