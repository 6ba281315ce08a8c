"""L-BFGS and line searches against known values of Optax, and what they promise."""

import itertools
import json
from pathlib import Path

import numpy
import pytest
from sklearn.datasets import load_breast_cancer

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import optim
from funcgrad.errors import ArgumentError

KNOWN = json.loads((Path(__file__).parent / "known_values" / "lbfgs.json").read_text())
CASES = [(code, name) for code, runs in KNOWN["found"].items() for name in runs]
LINE_SEARCHES = {
    "zoom": optim.scale_by_zoom_linesearch(20),
    "backtracking": optim.scale_by_backtracking_linesearch(30),
}


def function_named(name):
    return lambda x: eval(KNOWN["functions"][name], {"np": np, "x": x})


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def step_of(optimizer, function, **arguments):
    def step(params, state):
        value, gradient = fg.value_and_grad(function)(params, **arguments)
        given = dict(value=value, grad=gradient, value_fn=function, **arguments)
        updates, state = optim.with_extra_args_support(optimizer).update(gradient, state, params, **given)
        return optim.apply_updates(params, updates), state, value

    return step


def minimized(optimizer, function, params, steps=50):
    step, state = fg.jit(step_of(optimizer, function)), optimizer.init(params)
    for _ in range(steps):
        params, state, _ = step(params, state)
    return params


@pytest.mark.parametrize("code, name", CASES)
def test_steps_equal_the_known_ones(code, name):
    optimizer, known = eval(code, dict(vars(optim))), KNOWN["found"][code][name]
    params = {key: fg.array(value, dtype=fg.float64) for key, value in KNOWN["start"].items()}
    step, state = fg.jit(step_of(optimizer, function_named(name))), optimizer.init(params)
    for count in range(1, 21):
        params, state, value = step(params, state)
        numpy.testing.assert_allclose(value, known["values"][count - 1], rtol=1e-6, atol=1e-6)
        for key, expected in known["params_after"].get(str(count), {}).items():
            assert params[key].dtype == np.float64
            numpy.testing.assert_allclose(params[key], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [fg.float32, fg.float64])
def test_lbfgs_finds_the_minimum_of_a_curved_valley(dtype):
    x = minimized(optim.lbfgs(), rosenbrock, np.zeros(10, dtype), 80)
    assert x.dtype == dtype
    numpy.testing.assert_allclose(x, numpy.ones(10), rtol=1e-3 if dtype == fg.float32 else 1e-7)


def test_it_works_without_jit_as_with():
    optimizer, x = optim.lbfgs(memory_size=3), np.zeros(4, fg.float64)
    eager = step_of(optimizer, rosenbrock)
    compiled = fg.jit(eager)
    ours, theirs = (x, optimizer.init(x)), (x, optimizer.init(x))
    for _ in range(5):
        ours, theirs = eager(*ours)[:2], compiled(*theirs)[:2]
        numpy.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("search", LINE_SEARCHES)
def test_an_ensemble_is_minimized_as_each_alone(search):
    optimizer = optim.lbfgs(linesearch=LINE_SEARCHES[search])
    starts = fg.random.normal(fg.random.key(0), (3, 4), dtype=fg.float64)
    step = step_of(optimizer, rosenbrock)
    many, many_states = starts, fg.vmap(optimizer.init)(starts)
    for _ in range(6):
        many, many_states, _ = fg.vmap(step)(many, many_states)
    for start, together in zip(starts, many, strict=True):
        alone, state = start, optimizer.init(start)
        for _ in range(6):
            alone, state, _ = step(alone, state)
        numpy.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-9)


def test_a_network_learns_from_data_that_are_given_by_name():
    data = load_breast_cancer()
    x = np.asarray((data.data - data.data.mean(axis=0)) / data.data.std(axis=0), dtype=np.float32)
    y = np.asarray(data.target, dtype=np.float32)
    network = fg.nn.Linear(30, 1, key=fg.random.key(0))

    def loss(network, x, y, strength=0.0):
        penalty = strength * (network.weight**2).sum()
        return fg.losses.sigmoid_binary_cross_entropy(network(x)[:, 0], y).mean() + penalty

    optimizer = optim.lbfgs()
    state = optimizer.init(network)

    @fg.jit
    def step(network, state, x, y):
        value, gradient = fg.value_and_grad(loss)(network, x, y, strength=0.01)
        updates, state = optimizer.update(
            gradient, state, network, value=value, grad=gradient, value_fn=loss, x=x, y=y, strength=0.01
        )
        return optim.apply_updates(network, updates), state, value

    values = []
    for _ in range(25):
        network, state, value = step(network, state, x, y)
        values.append(float(value))
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(values))
    gradient = fg.grad(loss)(network, x, y, strength=0.01)
    assert float(optim.global_norm(gradient)) < 1e-3
    assert float(((network(x)[:, 0] > 0) == (y > 0.5)).mean()) > 0.97


@pytest.mark.parametrize("search", [LINE_SEARCHES["zoom"], optim.scale_by_backtracking_linesearch(30, store_grad=True)])
def test_value_and_gradient_come_from_the_state(search):
    calls = []

    def function(x):
        calls.append(1)
        return rosenbrock(x)

    optimizer, x = optim.lbfgs(linesearch=search), np.zeros(4, fg.float64)
    state, value_and_grad = optimizer.init(x), optim.value_and_grad_from_state(function)
    for count in range(5):
        before = len(calls)
        value, gradient = value_and_grad(x, state=state)
        assert (len(calls) > before) == (count == 0)
        exact, exact_gradient = fg.value_and_grad(rosenbrock)(x)
        numpy.testing.assert_allclose(value, exact, rtol=1e-12)
        numpy.testing.assert_allclose(gradient, exact_gradient, rtol=1e-9, atol=1e-12)
        updates, state = optimizer.update(gradient, state, x, value=value, grad=gradient, value_fn=function)
        x = optim.apply_updates(x, updates)


@pytest.mark.parametrize("search", LINE_SEARCHES)
def test_no_step_is_made_to_where_the_function_is_not_finite(search):
    def wall(x):  # finite in one point alone
        return np.where(x == 0, x, float("nan"))

    optimizer, x = LINE_SEARCHES[search], fg.array(0.0)
    direction, gradient = fg.array(1.0), fg.array(-1.0)
    updates, state = optimizer.update(
        direction, optimizer.init(x), x, value=fg.array(0.0), grad=gradient, value_fn=wall
    )
    assert updates == 0 and numpy.isinf(float(state.info.decrease_error))


@pytest.mark.parametrize("search", LINE_SEARCHES)
def test_a_search_goes_round_where_the_function_is_not_finite(search):
    def barrier(x):
        return x - np.log(x)  # NaN from zero on down

    optimizer = optim.chain(optim.sgd(1.0), LINE_SEARCHES[search])
    numpy.testing.assert_allclose(minimized(optimizer, barrier, fg.array(5e-2), 30), 1.0, rtol=1e-2)


def test_a_largest_step_is_not_exceeded():
    optimizer = optim.scale_by_zoom_linesearch(10, max_learning_rate=3.0)
    x = fg.array(0.0)
    updates, state = optimizer.update(
        fg.array(1.0), optimizer.init(x), x, value=x, grad=fg.array(-1.0), value_fn=lambda x: -x
    )
    assert updates == 3 and state.learning_rate == 3 and state.info.decrease_error == 0


def test_the_memory_of_16_bit_parameters_is_precise():
    params = fg.array([1.0, 2.0], dtype="bfloat16")
    optimizer = optim.scale_by_lbfgs()
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert fg.tree.leaves(state.diff_params_memory)[0].dtype == np.float32 == updates.dtype


def test_steps_without_curvature_are_not_remembered():
    optimizer, x = optim.scale_by_lbfgs(), fg.array([1.0])
    state = optimizer.init(x)
    for x, gradient in ((1.0, 1.0), (2.0, 0.5)):  # the slope falls where the curvature should be positive
        updates, state = optimizer.update(fg.array([gradient]), state, fg.array([x]))
    assert state.weights_memory.tolist() == [0] * 10 and updates.tolist() == [0.5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.lbfgs(memory_size=0),
        lambda: optim.scale_by_zoom_linesearch(0),
        lambda: optim.scale_by_zoom_linesearch(5, increase_factor=1.0),
        lambda: optim.scale_by_zoom_linesearch(5, max_learning_rate=0.0),
        lambda: optim.scale_by_zoom_linesearch(5, initial_guess_strategy="two"),
        lambda: optim.scale_by_backtracking_linesearch(-1),
        lambda: optim.scale_by_backtracking_linesearch(5, decrease_factor=1.0),
    ],
)
def test_an_argument_out_of_range_is_an_error(make):
    with pytest.raises((ArgumentError, TypeError)):
        make()


def test_what_is_missing_is_named():
    x = fg.array([1.0])
    for optimizer in (optim.lbfgs(), optim.chain(optim.sgd(1.0), LINE_SEARCHES["backtracking"])):
        state = optimizer.init(x)
        with pytest.raises(ArgumentError, match=r"value=..., grad=..., value_fn=..."):
            optimizer.update(x, state, x)
        with pytest.raises(ArgumentError, match="needs the parameters"):
            optimizer.update(x, state, value=x, grad=x, value_fn=rosenbrock)
    with pytest.raises(ArgumentError, match="needs the state of one line search"):
        optim.value_and_grad_from_state(rosenbrock)(x, state=optim.adam(0.1).init(x))
    with pytest.raises(ArgumentError, match="needs the state of one line search"):
        optim.value_and_grad_from_state(rosenbrock)(x, state=LINE_SEARCHES["backtracking"].init(x))
