"""Mixed precision: policies, loss scales, master weights, and networks trained with them."""

import numpy
import pytest
from sklearn.datasets import load_digits

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn
from funcgrad.errors import ArgumentError, DtypeError, TreeError
from funcgrad.nn import amp

HALVES = ["bfloat16", "float16"]


class Normalized(nn.Module):
    """A layer and a normalization with a state."""

    layer: nn.Linear
    norm: nn.BatchNorm

    def __init__(self, *, key):
        self.layer, self.norm = nn.Linear(4, 3, key=key), nn.BatchNorm(3)

    def __call__(self, x, state):
        return self.norm(self.layer(x), state)


def mlp(seed=0, **options):
    return nn.MLP(4, 3, width=8, depth=1, key=fg.random.key(seed), **options)


def dtypes_of(values):
    return {str(leaf.dtype) for leaf in fg.tree.leaves(values)}


# Casts and policies


@pytest.mark.parametrize("dtype", HALVES)
def test_only_floating_arrays_are_cast(dtype):
    values = {
        "weight": fg.array([1.5]),
        "numpy": numpy.ones(2),
        "count": fg.array(3),
        "key": fg.random.key(0),
        "complex": fg.array(1j),
        "python": 2.0,
        "none": None,
    }
    cast = amp.cast_floating(values, dtype)
    assert str(cast["weight"].dtype) == str(cast["numpy"].dtype) == dtype
    for name in ("count", "key", "complex"):
        assert cast[name] is values[name]
    assert cast["python"] == 2.0 and cast["none"] is None


def test_an_array_of_the_right_dtype_is_not_copied():
    network = mlp()
    assert amp.cast_floating(network, "float32").layers[0].weight is network.layers[0].weight


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool"])
def test_a_policy_takes_floating_dtypes_alone(dtype):
    with pytest.raises(ArgumentError, match="floating dtypes"):
        amp.Policy(compute_dtype=dtype)


def test_a_policy_has_three_dtypes():
    policy = amp.Policy("float32", "bfloat16", "float64")
    x = np.ones(2, dtype="float16")
    assert policy.cast_to_param(x).dtype == np.float32
    assert policy.cast_to_compute(x).dtype == np.bfloat16
    assert policy.cast_to_output(x).dtype == np.float64


@pytest.mark.parametrize(
    "text, dtypes",
    [
        ("float32", ("float32", "float32", "float32")),
        ("half", ("float16", "float16", "float16")),
        ("compute=bfloat16", ("float32", "bfloat16", "float32")),
        ("params=full, compute=half, output=float64", ("float32", "float16", "float64")),
    ],
)
def test_a_policy_is_described_by_a_text(text, dtypes):
    policy = amp.get_policy(text)
    assert (policy.param_dtype.name, policy.compute_dtype.name, policy.output_dtype.name) == dtypes


@pytest.mark.parametrize("text", ["parameters=float32", "compute=", "params=float32,bfloat16"])
def test_a_text_that_describes_no_policy_is_an_error(text):
    with pytest.raises(ArgumentError, match="a policy is described by"):
        amp.get_policy(text)
    with pytest.raises(DtypeError):
        amp.get_policy("compute=float17")


@pytest.mark.parametrize("dtype", HALVES)
def test_a_policy_computes_in_its_dtype_and_the_gradients_have_that_of_the_parameters(dtype):
    policy, seen = amp.Policy(compute_dtype=dtype), []
    network = mlp(activation=lambda x: seen.append(str(x.dtype)) or nn.relu(x))

    def loss(network, x):
        y = policy.apply(network, x)
        assert y.dtype == np.float32
        return (y**2).mean()

    gradient = fg.grad(loss)(network, np.ones((5, 4)))
    assert seen == [dtype]
    assert dtypes_of(gradient) == {"float32"}
    exact = fg.grad(lambda network, x: (network(x) ** 2).mean())(network, np.ones((5, 4)))
    for ours, theirs in zip(fg.tree.leaves(gradient), fg.tree.leaves(exact), strict=True):
        numpy.testing.assert_allclose(ours, theirs, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("dtype", HALVES)
def test_running_statistics_stay_precise(dtype):
    network, policy = Normalized(key=fg.random.key(0)), amp.Policy(compute_dtype=dtype)
    y, state = policy.apply(network, np.ones((5, 4)), network.norm.initial_state())
    assert y.dtype == np.float32
    assert state.mean.dtype == state.variance.dtype == np.float32 and state.count == 1


def test_a_policy_is_static_to_jit():
    @fg.jit
    def f(policy, x):
        return policy.cast_to_compute(x)

    assert f(amp.Policy(compute_dtype="float16"), np.ones(2)).dtype == np.float16
    assert f(amp.Policy(compute_dtype="bfloat16"), np.ones(2)).dtype == np.bfloat16


# Loss scales


def test_scaling_and_unscaling_are_inverse_and_keep_the_dtype_of_a_loss():
    for scale in (amp.NoOpLossScale(), amp.StaticLossScale(8.0), amp.DynamicLossScale(8.0)):
        loss = fg.array(3.0)
        assert scale.scale(loss).dtype == np.float32
        assert scale.unscale(scale.scale(loss)) == 3
    assert amp.StaticLossScale(8.0).scale(fg.array(3.0, dtype="float64")).dtype == np.float64


def test_small_gradients_of_16_bits_are_not_lost_when_they_are_unscaled():
    gradient = amp.StaticLossScale(2.0**15).unscale(fg.array([2.0**-14], dtype="float16"))
    assert gradient.dtype == np.float32 and gradient == 2.0**-29


def test_a_static_scale_stays():
    scale = amp.StaticLossScale(8.0)
    assert scale.adjust(False) is scale and scale.adjust(True) is scale


@pytest.mark.parametrize("compile", [lambda f: f, fg.jit])
def test_a_dynamic_scale_follows_the_rule(compile):
    adjust = compile(lambda scale, finite: scale.adjust(finite))
    scale = amp.DynamicLossScale(16.0, period=3, factor=4, min_loss_scale=2.0)
    flags = [True, True, False, True, True, True, True, False, False, False, False, True]
    expected = [16, 16, 4, 4, 4, 16, 16, 4, 2, 2, 2, 2]
    for finite, value in zip(flags, expected, strict=True):
        scale = adjust(scale, fg.array(finite))
        assert scale.loss_scale == value and scale.loss_scale.dtype == np.float32
        assert scale.counter.dtype == np.int32
    assert scale.counter == 1


def test_a_dynamic_scale_does_not_become_infinite():
    scale = amp.DynamicLossScale(3e38, period=1)
    assert numpy.isfinite(float(scale.adjust(True).loss_scale))


def test_every_model_of_an_ensemble_has_a_scale_of_its_own():
    scale = fg.tree.map(lambda x: np.stack([x, x]), amp.DynamicLossScale(16.0))
    scale = fg.vmap(lambda scale, finite: scale.adjust(finite))(scale, fg.array([True, False]))
    assert scale.loss_scale.tolist() == [16, 8]


@pytest.mark.parametrize(
    "make",
    [
        lambda: amp.DynamicLossScale(0.0),
        lambda: amp.DynamicLossScale(float("inf")),
        lambda: amp.DynamicLossScale(period=0),
        lambda: amp.DynamicLossScale(factor=1.0),
        lambda: amp.DynamicLossScale(min_loss_scale=0.0),
        lambda: amp.StaticLossScale(-1.0),
    ],
)
def test_a_scale_out_of_range_is_an_error(make):
    with pytest.raises(ArgumentError, match="give"):
        make()


@pytest.mark.parametrize("dtype", [*HALVES, "float32", "float64"])
@pytest.mark.parametrize("bad", ["inf", "-inf", "nan"])
def test_all_finite_finds_what_is_not(dtype, bad):
    values = {"a": np.ones((2, 3), dtype=dtype), "count": fg.array(1), "none": None}
    assert amp.all_finite(values)
    assert not amp.all_finite({**values, "b": np.asarray([1.0, float(bad)], dtype=dtype)})
    assert amp.all_finite({}) and amp.all_finite(np.zeros((0,), dtype=dtype))


def test_select_tree_takes_one_of_two_trees():
    one, two = {"w": fg.array([1.0]), "n": fg.array(1)}, {"w": fg.array([2.0]), "n": fg.array(2)}
    for select in (amp.select_tree, fg.jit(amp.select_tree)):
        assert select(fg.array(True), one, two)["w"] == 1 and select(fg.array(False), one, two)["n"] == 2
    with pytest.raises(TreeError):
        amp.select_tree(True, one, {"w": fg.array([2.0])})


def test_value_and_grad_gives_what_the_plain_one_gives():
    def loss(w, x):
        return (w * x).sum(), {"largest": (w * x).max()}

    w, x = fg.array([1.0, 2.0]), fg.array([3.0, 4.0])
    scale = amp.StaticLossScale(1024.0)
    (value, aux), gradient = amp.value_and_grad(loss, scale, has_aux=True)(w, x)
    assert value == 11 and aux["largest"] == 8 and gradient.tolist() == [3, 4]
    value, gradients = amp.value_and_grad(lambda *a: loss(*a)[0], scale, argnums=(0, 1))(w, x)
    assert value == 11 and [g.tolist() for g in gradients] == [[3, 4], [1, 2]]


def test_a_scale_saves_gradients_that_float16_cannot_hold():
    policy = amp.Policy(compute_dtype="float16")

    def loss(w):
        return policy.apply(lambda w: w * 1.0, w) * 1e-9

    for scale, expected in ((amp.NoOpLossScale(), 0.0), (amp.StaticLossScale(2.0**15), 1e-9)):
        _, gradient = amp.value_and_grad(loss, scale)(fg.array(1.0))
        numpy.testing.assert_allclose(gradient, expected, rtol=1e-2)


# Master weights


@pytest.mark.parametrize("dtype", HALVES)
def test_master_weights_are_trained_as_float32_weights_are(dtype):
    params = {"w": fg.array([1.0, -2.0, 1e-3], dtype=dtype), "b": fg.array(0.5)}
    optimizer = fg.optim.adam(1e-3)
    master = fg.optim.master_weights(optimizer)
    state, plain = master.init(params), amp.cast_floating(params, "float32")
    plain_state = optimizer.init(plain)
    step = fg.jit(lambda g, s, p: (lambda u, s: (fg.optim.apply_updates(p, u), s))(*master.update(g, s, p)))
    for count in range(30):
        gradient = fg.tree.map(lambda p, count=count: np.sin(p * (1 + count)), params)
        updates, plain_state = optimizer.update(amp.cast_floating(gradient, "float32"), plain_state, plain)
        plain = fg.optim.apply_updates(plain, updates)
        params, state = step(gradient, state, params)
        assert params["w"].dtype == dtype and params["b"].dtype == np.float32
        for name in params:
            # The parameters are the precise ones, rounded.
            numpy.testing.assert_array_equal(params[name], state.master[name].astype(params[name].dtype))
            numpy.testing.assert_allclose(state.master[name], plain[name], rtol=1e-5, atol=1e-7)


def test_master_weights_need_the_parameters():
    optimizer = fg.optim.master_weights(fg.optim.sgd(0.1))
    state = optimizer.init(fg.array(1.0))
    with pytest.raises(ArgumentError, match="master_weights needs the parameters"):
        optimizer.update(fg.array(1.0), state)


# Training


def trained(policy, loss_scale, epochs=6, optimizer=None):
    """A small network that has learned to read digits: its accuracy on others, the scale, and the steps left out."""
    digits = load_digits()
    order = numpy.random.default_rng(0).permutation(len(digits.target))
    images = np.asarray(digits.data[order] / 16, dtype=np.float32)
    labels = np.asarray(digits.target[order], dtype=np.int32)
    optimizer = optimizer or fg.optim.adam(5e-3)

    def loss(network, x, y):
        return fg.losses.softmax_cross_entropy_with_integer_labels(policy.apply(network, x), y).mean()

    @fg.jit
    def step(network, state, loss_scale, x, y):
        _, gradient = amp.value_and_grad(loss, loss_scale)(network, x, y)
        updates, next_state = optimizer.update(gradient, state, network)
        finite = amp.all_finite(gradient)
        after = fg.optim.apply_updates(network, updates), next_state
        network, state = amp.select_tree(finite, after, (network, state))
        return network, state, loss_scale.adjust(finite), ~finite

    network = policy.cast_to_param(nn.MLP(64, 10, width=64, depth=1, key=fg.random.key(0)))
    state, left_out = optimizer.init(network), 0
    for _ in range(epochs):
        for start in range(0, 1400, 50):
            batch = slice(start, start + 50)
            network, state, loss_scale, skipped = step(network, state, loss_scale, images[batch], labels[batch])
            left_out += int(skipped)
    assert amp.all_finite(network)
    accuracy = float((policy.apply(network, images[1400:]).argmax(axis=-1) == labels[1400:]).mean())
    return accuracy, loss_scale, left_out


def test_mixed_precision_trains_to_the_accuracy_of_float32():
    exact, _, _ = trained(amp.get_policy("float32"), amp.NoOpLossScale())
    assert exact > 0.96
    in_bfloat16, _, _ = trained(amp.Policy(compute_dtype="bfloat16"), amp.NoOpLossScale())
    assert abs(in_bfloat16 - exact) <= 0.01
    # A scale that is far too large at first: the first steps overflow, and are left out.
    in_float16, scale, left_out = trained(amp.Policy(compute_dtype="float16"), amp.DynamicLossScale(2.0**24))
    assert abs(in_float16 - exact) <= 0.01
    assert 3 <= left_out <= 15 and float(scale.loss_scale) == 2.0 ** (24 - left_out)


def test_parameters_of_16_bits_train_as_well_with_master_weights():
    optimizer = fg.optim.master_weights(fg.optim.adam(5e-3))
    accuracy, _, _ = trained(amp.get_policy("bfloat16"), amp.NoOpLossScale(), optimizer=optimizer)
    assert accuracy > 0.95
