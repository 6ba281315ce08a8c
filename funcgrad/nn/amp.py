"""Mixed precision: which dtypes to keep, compute and answer in, and a loss scale that keeps float16 gradients alive.

The parameters of a network stay in float32, which are its *master weights*, and are cast to 16 bits inside of the
loss: the cast is differentiated like everything else, so their gradients arrive in float32 and the optimizer never sees
16 bits. (Where the parameters themselves must be 16 bits long, `optim.master_weights` keeps the precise ones.) bfloat16
has the range of float32 and needs nothing else. In float16, gradients below 6e-8 become zero; so the loss is multiplied
by a large number and the gradients divided by it, and where one of them became infinite, the step is left out and the
number is made smaller.

The names are those of jmp (https://github.com/google-deepmind/jmp); the method is that of P. Micikevicius et al.,
"Mixed Precision Training", https://arxiv.org/abs/1710.03740.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy

from funcgrad import dtypes, tree
from funcgrad import numpy as np
from funcgrad.annotations import Array, Bool, Float, Int, Real
from funcgrad.errors import ArgumentError
from funcgrad.nn.batch_norm import BatchNormState
from funcgrad.nn.module import Module
from funcgrad.primitives.operators import cast
from funcgrad.transforms import grad

_Tree = TypeVar("_Tree")
_SHORT_NAMES = {"half": "float16", "full": "float32"}


def cast_floating(values: _Tree, dtype: Any) -> _Tree:
    """A copy of a pytree in which the floating arrays have another dtype.

    Arguments:
        values: a module, or any pytree. Integers, keys and Python numbers in it stay as they are, and so do the running
            statistics of batch normalization: what is added to them in each step is too small for 16 bits.
        dtype: the floating dtype.

    Returns:
        A pytree of the same structure.

    Raises:
        ArgumentError: if the dtype is not a floating one.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Linear(2, 3, key=fg.random.key(0))
        >>> fg.nn.amp.cast_floating(layer, "bfloat16")
        Linear(weight=bfloat16[3,2], bias=bfloat16[3], in_features=2, out_features=3)
    """
    target = _floating(dtype)

    def convert(leaf: Any) -> Any:
        is_array = isinstance(leaf, (Array, numpy.ndarray))
        if not is_array or leaf.dtype == target or not dtypes.is_floating(dtypes.canonical(leaf.dtype)):
            return leaf
        return cast(np.asarray(leaf), target)

    return tree.map(convert, values, is_leaf=_is_statistics)


def _is_statistics(node: Any) -> bool:
    return isinstance(node, BatchNormState)


def _floating(dtype: Any) -> numpy.dtype:
    found = dtypes.canonical(dtype)
    if not dtypes.is_floating(found):
        raise ArgumentError(f"mixed precision is about floating dtypes, and got {found.name}; give such as bfloat16.")
    return found


class Policy(Module):
    """Which dtypes a network has, computes in, and gives.

    Arguments:
        param_dtype: of the parameters that are kept and trained.
        compute_dtype: in which the network computes: bfloat16 or float16, or float32 for none of all this.
        output_dtype: of what the network gives. In float32, a loss and its derivative are computed precisely.

    Raises:
        ArgumentError: if one is not a floating dtype.

    Example:
        >>> import funcgrad as fg
        >>> policy = fg.nn.amp.Policy(compute_dtype="bfloat16")
        >>> network = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> def loss(network, x):
        ...     return (policy.apply(network, x) ** 2).mean()
        >>> gradient = fg.grad(loss)(network, fg.numpy.ones((5, 2)))
        >>> gradient.layers[0].weight.dtype.name  # that of the parameters, although all was computed in bfloat16
        'float32'
    """

    param_dtype: numpy.dtype
    compute_dtype: numpy.dtype
    output_dtype: numpy.dtype

    def __init__(
        self,
        param_dtype: Any = dtypes.float32,
        compute_dtype: Any = dtypes.bfloat16,
        output_dtype: Any = dtypes.float32,
    ):
        self.param_dtype = _floating(param_dtype)
        self.compute_dtype = _floating(compute_dtype)
        self.output_dtype = _floating(output_dtype)

    def cast_to_param(self, values: _Tree) -> _Tree:
        """A copy of a pytree in the dtype of parameters: see `cast_floating`."""
        return cast_floating(values, self.param_dtype)

    def cast_to_compute(self, values: _Tree) -> _Tree:
        """A copy of a pytree in the dtype of computations: see `cast_floating`."""
        return cast_floating(values, self.compute_dtype)

    def cast_to_output(self, values: _Tree) -> _Tree:
        """A copy of a pytree in the dtype of results: see `cast_floating`."""
        return cast_floating(values, self.output_dtype)

    def apply(self, module: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a network gives, computed by this policy.

        Arguments:
            module: a module, which is cast to the dtype of computations.
            args, kwargs: what it is called with, cast likewise.

        Returns:
            What it returns, cast to the dtype of results. States of batch normalization are never cast.
        """
        network, args, kwargs = self.cast_to_compute((module, args, kwargs))
        return self.cast_to_output(network(*args, **kwargs))


def get_policy(description: str) -> Policy:
    """A policy by a text, such as a command line has.

    Arguments:
        description: `"params=float32,compute=bfloat16,output=float32"`; what is not named is float32. A dtype alone is
            that of all three. `half` is float16 and `full` is float32.

    Raises:
        ArgumentError: if the text is something else.
        DtypeError: if a dtype does not exist.

    Example:
        >>> import funcgrad as fg
        >>> policy = fg.nn.amp.get_policy("compute=bfloat16")
        >>> policy.param_dtype.name, policy.compute_dtype.name, policy.output_dtype.name
        ('float32', 'bfloat16', 'float32')
    """
    parts = [part.strip() for part in description.split(",")]
    if len(parts) == 1 and "=" not in parts[0]:
        dtype = _SHORT_NAMES.get(parts[0], parts[0])
        return Policy(dtype, dtype, dtype)
    chosen: dict[str, Any] = {"params": dtypes.float32, "compute": dtypes.float32, "output": dtypes.float32}
    for part in parts:
        name, _, dtype = (piece.strip() for piece in part.partition("="))
        if name not in chosen or not dtype:
            raise ArgumentError(
                f"a policy is described by params=..., compute=... and output=..., and {part!r} is none of them."
            )
        chosen[name] = _SHORT_NAMES.get(dtype, dtype)
    return Policy(chosen["params"], chosen["compute"], chosen["output"])


# Loss scales


class LossScale(Module):
    """What `NoOpLossScale`, `StaticLossScale` and `DynamicLossScale` have in common: pytrees, passed in and out."""

    def scale(self, values: _Tree) -> _Tree:
        """The values, which are a loss or a pytree of several, times the scale."""
        raise NotImplementedError

    def unscale(self, values: _Tree) -> _Tree:
        """Gradients of the scaled loss, divided by the scale: float16 and bfloat16 ones as float32."""
        raise NotImplementedError

    def adjust(self, grads_finite: Bool[Array, ""] | bool) -> LossScale:
        """The scale for the next step.

        Arguments:
            grads_finite: whether all gradients of this step were finite: see `all_finite`.
        """
        return self


class NoOpLossScale(LossScale):
    """No scale at all, for bfloat16 and float32: everything stays as it is.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.amp.NoOpLossScale().scale(3.0)
        3.0
    """

    def scale(self, values: _Tree) -> _Tree:
        return values

    def unscale(self, values: _Tree) -> _Tree:
        return values


class _NumberLossScale(LossScale):
    """A scale that is a number."""

    loss_scale: Float[Array, ""]

    def scale(self, values: _Tree) -> _Tree:
        return tree.map(lambda x: x * cast(self.loss_scale, np.asarray(x).dtype), values)

    def unscale(self, values: _Tree) -> _Tree:
        inverse = 1 / self.loss_scale

        def divide(x: Array) -> Array:
            # In 16 bits, what the scale had kept from becoming zero would become zero now.
            x = cast(x, dtypes.float32) if x.dtype.itemsize < 4 else x
            return x * cast(inverse, x.dtype)

        return tree.map(divide, values)


class StaticLossScale(_NumberLossScale):
    """A scale that stays as it is.

    Arguments:
        loss_scale: the number. Powers of two lose no digits.

    Example:
        >>> import funcgrad as fg
        >>> scale = fg.nn.amp.StaticLossScale(1024)
        >>> scale.unscale(scale.scale(fg.array(3.0)))
        Array(3., dtype=float32)
    """

    def __init__(self, loss_scale: Real = 2.0**15):
        self.loss_scale = _positive("StaticLossScale", loss_scale)


class DynamicLossScale(_NumberLossScale):
    """A scale that is made smaller when gradients overflow, and larger again when they have not done so for a while.

    Arguments:
        loss_scale: the scale at the start.
        period: after how many finite steps in a row the scale becomes larger.
        factor: the scale is multiplied or divided by it. With a power of two, scaling loses no digits.
        min_loss_scale: the least scale.

    Attributes:
        loss_scale: the scale now, float32 of shape ().
        counter: the number of finite steps since it changed, int32 of shape ().

    Raises:
        ArgumentError: if a number is out of its range.

    Example:
        >>> import funcgrad as fg
        >>> scale = fg.nn.amp.DynamicLossScale(1024, period=2)
        >>> for finite in (False, True, True):
        ...     scale = scale.adjust(finite)
        ...     print(scale.loss_scale)
        512.0
        512.0
        1024.0
    """

    counter: Int[Array, ""]
    period: int
    factor: float
    min_loss_scale: float

    def __init__(
        self, loss_scale: Real = 2.0**15, *, period: int = 2000, factor: Real = 2.0, min_loss_scale: Real = 1.0
    ):
        if period < 1 or factor <= 1 or min_loss_scale <= 0:
            raise ArgumentError(
                f"DynamicLossScale got period={period}, factor={factor} and min_loss_scale={min_loss_scale}; give at "
                "least 1, a number above 1 and a positive one."
            )
        self.loss_scale = _positive("DynamicLossScale", loss_scale)
        self.counter = np.zeros((), dtypes.int32)
        self.period, self.factor, self.min_loss_scale = int(period), float(factor), float(min_loss_scale)

    def adjust(self, grads_finite: Bool[Array, ""] | bool) -> DynamicLossScale:
        """The scale for the next step.

        Arguments:
            grads_finite: whether all gradients of this step were finite: see `all_finite`.
        """
        larger, smaller = self.loss_scale * self.factor, self.loss_scale / self.factor
        due = self.counter == self.period - 1
        after_success = np.where(due & np.isfinite(larger), larger, self.loss_scale)
        after_failure = np.maximum(smaller, self.min_loss_scale)
        return self.replace(
            loss_scale=np.where(grads_finite, after_success, after_failure),
            counter=np.where(due | np.logical_not(grads_finite), 0, self.counter + 1),
        )


def _positive(name: str, value: Real) -> Array:
    if value <= 0 or not numpy.isfinite(value):
        raise ArgumentError(f"{name} got loss_scale={value}; give a positive number, such as 2 ** 15.")
    return np.asarray(float(value), dtype=dtypes.float32)


# A step


def all_finite(values: Any) -> Bool[Array, ""]:
    """Whether a pytree holds neither infinities nor NaNs.

    Arguments:
        values: gradients, or any pytree of arrays; integers are finite.

    Returns:
        A bool scalar.

    Example:
        >>> import funcgrad as fg
        >>> fg.nn.amp.all_finite({"w": fg.array([1.0, float("nan")]), "b": fg.array(0.0)})
        Array(False, dtype=bool)
    """
    leaves = [np.asarray(leaf) for leaf in tree.leaves(values)]
    flags = [np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind not in "biu"]
    return np.stack(flags).all() if flags else np.asarray(True)


def select_tree(condition: Bool[Array, ""] | bool, on_true: _Tree, on_false: _Tree) -> _Tree:
    """One of two pytrees, by a condition that may be computed: the state after a good step, or that before it.

    Arguments:
        condition: a bool scalar.
        on_true, on_false: pytrees of the same structure, shapes and dtypes.

    Returns:
        A pytree of the same structure.

    Raises:
        TreeError: if the structures differ.

    Example:
        >>> import funcgrad as fg
        >>> finite = fg.nn.amp.all_finite(fg.array(float("inf")))
        >>> fg.nn.amp.select_tree(finite, {"w": fg.array(2.0)}, {"w": fg.array(1.0)})
        {'w': Array(1., dtype=float32)}
    """
    return tree.map(lambda t, f: cast(np.where(condition, t, f), np.asarray(f).dtype), on_true, on_false)


def value_and_grad(
    fun: Callable[..., Any], loss_scale: LossScale, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """`fg.value_and_grad` of a loss that is scaled on the way: value and gradients come without the scale.

    Arguments:
        fun: a function that returns a loss, or with `has_aux` a pair of it and anything else.
        loss_scale: the scale.
        argnums, has_aux: as for `fg.value_and_grad`.

    Returns:
        A function with the arguments of `fun` that returns a pair: what `fun` returns, and the gradients. If they
        became infinite, so that `all_finite` is false of them, the step is not to be made: see `select_tree`.

    Example, a training step:
        >>> import funcgrad as fg
        >>> from funcgrad.nn import amp
        >>> policy, optimizer = amp.Policy(compute_dtype="float16"), fg.optim.adam(0.01)
        >>> def loss(network, x, y):
        ...     return fg.losses.squared_error(policy.apply(network, x), y).mean()
        >>> @fg.jit
        ... def step(network, optimizer_state, loss_scale, x, y):
        ...     value, gradient = amp.value_and_grad(loss, loss_scale)(network, x, y)
        ...     updates, next_state = optimizer.update(gradient, optimizer_state, network)
        ...     after = fg.optim.apply_updates(network, updates), next_state
        ...     finite = amp.all_finite(gradient)
        ...     network, optimizer_state = amp.select_tree(finite, after, (network, optimizer_state))
        ...     return network, optimizer_state, loss_scale.adjust(finite), value
        >>> network = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> state = network, optimizer.init(network), amp.DynamicLossScale(2.0**17)
        >>> x, y = fg.numpy.ones((5, 2)), fg.numpy.ones((5, 1))
        >>> for _ in range(3):
        ...     *state, value = step(*state, x, y)
        >>> float(state[2].loss_scale) < 2.0**17  # was too much
        True
    """

    def scaled(*args: Any, **kwargs: Any) -> Any:
        result = fun(*args, **kwargs)
        return loss_scale.scale(result[0] if has_aux else result), result

    scaled_gradient = grad.value_and_grad(scaled, argnums, has_aux=True)

    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        (_, result), gradients = scaled_gradient(*args, **kwargs)
        return result, loss_scale.unscale(gradients)

    return value_and_gradient
