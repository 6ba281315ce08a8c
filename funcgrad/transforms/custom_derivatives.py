"""`custom_jvp` and `custom_vjp`: functions whose derivative the user writes.

Both make the call of a function one operation, a primitive that carries the Python functions. Interpreters that do not
differentiate run the function. The one that differentiates runs the user's rule in its place, as it would run the jvp
rule of any primitive. Nothing is traced in eager code, so the functions may use Python's control flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, ConcreteArray
from funcgrad.compiler import PROGRAM_OF_CALL
from funcgrad.core import Primitive, current_interpreter, ground
from funcgrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from funcgrad.primitives.elementwise import add_tangents, is_linear, zeros_like
from funcgrad.primitives.operators import cast
from funcgrad.primitives.shapes import move_axis, reduce_sum, to_front
from funcgrad.program import stage_closed
from funcgrad.transforms.arguments import LEAF, as_arrays, as_results, normalize_positions
from funcgrad.transforms.vmap import batch_flat

# What both primitives share. `function` goes from flat arrays to a flat list of arrays. The first `captured` operands
# are tracers that it closed over when it was written down; the user's rule does not know them.


def _evaluate(*buffers, function, **params):
    return [x._data for x in function(*map(ConcreteArray, buffers))]


def _staging(primitive_of: Callable[[], Primitive]):
    def stage(interpreter, operands, params):
        """Write the function down as a Program of its own, beside the user's rule."""
        captured = params["captured"]
        program, closed_over = stage_closed(params["function"], [x.aval for x in operands], params["name"])
        params = {**params, "function": program, "captured": captured + len(closed_over)}
        operands = [*closed_over, *operands]
        return interpreter.record(primitive_of(), operands, params, list(program.out_avals))

    return stage


def _check_captured(tangents: Sequence[Array | None], captured: int, name: str) -> None:
    if any(t is not None for t in tangents[:captured]):
        raise ArgumentError(
            f"the function {name} has a custom derivative and closes over a value that is being differentiated; "
            "pass that value as an argument, so that the derivative rule can take it into account."
        )


def _instantiate(tangent: Array | None, primal: Any) -> Array:
    """Users' rules get zeros, not None; the tangent of an integer is a float zero."""
    if tangent is not None:
        return tangent
    return zeros_like(AbstractArray(primal.shape, dtypes.to_floating(primal.dtype)))


def _batched(function: Callable, size: int, axes: Sequence[int | None], axis_name: Any) -> Callable:
    """`function` for a whole batch, with the batch axis first in every result."""

    def batched(*arguments):
        outputs, out_axes = batch_flat(function, size, arguments, axes, axis_name)
        return [to_front(x, axis, size) for x, axis in zip(outputs, out_axes, strict=True)]

    return batched


# custom_jvp


def _jvp(primals, tangents, *, function, rule, captured, name):
    _check_captured(tangents, captured, name)
    primals, tangents = primals[captured:], tangents[captured:]
    return rule(primals, [_instantiate(t, x) for t, x in zip(tangents, primals, strict=True)])


def _jvp_batch(size, operands, axes, *, function, rule, captured, name, axis_name):
    own = axes[captured:]
    count = len(own)

    def flat_rule(*arguments):
        results, tangents = rule(arguments[:count], arguments[count:])
        return [*results, *(_instantiate(t, x) for t, x in zip(tangents, results, strict=True))]

    def batched_rule(primals, tangents):
        # A primal without a batch axis may still have a tangent with one.
        fronted = [
            t if axis is None and t.shape == x.shape else to_front(t, axis if t.shape == x.shape else 0, size)
            for x, t, axis in zip(primals, tangents, own, strict=True)
        ]
        tangent_axes = [
            None if axis is None and t.shape == x.shape else 0
            for x, t, axis in zip(primals, tangents, own, strict=True)
        ]
        results = _batched(flat_rule, size, [*own, *tangent_axes], axis_name)(*primals, *fronted)
        half = len(results) // 2
        return results[:half], results[half:]

    results = custom_jvp_call(
        *operands,
        function=_batched(function, size, axes, axis_name),
        rule=batched_rule,
        captured=captured,
        name=name,
    )
    return results, [0] * len(results)


custom_jvp_call = Primitive(
    "custom_jvp_call",
    evaluate=_evaluate,
    jvp=_jvp,
    batch=_jvp_batch,
    stage=_staging(lambda: custom_jvp_call),
    multiple_results=True,
    carries_functions=True,
)
PROGRAM_OF_CALL[custom_jvp_call] = "function"  # once it is staged, and where nothing is differentiated any more


class _Call:
    """One call of a function with a custom derivative: its arguments flattened, the rest of them put aside."""

    def __init__(self, fun: Callable, nondiff: tuple[int, ...], args: tuple, transform: str):
        self.positions = normalize_positions(nondiff, len(args), "nondiff_argnums")
        self.fun, self.args, self.transform = fun, args, transform
        self.nondiff = [args[i] for i in sorted(self.positions)]
        self.differentiable = tuple(x for i, x in enumerate(args) if i not in self.positions)
        flat, self.structure = tree.flatten(self.differentiable)
        self.flat = as_arrays(flat, self.structure, transform)
        self.out_structure: Any = None

    def merged(self, differentiable: Sequence[Any]) -> list[Any]:
        rest = iter(differentiable)
        return [x if i in self.positions else next(rest) for i, x in enumerate(self.args)]

    def function(self, *flat: Array) -> list[Array]:
        output = self.fun(*self.merged(tree.unflatten(self.structure, flat)))
        return self.flatten_result(output)

    def flatten_result(self, output: Any) -> list[Array]:
        leaves, self.out_structure = tree.flatten(output)
        return as_results(leaves, self.out_structure, self.transform)


class custom_jvp:
    """A function whose forward derivative, and through it every derivative, follows a rule of the user's.

    Arguments:
        fun: a function of arrays or pytrees, called with positional arguments.
        nondiff_argnums: positions of arguments that are not differentiated and may be any Python values. They come
            first in the call of the rule.

    Example:
        >>> import funcgrad as fg
        >>> @fg.custom_jvp
        ... def log1pexp(x):
        ...     return fg.numpy.log1p(fg.numpy.exp(x))
        >>> @log1pexp.defjvp
        ... def rule(primals, tangents):
        ...     (x,), (t,) = primals, tangents
        ...     return log1pexp(x), t * (1 - 1 / (1 + fg.numpy.exp(x)))
        >>> fg.grad(log1pexp)(fg.array(100.0))
        Array(1., dtype=float32)
    """

    def __init__(self, fun: Callable, nondiff_argnums: int | Sequence[int] = ()):
        self.fun = fun
        self.rule: Any = None
        self.nondiff_argnums = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        update_wrapper(self, fun)

    def defjvp(self, rule: Callable) -> Callable:
        """Set the rule: `rule(*nondiff, primals, tangents)` gives the result and its tangent. Usable as a decorator."""
        self.rule = rule
        return rule

    def defjvps(self, *rules: Callable | None) -> None:
        """Set a rule for each argument: `rule(tangent, result, *primals)` gives its part of the result's tangent. None
        stands for an argument on which the result does not depend."""

        def rule(*arguments):
            *nondiff, primals, tangents = arguments
            result = self(*_merge(nondiff, primals, self.nondiff_argnums))
            total = None
            for part, tangent in zip(rules, tangents, strict=True):
                if part is not None:
                    total = _add_trees(total, part(tangent, result, *primals))
            return result, tree.map(zeros_like, result) if total is None else total

        self.rule = rule

    def __call__(self, *args: Any) -> Any:
        if current_interpreter() is ground:
            return self.fun(*args)
        if self.rule is None:
            raise ArgumentError(f"no derivative was given for {_name(self.fun)}; set it with .defjvp or .defjvps.")
        call = _Call(self.fun, self.nondiff_argnums, args, "custom_jvp")

        def rule(primals, tangents):
            given = tree.unflatten(call.structure, primals), tree.unflatten(call.structure, tangents)
            output = self.rule(*call.nondiff, *given)
            if not isinstance(output, (tuple, list)) or len(output) != 2:
                raise ArgumentError(
                    f"the jvp rule of {_name(self.fun)} must return a pair (result, tangent), "
                    f"and it returned {type(output).__name__}."
                )
            results = call.flatten_result(output[0])
            tree.check_same_structure(
                output[0], output[1], what=f"the tangent returned by the rule of {_name(self.fun)}"
            )
            moved = as_results(tree.leaves(output[1]), call.out_structure, "custom_jvp")
            return results, [
                _fit(t, x, f"the jvp rule of {_name(self.fun)}") for t, x in zip(moved, results, strict=True)
            ]

        results = custom_jvp_call(*call.flat, function=call.function, rule=rule, captured=0, name=_name(self.fun))
        return tree.unflatten(call.out_structure, results)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else lambda *args: self(instance, *args)


def _name(fun: Callable) -> str:
    return getattr(fun, "__name__", type(fun).__name__)


def _merge(nondiff: Sequence[Any], differentiable: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    count = len(nondiff) + len(differentiable)
    places = {p % count for p in positions}
    kept, rest = iter(nondiff), iter(differentiable)
    return [next(kept) if i in places else next(rest) for i in range(count)]


def _add_trees(a: Any, b: Any) -> Any:
    return b if a is None else tree.map(add_tangents, a, b)


def _fit(tangent: Array, primal: Any, whose: str) -> Array | None:
    """A tangent or cotangent that the user computed, in the dtype of its primal; None where that has no tangents."""
    if not dtypes.is_differentiable(primal.dtype):
        return None
    if tangent.shape != primal.shape:
        raise ShapeError(
            f"{whose} returned a derivative of shape {tangent.shape} for a value of shape {primal.shape}; "
            "both must have one shape."
        )
    return cast(tangent, primal.dtype)


# custom_vjp


def _vjp_jvp(primals, tangents, *, name, **params):
    raise ArgumentTypeError(
        f"the function {name} has a custom_vjp, which defines reverse mode only, and forward mode (jvp, jacfwd, "
        "hessian) met it; give it a custom_jvp, which serves both, or use grad, vjp or jacrev."
    )


def _vjp_linearize(primals, tangents, *, function, forward, backward, captured, name):
    _check_captured(tangents, captured, name)
    primals, tangents = primals[captured:], tangents[captured:]
    results, residuals, structure = forward(*primals)
    active = tuple(t is not None for t in tangents)
    moved = custom_vjp_tangent(
        *residuals,
        *(t for t in tangents if t is not None),
        backward=backward,
        structure=structure,
        active=active,
        results=tuple(AbstractArray(x.shape, x.dtype) for x in results),
        name=name,
    )
    return results, [t if dtypes.is_differentiable(x.dtype) else None for t, x in zip(moved, results, strict=True)]


def _vjp_batch(size, operands, axes, *, function, forward, backward, captured, name, axis_name):
    own = axes[captured:]

    def batched_forward(*primals):
        parts: dict[str, Any] = {}

        def flat_forward(*arguments):
            results, residuals, parts["structure"] = forward(*arguments)
            parts["count"] = len(results)
            return [*results, *residuals]

        outputs = _batched(flat_forward, size, own, axis_name)(*primals)
        return outputs[: parts["count"]], outputs[parts["count"] :], parts["structure"]

    def batched_backward(structure, residuals, cotangents):
        count = len(residuals)
        places: list[bool] = []

        def flat_backward(*arguments):
            found = backward(structure, arguments[:count], arguments[count:])
            places[:] = [c is not None for c in found]
            return [c for c in found if c is not None]

        arguments = [*residuals, *cotangents]
        found = iter(_batched(flat_backward, size, [0] * len(arguments), axis_name)(*arguments))
        spread = [next(found) if p else None for p in places]
        # An operand that all examples share gets the cotangents of all.
        return [
            c if c is None or axis == 0 else reduce_sum(c, axes=(0,)) if axis is None else move_axis(c, 0, axis)
            for c, axis in zip(spread, own, strict=True)
        ]

    results = custom_vjp_call(
        *operands,
        function=_batched(function, size, axes, axis_name),
        forward=batched_forward,
        backward=batched_backward,
        captured=captured,
        name=name,
    )
    return results, [0] * len(results)


custom_vjp_call = Primitive(
    "custom_vjp_call",
    evaluate=_evaluate,
    jvp=_vjp_jvp,
    linearize=_vjp_linearize,
    batch=_vjp_batch,
    stage=_staging(lambda: custom_vjp_call),
    multiple_results=True,
    carries_functions=True,
)
PROGRAM_OF_CALL[custom_vjp_call] = "function"


def _tangent_evaluate(*buffers, name, **params):
    raise ArgumentTypeError(
        f"the function {name} has a custom_vjp, which defines reverse mode only, and its forward derivative was asked "
        "for; give it a custom_jvp, which serves both."
    )


def _tangent_transpose(cotangents, *operands, backward, structure, active, results, name):
    residuals = [x for x in operands if not is_linear(x)]
    given = [_instantiate(c, x) for c, x in zip(cotangents, results, strict=True)]
    found = backward(structure, residuals, given)
    linear = iter(c for c, is_active in zip(found, active, strict=True) if is_active)
    return [next(linear) if is_linear(x) else None for x in operands]


custom_vjp_tangent = Primitive(
    "custom_vjp_tangent",
    abstract=lambda *operands, results, **params: list(results),
    evaluate=_tangent_evaluate,
    transpose=_tangent_transpose,
    multiple_results=True,
)


class custom_vjp:
    """A function whose reverse derivative follows rules of the user's. Forward mode is then not defined for it.

    Arguments:
        fun: a function of arrays or pytrees, called with positional arguments.
        nondiff_argnums: positions of arguments that are not differentiated and may be any Python values.

    Set the rules with `defvjp(forward, backward)`:
        forward: takes the arguments of `fun`, gives `(result, residuals)`; residuals are a pytree of arrays.
        backward: `backward(*nondiff, residuals, cotangent)` gives a tuple with the cotangent of each differentiable
            argument; None stands for zero.

    Example, a gradient that is clipped on its way back:
        >>> import funcgrad as fg
        >>> @fg.custom_vjp
        ... def clip_gradient(x):
        ...     return x
        >>> clip_gradient.defvjp(lambda x: (x, ()), lambda residuals, g: (fg.numpy.clip(g, -1, 1),))
        >>> fg.grad(lambda x: 10 * clip_gradient(x))(fg.array(0.0))
        Array(1., dtype=float32)
    """

    def __init__(self, fun: Callable, nondiff_argnums: int | Sequence[int] = ()):
        self.fun = fun
        self.forward: Any = None
        self.backward: Any = None
        self.nondiff_argnums = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        update_wrapper(self, fun)

    def defvjp(self, forward: Callable, backward: Callable) -> None:
        """Set the rules."""
        self.forward, self.backward = forward, backward

    def __call__(self, *args: Any) -> Any:
        if current_interpreter() is ground:
            return self.fun(*args)
        if self.forward is None or self.backward is None:
            raise ArgumentError(
                f"no derivative was given for {_name(self.fun)}; set it with .defvjp(forward, backward)."
            )
        call = _Call(self.fun, self.nondiff_argnums, args, "custom_vjp")
        whose = f"the backward rule of {_name(self.fun)}"

        def forward(*flat):
            output = self.forward(*call.merged(tree.unflatten(call.structure, flat)))
            if not isinstance(output, (tuple, list)) or len(output) != 2:
                raise ArgumentError(
                    f"the forward rule of {_name(self.fun)} must return a pair (result, residuals), "
                    f"and it returned {type(output).__name__}."
                )
            residuals, structure = tree.flatten(output[1])
            return call.flatten_result(output[0]), as_results(residuals, structure, "custom_vjp"), structure

        def backward(structure, residuals, cotangents):
            given = tree.unflatten(structure, residuals), tree.unflatten(call.out_structure, cotangents)
            found = self.backward(*call.nondiff, *given)
            if not isinstance(found, (tuple, list)) or len(found) != len(call.differentiable):
                count = len(found) if isinstance(found, (tuple, list)) else 1
                raise ArgumentError(
                    f"{whose} must return a tuple with one cotangent for each of the {len(call.differentiable)} "
                    f"differentiable argument(s), and it returned {type(found).__name__} of {count}."
                )
            flat = []
            for argument, cotangent in zip(call.differentiable, found, strict=True):
                leaves = tree.leaves(argument)
                if cotangent is None:
                    flat += [None] * len(leaves)
                    continue
                parts = tree.leaves(cotangent, is_leaf=lambda x: x is None)
                if len(parts) != len(leaves):
                    tree.check_same_structure(argument, cotangent, what=f"a cotangent returned by {whose}")
                arrays = [None if c is None else as_arrays([c], LEAF, "custom_vjp")[0] for c in parts]
                flat += arrays
            return [None if c is None else _fit(c, x, whose) for c, x in zip(flat, call.flat, strict=True)]

        results = custom_vjp_call(
            *call.flat, function=call.function, forward=forward, backward=backward, captured=0, name=_name(self.fun)
        )
        return tree.unflatten(call.out_structure, results)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else lambda *args: self(instance, *args)
