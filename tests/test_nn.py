"""Modules, layers, activation functions and initializers."""

import contextlib
import copy
import dataclasses
import json
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn
from funcgrad.errors import ArgumentError, ArgumentTypeError, DtypeError, ImmutableModuleError, ShapeError

KNOWN = json.loads((Path(__file__).parent / "known_values" / "networks.json").read_text())
KEY = fg.random.key(0)


@contextlib.contextmanager
def unchecked():
    """Without the checks of annotations, as users run it: our own errors come through."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


class Affine(nn.Module):
    scale: fg.Array
    shift: fg.Array
    activation: Callable = nn.tanh
    name: str = "affine"

    def __call__(self, x):
        return self.activation(self.scale * x + self.shift)


class TwoLayers(nn.Module):
    first: nn.Linear
    second: nn.Linear
    scale: float

    def __init__(self, width, *, key):
        key1, key2 = fg.random.split(key)
        self.first = nn.Linear(2, width, key=key1)
        self.second = nn.Linear(width, 1, key=key2)
        self.scale = 0.5

    def __call__(self, x):
        return self.scale * self.second(nn.relu(self.first(x)))


# Modules are pytrees


def test_a_module_is_a_dataclass_and_a_pytree_of_its_arrays():
    module = Affine(fg.array(2.0), fg.array(-1.0))
    assert dataclasses.is_dataclass(module)
    assert [float(x) for x in fg.tree.leaves(module)] == [2.0, -1.0]
    doubled = fg.tree.map(lambda x: 2 * x, module)
    assert type(doubled) is Affine
    assert float(doubled.scale) == 4.0
    assert doubled.activation is nn.tanh


def test_python_values_are_static_and_belong_to_the_structure():
    one, other = (Affine(fg.array(1.0), fg.array(0.0), name=name) for name in ("one", "other"))
    assert fg.tree.structure(one) != fg.tree.structure(other)
    assert fg.tree.structure(one) == fg.tree.structure(Affine(fg.array(5.0), fg.array(6.0), name="one"))


def test_which_annotations_are_static():
    class Many(nn.Module):
        array: fg.Array
        module: nn.Linear | None
        layers: tuple[nn.Linear, ...]
        parts: dict
        unknown: "NotImportedHere"  # noqa: F821
        integer: int
        number: float | None
        text: "str"
        pair: tuple[int, int]
        function: Callable[[fg.Array], fg.Array]
        dtype: numpy.dtype
        marked: tuple = nn.static_field(default=(1, 2))

    assert Many._static_names == {"integer", "number", "text", "pair", "function", "dtype", "marked"}


def test_grad_of_a_module_is_a_module_of_gradients():
    module = Affine(fg.array(2.0), fg.array(-1.0), activation=nn.identity)
    gradient = fg.grad(lambda module: module(3.0))(module)
    assert type(gradient) is Affine
    assert (float(gradient.scale), float(gradient.shift)) == (3.0, 1.0)


def test_jit_compiles_anew_only_where_static_fields_differ():
    traces = []

    @fg.jit
    def apply(module, x):
        traces.append(module.name)
        return module(x)

    for value in (1.0, 2.0):
        for name in ("one", "other"):
            apply(Affine(fg.array(value), fg.array(0.0), name=name), 1.0)
    assert traces == ["one", "other"]


def test_an_ensemble_is_vmap_over_keys_and_then_over_modules():
    ensemble = fg.vmap(lambda key: TwoLayers(8, key=key))(fg.random.split(KEY, 5))
    assert ensemble.first.weight.shape == (5, 8, 2)
    x = np.ones((3, 2))
    found = fg.vmap(lambda module, x: module(x), in_axes=(0, None))(ensemble, x)
    assert found.shape == (5, 3, 1)
    third = fg.tree.map(lambda leaf: leaf[2], ensemble)
    numpy.testing.assert_allclose(found[2], third(x), rtol=1e-6)


def test_modules_go_into_every_transform_and_come_out():
    module, x = TwoLayers(4, key=KEY), np.ones((3, 2))

    def loss(module):
        return (module(x) ** 2).sum()

    def shorter(module):
        return fg.tree.map(lambda p: 0.5 * p, module)

    gradient = fg.grad(loss)(module)
    value, pull = fg.vjp(loss, module)
    _, slope = fg.jvp(loss, (module,), (gradient,))
    _, linear = fg.linearize(loss, module)
    square = sum(float((leaf**2).sum()) for leaf in fg.tree.leaves(gradient))
    made = [
        pull(np.ones_like(value))[0],
        fg.jacrev(loss)(module),
        fg.jacfwd(loss)(module),
        fg.jit(fg.grad(loss))(module),
        fg.grad(fg.checkpoint(loss))(module),
        fg.lax.cond(True, fg.grad(loss), shorter, module),
        fg.make_program(fg.grad(loss))(module)(*fg.tree.leaves(module)),
    ]

    assert float(slope) == pytest.approx(square) and float(linear(gradient)) == pytest.approx(square)
    for other in made[:-1]:
        assert type(other) is TwoLayers
    for other in made:
        for found, expected in zip(fg.tree.leaves(other), fg.tree.leaves(gradient), strict=True):
            numpy.testing.assert_allclose(found, expected, rtol=1e-5)
    halved, _ = fg.lax.scan(lambda m, _: (shorter(m), None), module, None, length=3)
    assert type(halved) is TwoLayers
    numpy.testing.assert_allclose(halved.first.weight, module.first.weight / 8)


@pytest.mark.native
def test_a_compiled_training_step_runs_no_python_for_each_parameter():
    def calls(depth):
        optimizer = fg.optim.adam(1e-3)
        model = nn.MLP(4, 2, width=8, depth=depth, key=KEY)

        @fg.jit
        def step(state, batch):
            model, optimizer_state = state
            value, gradient = fg.value_and_grad(lambda model: (model(batch) ** 2).mean())(model)
            updates, optimizer_state = optimizer.update(gradient, optimizer_state, model)
            return (fg.optim.apply_updates(model, updates), optimizer_state), {"loss": value}

        state, batch, entered = (model, optimizer.init(model)), np.ones((3, 4)), []
        for _ in range(2):
            state, _ = step(state, batch)
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument: entered.append(frame.f_code) if event == "call" else None)
        try:
            step(state, batch)
        finally:
            sys.setprofile(before)
        return len(entered)

    assert calls(depth=1) == calls(depth=6) <= 2


def test_leaves_may_be_anything_when_a_module_is_put_together():
    shapes = fg.eval_shape(lambda key: nn.Linear(2, 3, key=key), KEY)
    assert type(shapes) is nn.Linear
    assert shapes.weight.shape == (3, 2)
    assert fg.tree.map(lambda leaf: None, nn.Linear(2, 3, key=KEY)).weight is None


def test_modules_pickle_and_copy():
    module = TwoLayers(4, key=KEY)
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        numpy.testing.assert_array_equal(twin(np.ones(2)), module(np.ones(2)))


# Modules are frozen, and complete


def test_a_module_cannot_be_changed():
    module = Affine(fg.array(2.0), fg.array(-1.0))
    with pytest.raises(ImmutableModuleError, match=r"module\.replace\(scale=\.\.\.\)"):
        module.scale = fg.array(1.0)
    with pytest.raises(ImmutableModuleError):
        del module.scale
    copied = fg.tree.map(lambda x: x, module)
    with pytest.raises(ImmutableModuleError):
        copied.scale = fg.array(1.0)


def test_replace_gives_a_changed_copy():
    module = TwoLayers(4, key=KEY)
    changed = module.replace(second=module.second.replace(bias=np.ones(1)))
    assert float(changed.second.bias[0]) == 1.0
    assert changed.first is module.first
    assert float(module.second.bias[0]) != 1.0
    with pytest.raises(ArgumentError, match="has no field 'third'"):
        module.replace(third=1)


def test_fields_must_be_declared():
    class Forgetful(nn.Module):
        def __init__(self, key):
            self.layer = nn.Linear(2, 3, key=key)

    with pytest.raises(ImmutableModuleError, match="has no field 'layer'; declare it in the body of the class"):
        Forgetful(KEY)


def test_fields_must_be_set():
    class Incomplete(nn.Module):
        weight: fg.Array

        def __init__(self):
            pass

    with pytest.raises(ArgumentError, match=r"Incomplete\.__init__ did not set the field 'weight'"):
        Incomplete()


def test_fields_that_init_leaves_out_have_their_defaults():
    class WithDefaults(nn.Module):
        weight: fg.Array
        scale: float = 2.0
        parts: list = dataclasses.field(default_factory=list)

        def __init__(self):
            self.weight = fg.array(1.0)

    module = WithDefaults()
    assert module.scale == 2.0
    assert module.parts == []
    assert len(fg.tree.leaves(module)) == 1


@pytest.mark.parametrize("function", [nn.relu, "relu"])
def test_functions_and_strings_are_no_parameters(function):
    class Wrong(nn.Module):
        activation: object

    with pytest.raises(ArgumentError, match=r"nn\.static_field"):
        Wrong(function)


def test_arrays_and_layers_are_not_static():
    class Wrong(nn.Module):
        layer: Callable

    with pytest.raises(ArgumentError, match=r"the static field Wrong\.layer holds an array"):
        Wrong(nn.Linear(2, 3, key=KEY))


def test_static_values_must_be_hashable():
    class Wrong(nn.Module):
        sizes: list = nn.static_field()

    with pytest.raises(ArgumentError, match="has no hash"):
        Wrong([1, 2])


def test_subclasses_inherit_fields_and_init():
    class Named(TwoLayers):
        label: str = "none"

    class Shifted(Affine):
        offset: int = 3

    named = Named(4, key=KEY)
    assert named.label == "none"
    assert named.scale == 0.5
    assert Named._static_names == {"scale", "label"}
    assert Shifted(fg.array(1.0), fg.array(0.0), offset=4).offset == 4


def test_repr_shows_shapes():
    module = Affine(fg.array([1.0, 2.0]), np.zeros((2, 2)))
    assert repr(module) == "Affine(scale=float32[2], shift=float32[2,2], activation=tanh, name='affine')"
    lines = repr(nn.MLP(2, 1, 8, 1, key=KEY)).splitlines()
    assert lines[:3] == [
        "MLP(",
        "  layers=(",
        "    Linear(weight=float32[8,2], bias=float32[8], in_features=2, out_features=8),",
    ]


# Layers


def test_linear_is_a_product_and_a_sum_for_one_example_and_for_batches():
    layer = nn.Linear(3, 2, key=KEY)
    weight, bias = numpy.asarray(layer.weight), numpy.asarray(layer.bias)
    for shape in [(3,), (5, 3), (4, 5, 3), (0, 3)]:
        x = numpy.random.default_rng(0).normal(size=shape).astype("float32")
        found = layer(fg.array(x))
        assert found.shape == (*shape[:-1], 2)
        assert found.dtype == fg.float32
        numpy.testing.assert_allclose(found, x @ weight.T + bias, rtol=1e-5, atol=1e-6)
        numpy.testing.assert_array_equal(found, layer(x))


def test_vmap_of_one_example_is_the_batch():
    layer, x = nn.Linear(3, 2, key=KEY), fg.random.normal(KEY, (5, 3))
    numpy.testing.assert_allclose(fg.vmap(layer)(x), layer(x), rtol=1e-6)


def test_linear_begins_uniformly_as_in_pytorch():
    layer = nn.Linear(400, 300, key=KEY)
    for values in (layer.weight, layer.bias):
        values = numpy.asarray(values)
        assert abs(values).max() <= 0.05
        assert abs(values).max() > 0.049
        assert values.std() == pytest.approx(0.05 / math.sqrt(3), rel=0.05)
    assert not numpy.isin(numpy.asarray(layer.bias), numpy.asarray(layer.weight)).all()


def test_linear_options():
    layer = nn.Linear(3, 2, key=KEY, use_bias=False, dtype=fg.float64)
    assert layer.bias is None
    assert layer.weight.dtype == fg.float64
    assert layer(np.zeros(3, dtype=fg.float64)).dtype == fg.float64
    numpy.testing.assert_array_equal(layer(np.zeros(3)), [0.0, 0.0])
    assert nn.Linear(0, 2, key=KEY)(np.zeros((4, 0))).shape == (4, 2)


def test_linear_explains_wrong_inputs():
    layer = nn.Linear(3, 2, key=KEY)
    with pytest.raises(ShapeError, match=r"Linear\(3, 2\) got an input of shape \(5, 4\); its last axis must have 3"):
        layer(np.zeros((5, 4)))
    with pytest.raises(ShapeError), unchecked():
        layer(np.zeros(()))
    with pytest.raises(ArgumentError, match="in_features=-1"):
        nn.Linear(-1, 2, key=KEY)


def test_mlp_has_the_layers_it_was_asked_for():
    network = nn.MLP(3, 2, width=5, depth=2, activation=nn.tanh, final_activation=nn.softmax, key=KEY)
    assert [layer.weight.shape for layer in network.layers] == [(5, 3), (5, 5), (2, 5)]
    x = fg.random.normal(KEY, (7, 3))
    first, second, last = network.layers
    numpy.testing.assert_allclose(network(x), nn.softmax(last(np.tanh(second(np.tanh(first(x)))))), rtol=1e-6)
    numpy.testing.assert_allclose(network(x)[0], network(x[0]), rtol=1e-5)
    assert [layer.weight.shape for layer in nn.MLP(3, 2, 5, 0, key=KEY).layers] == [(2, 3)]
    assert all(layer.bias is None for layer in nn.MLP(3, 2, 5, 1, key=KEY, use_bias=False).layers)


def test_sequential_applies_layers_and_functions_in_order():
    first, second = nn.Linear(2, 3, key=KEY), nn.Linear(3, 1, key=KEY)
    network = nn.Sequential([first, nn.relu, second])
    x = np.ones((4, 2))
    numpy.testing.assert_array_equal(network(x), second(nn.relu(first(x))))
    numpy.testing.assert_array_equal(network(x, key=KEY), network(x))
    assert len(network) == 3
    assert network[0] is first
    assert len(network[:2]) == 2
    assert len(fg.tree.leaves(network)) == 4
    with pytest.raises(ArgumentTypeError, match="layer 1, which cannot be called"), unchecked():
        nn.Sequential([first, "relu"])


def test_sequential_hands_each_layer_a_key_of_its_own():
    class Noise(nn.Module):
        scale: fg.Array

        def __call__(self, x, *, key=None):
            return x + self.scale * fg.random.normal(key, x.shape)

    network = nn.Sequential([Noise(fg.array(1.0)), Noise(fg.array(-1.0))])
    assert float(np.abs(network(np.zeros(10), key=KEY)).min()) > 0


def test_a_network_learns():
    network = nn.MLP(2, 1, 16, 1, nn.tanh, key=KEY)
    x = fg.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = fg.array([[0.0], [1.0], [1.0], [0.0]])
    optimizer = fg.optim.adam(0.05)

    @fg.jit
    def step(network, state):
        gradient = fg.grad(lambda network: fg.losses.mean_squared_error(network(x), y))(network)
        updates, state = optimizer.update(gradient, state, network)
        return fg.optim.apply_updates(network, updates), state

    state = optimizer.init(network)
    for _ in range(200):
        network, state = step(network, state)
    assert float(fg.losses.mean_squared_error(network(x), y)) < 1e-3


# Activation functions


def named_activation(name):
    return (lambda x: nn.gelu(x, approximate=False)) if name == "exact gelu" else getattr(nn, name)


@pytest.mark.parametrize("name", KNOWN["activations"])
def test_activations_and_two_derivatives_equal_those_of_jax(name):
    function, known = named_activation(name), KNOWN["activations"][name]
    points = fg.array(KNOWN["points"], dtype=fg.float64)
    first = fg.vmap(fg.grad(function))
    second = fg.vmap(fg.grad(fg.grad(function)))
    expected = numpy.array(known["first"])
    zero = KNOWN["points"].index(0.0)
    second_expected = numpy.array(known["second"])
    if name == "relu6":
        expected[zero] = 0.0  # where JAX takes the mean of both sides
    if name in ("celu", "soft_sign"):
        second_expected[zero] = fg.grad(fg.grad(function))(0.0)  # a jump, where any value between both sides will do
    numpy.testing.assert_allclose(function(points), known["value"], rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(first(points), expected, rtol=1e-12, atol=1e-12)
    numpy.testing.assert_allclose(second(points), second_expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", KNOWN["activations"])
def test_activations_under_jit_and_in_forward_mode(name):
    function = named_activation(name)
    points = fg.array(KNOWN["points"])
    ones = np.ones_like(points)
    value, tangent = fg.jit(lambda x: fg.jvp(function, (x,), (ones,)))(points)
    numpy.testing.assert_allclose(value, function(points), rtol=1e-6, atol=1e-7)  # compiled code rounds otherwise
    numpy.testing.assert_allclose(tangent, fg.grad(lambda x: function(x).sum())(points), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(KNOWN["activations"]) - {"identity"}))
def test_activations_keep_dtype_and_nan(name):
    function = named_activation(name)
    for dtype in (fg.float16, fg.bfloat16, fg.float32, fg.float64):
        assert function(fg.array([0.5], dtype=dtype)).dtype == dtype
    assert math.isnan(float(function(fg.array(math.nan))))


@pytest.mark.parametrize(
    ("function", "at", "expected"),
    [
        (nn.relu, 0.0, 0.0),
        (nn.relu6, 6.0, 0.0),
        (nn.leaky_relu, 0.0, 1.0),
        (nn.elu, 0.0, 1.0),
        (nn.celu, 0.0, 1.0),
        (nn.hard_tanh, 1.0, 1.0),
        (nn.softplus, 0.0, 0.5),
    ],
)
def test_derivatives_at_kinks(function, at, expected):
    assert float(fg.grad(function)(at)) == expected
    assert float(fg.grad(function)(fg.array(at))) == expected


def test_third_derivative_of_softplus_at_zero():
    third = fg.grad(fg.grad(fg.grad(nn.softplus)))
    assert float(third(0.0)) == 0.0
    assert float(fg.grad(third)(0.0)) == pytest.approx(-0.125)


def test_softmax_and_log_softmax_along_axes():
    x = fg.random.normal(KEY, (3, 4, 5), dtype=fg.float64) * 10
    for axis in (-1, 0, (0, 2), None):
        exponentials = numpy.exp(numpy.asarray(x))
        expected = exponentials / exponentials.sum(axis=axis, keepdims=True)
        numpy.testing.assert_allclose(nn.softmax(x, axis), expected, rtol=1e-12)
        numpy.testing.assert_allclose(nn.log_softmax(x, axis), numpy.log(expected), rtol=1e-10, atol=1e-12)


def test_softmax_of_extreme_and_masked_values():
    numpy.testing.assert_array_equal(nn.softmax(fg.array([1e30, -1e30, -math.inf])), [1.0, 0.0, 0.0])
    where = fg.array([True, False, True])
    numpy.testing.assert_array_equal(nn.softmax(fg.array([1.0, math.nan, 1.0]), where=where), [0.5, 0.0, 0.5])
    gradient = fg.grad(lambda x: nn.softmax(x, where=where)[0])(fg.array([1.0, math.nan, 1.0]))
    numpy.testing.assert_allclose(gradient, [0.25, 0.0, -0.25])
    numpy.testing.assert_array_equal(nn.log_softmax(fg.array([1000.0, 0.0])), [0.0, -1000.0])


def test_the_jacobian_of_softmax():
    x = fg.array([0.3, -1.0, 2.0])
    p = nn.softmax(x)
    expected = np.diag(p) - p[:, None] * p
    numpy.testing.assert_allclose(fg.jacfwd(nn.softmax)(x), expected, atol=1e-6)
    numpy.testing.assert_allclose(fg.jacrev(nn.softmax)(x), expected, atol=1e-6)


def test_logsumexp():
    x = fg.array([[1000.0, 1000.0], [-1000.0, -math.inf]])
    numpy.testing.assert_allclose(nn.logsumexp(x, axis=1), [1000 + math.log(2), -1000.0], rtol=1e-6)
    assert nn.logsumexp(x, axis=(0, 1)).shape == ()
    assert nn.logsumexp(x, keepdims=True).shape == (1, 1)
    assert float(nn.logsumexp(fg.array([-math.inf, -math.inf]))) == -math.inf
    assert float(nn.logsumexp(fg.array([math.inf, 0.0]))) == math.inf
    assert float(nn.logsumexp(fg.array([2.0, 2.0]), b=fg.array([3.0, -1.0]))) == pytest.approx(2 + math.log(2))
    where = fg.array([True, False])
    assert float(nn.logsumexp(fg.array([2.0, 50.0]), where=where)) == 2.0
    numpy.testing.assert_allclose(fg.grad(nn.logsumexp)(fg.array([1000.0, 1000.0])), [0.5, 0.5])


def test_one_hot():
    labels = fg.array([[0, 2], [3, -1]])
    found = nn.one_hot(labels, 3)
    assert found.shape == (2, 2, 3)
    assert found.dtype == fg.float32
    expected = [[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]]
    numpy.testing.assert_array_equal(found, expected)
    for axis in (0, 1, -2):
        moved = nn.one_hot(labels, 3, axis=axis, dtype=fg.int32)
        assert moved.dtype == fg.int32
        numpy.testing.assert_array_equal(moved, numpy.moveaxis(numpy.array(expected), -1, axis))
    numpy.testing.assert_array_equal(nn.one_hot(1, 3), [0.0, 1.0, 0.0])


def test_glu():
    x = fg.array([[1.0, 2.0, 0.0, 1000.0]])
    numpy.testing.assert_allclose(nn.glu(x), [[0.5, 2.0]])
    assert nn.glu(np.ones((4, 3)), axis=0).shape == (2, 3)
    with pytest.raises(ArgumentError, match="3 is odd"):
        nn.glu(np.ones(3))


# Initializers


def initializer(name):
    made = {
        "constant": lambda: nn.initializers.constant(0.5),
        "orthogonal": lambda: nn.initializers.orthogonal(0.7),
        "uniform": lambda: nn.initializers.uniform(0.1),
        "normal": lambda: nn.initializers.normal(0.1),
        "truncated_normal": lambda: nn.initializers.truncated_normal(0.1),
        "variance_scaling": lambda: nn.initializers.variance_scaling(
            0.7, "fan_geo_avg", "normal", in_axis=0, out_axis=1, batch_axis=2
        ),
        "zeros": lambda: nn.initializers.zeros,
        "ones": lambda: nn.initializers.ones,
    }
    return made.get(name, lambda: getattr(nn.initializers, name)())()


@pytest.mark.parametrize("name", KNOWN["initializers"])
def test_initial_values_equal_those_of_jax(name):
    found = initializer(name)(fg.random.key(7), tuple(KNOWN["shape"]), fg.float32)
    assert found.dtype == fg.float32
    # Orthogonal matrices come from another algorithm, and rounding errors go with their rows and not with elements.
    absolute = 1e-6 if "orthogonal" in name else 2e-8
    numpy.testing.assert_allclose(found, KNOWN["initializers"][name], rtol=2e-6, atol=absolute)


@pytest.mark.parametrize("name", KNOWN["initializers"])
def test_initializers_take_a_dtype(name):
    assert initializer(name)(KEY, (2, 3, 4), fg.float64).dtype == fg.float64


@pytest.mark.parametrize(("name", "variance"), [("he", 2 / 200), ("glorot", 2 / 500), ("lecun", 1 / 200)])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_variances_follow_the_fans(name, distribution, variance):
    init = getattr(nn.initializers, f"{name}_{distribution}")
    for weight in (init()(KEY, (200, 300)), init(in_axis=-1, out_axis=-2)(KEY, (300, 200))):
        assert float(weight.var()) == pytest.approx(variance, rel=0.03)
        assert abs(float(weight.mean())) < 0.002


@pytest.mark.parametrize("dtype", [fg.float64, fg.float32, fg.bfloat16, fg.float16])
@pytest.mark.parametrize(("shape", "axis"), [((40, 40), -1), ((40, 30), -1), ((4, 60, 3), 1), ((30, 2, 20), 0)])
def test_orthogonal_matrices_have_orthonormal_rows_or_columns(shape, axis, dtype):
    found = nn.initializers.orthogonal(2.0, column_axis=axis)(KEY, shape, dtype)
    assert found.shape == shape and found.dtype == dtype
    matrix = np.moveaxis(found.astype(fg.float64), axis, -1).reshape(-1, shape[axis])
    matrix = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    error = {fg.float64: 1e-13, fg.float32: 1e-5}.get(dtype, 0.05)
    numpy.testing.assert_allclose(matrix @ matrix.T, 4 * numpy.eye(len(matrix)), atol=error)


def test_initializers_of_orthogonal_matrices_work_under_jit_and_vmap():
    make = lambda key: nn.initializers.orthogonal()(key, (4, 3))
    keys = fg.random.split(KEY, 2)
    for many in (fg.vmap(make)(keys), fg.jit(fg.vmap(make))(keys)):
        numpy.testing.assert_allclose(many, np.stack([make(keys[0]), make(keys[1])]), atol=1e-6)
    assert nn.initializers.orthogonal()(KEY, (0, 3)).shape == (0, 3)


def test_the_window_of_a_convolution_counts_in_its_fans():
    weight = nn.initializers.lecun_normal()(KEY, (3, 3, 100, 200))
    assert float(weight.var()) == pytest.approx(1 / 900, rel=0.03)


def test_initializers_explain_wrong_settings():
    with pytest.raises(ArgumentError, match="mode='fan'"):
        nn.initializers.variance_scaling(1.0, "fan", "normal")
    with pytest.raises(ArgumentError, match="distribution='gaussian'"):
        nn.initializers.variance_scaling(1.0, "fan_in", "gaussian")
    with pytest.raises(ArgumentError, match=r"the shape \(3,\)"):
        nn.initializers.he_normal()(KEY, (3,))
    with pytest.raises(ArgumentError, match=r"orthogonal got the shape \(3,\)"):
        nn.initializers.orthogonal()(KEY, (3,))
    with pytest.raises(ArgumentError, match="of which the inputs are not more"):
        nn.initializers.delta_orthogonal()(KEY, (3, 5, 4))
    for initializer in (nn.initializers.normal(), nn.initializers.orthogonal()):
        with pytest.raises(DtypeError, match="int32"):
            initializer(KEY, (3, 3), fg.int32)
