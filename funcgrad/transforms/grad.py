"""Reverse mode: `grad`, in two steps that are each simple.

*Linearize.* Run the function forward, as `jvp` does, but with tangents that have no value yet. Rules of derivatives
compute with the primals at once, while everything that touches a tangent is only written down. What is written down
is a Program that is linear in the tangents, holding the numbers that the forward pass computed:

    out_tangent = linear_program(in_tangents)

*Transpose.* Walk that Program backwards. A linear map has a transpose, and each linear primitive has a rule that gives
its own: what was multiplied by A is now multiplied by A transposed, what was broadcast is summed. This turns a
cotangent of the result, "how much the goal changes with each result", into cotangents of all inputs at once.

There is no second table of derivative rules for reverse mode: `jvp` and `transpose` of each primitive are enough.

Source: Radul, Paszke, Frostig, Johnson and Maclaurin, "You Only Linearize Once: Tangents Transpose to Gradients"
(POPL 2023), https://arxiv.org/abs/2204.10923.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import compress
from typing import Any

from funcgrad import dtypes, tree
from funcgrad.array import AbstractArray, Array, ConcreteArray
from funcgrad.compiler.counter import counter
from funcgrad.core import current_interpreter, set_current_interpreter
from funcgrad.errors import DtypeError, ShapeError
from funcgrad.primitives.elementwise import add, full, instantiate, zeros_like
from funcgrad.primitives.operators import cast
from funcgrad.program import Equation, Program, Record, StageTracer, Variable, stage
from funcgrad.transforms.arguments import LEAF, as_arrays, name_leaf, normalize_positions, unwrap_outputs
from funcgrad.transforms.jvp import DualTracer, Forward


class Linearize(Forward):
    """Forward mode over a `Record`: tangents are variables, and what happens to them is written down."""

    transform = "grad"
    splits_known_from_linear = True

    def __init__(self):
        self.record = Record()

    def __enter__(self):
        self.record.open(current_interpreter())
        self.open(self.record)
        set_current_interpreter(self)
        return self

    def __exit__(self, *exception: object) -> None:
        set_current_interpreter(self.record.parent)
        self.active = self.record.active = False

    def input(self, primal: Array) -> tuple[Array, Variable | None]:
        """An input of the function with a fresh tangent, and the variable of that tangent."""
        if dtypes.KIND[primal.dtype] < 2:  # no tangents: `is_differentiable`, without the call
            return primal, None
        tangent = StageTracer(self.record, Variable(primal.aval.strong() if primal.weak_type else primal))
        return DualTracer(self, primal, tangent), tangent.variable

    def output(self, x: Any) -> tuple[Array, Any]:
        """A result of the function, and its tangent as it stands in the linear Program."""
        primal, tangent = self.split(x)
        return primal, None if tangent is None else self.record.atom(tangent)


class Backward:
    """The class of `backward`, whose call becomes native (see `compiler.eager`)."""

    __slots__ = ()

    def __call__(
        self,
        equations: Sequence[Equation],
        outputs: Sequence[Variable | None],
        cotangents: Sequence[Array | None],
        inputs: Sequence[Variable | None],
    ) -> list[Array | None]:
        """Transpose linear equations: from the cotangents of `outputs` to those of `inputs`.

        The variables among the operands are the linear ones. None stands for no variable, and for a cotangent of zero.
        """
        found: dict[Variable, Array] = {}

        for variable, cotangent in zip(outputs, cotangents, strict=True):
            if cotangent is not None and type(variable) is Variable:
                earlier = found.get(variable)
                found[variable] = cotangent if earlier is None else add(earlier, cotangent)
        for equation in reversed(equations):
            primitive = equation.primitive
            if primitive.multiple_results:
                given = [found.pop(x, None) for x in equation.results]
                if all(cotangent is None for cotangent in given):
                    continue
            else:
                given = found.pop(equation.results[0], None)
                if given is None:
                    continue
            if primitive.transpose_into is not None:
                x = equation.operands[0]
                earlier = found.get(x) if type(x) is Variable else None
                if earlier is not None:
                    found[x] = primitive.transpose_into(earlier, given, *equation.operands, **equation.params)
                    continue
            rule = primitive.transpose or primitive.rule("transpose", "reverse mode")
            for x, cotangent in zip(equation.operands, rule(given, *equation.operands, **equation.params), strict=True):
                if cotangent is not None and type(x) is Variable:
                    earlier = found.get(x)
                    found[x] = cotangent if earlier is None else add(earlier, cotangent)
        return [None if x is None else found.get(x) for x in inputs]


backward = Backward()
counter.forward_mode = Forward, Linearize, DualTracer, Backward  # what native code has to know of transforms


def linearize_flat(function: Callable[..., Sequence[Any]], primals: Sequence[Array]):
    """Run `function` on flat lists of arrays; gives its results, and its derivative as a linear Program.

    The tangents of inputs or outputs that have none stand as None in the lists of variables that come with it.
    """
    with Linearize() as linearize:
        inputs = [linearize.input(x) for x in primals]
        outputs = [linearize.output(x) for x in function(*(x for x, _ in inputs))]
    return [x for x, _ in outputs], linearize.record.equations, [t for _, t in inputs], [t for _, t in outputs]


def linearize_program(program: Program, active: tuple[bool, ...]):
    """Split the derivative of a Program into what is known and what is linear.

    Returns:
        forward: a Program from the inputs to the outputs followed by residuals, the known values that the derivative
            needs.
        linear: a Program from the residuals and the tangents of the `active` inputs to tangents.
        has_tangent: which outputs have a tangent.
    """

    def make():
        parts: dict[str, Any] = {}

        def function(*primals):
            with Linearize() as linearize:
                inputs = [linearize.input(x) if a else (x, None) for x, a in zip(primals, active, strict=True)]
                outputs = [linearize.output(x) for x in program(*(x for x, _ in inputs))]
            tangents = [t for _, t in outputs if t is not None]
            variables = [t for _, t in inputs if t is not None]
            linear, residuals = Program(
                variables, linearize.record.equations, tangents, f"linear_part_of_{program.name}"
            ).close_over()
            parts.update(linear=linear, has_tangent=[t is not None for _, t in outputs])
            return [*(x for x, _ in outputs), *residuals]

        forward = stage(function, program.in_avals, f"forward_of_{program.name}")
        return forward, parts["linear"], parts["has_tangent"]

    return program.derived(("linearize", active), make)


def transpose_program(
    program: Program, linear: tuple[bool, ...], given: tuple[bool, ...], added: tuple[bool, ...] = ()
) -> tuple[Program, list[bool]]:
    """The transpose of a Program with respect to its `linear` inputs.

    The result goes from the other inputs, followed by the cotangents of those outputs for which one is `given`, to
    the cotangents of the linear inputs; also says which of these are not zero, and only those are results.

    With `added`, a flag for each linear input, some cotangents are added to what there is of them already; that is
    given after all else.
    """

    def make():
        nonzero: list[bool] = []

        def function(*arguments):
            known, cotangents = iter(arguments[: linear.count(False)]), iter(arguments[linear.count(False) :])
            values = {x: next(known) for x, is_linear in zip(program.inputs, linear, strict=True) if not is_linear}
            equations = substitute(program.equations, values)
            inputs = [x for x, is_linear in zip(program.inputs, linear, strict=True) if is_linear]
            results = backward(
                equations,
                [*(x if type(x) is Variable else None for x in program.outputs), *compress(inputs, added)],
                [*(next(cotangents) if g else None for g in given), *cotangents],
                inputs,
            )
            nonzero[:] = [c is not None for c in results]
            return [c for c in results if c is not None]

        avals = [x.aval for x, is_linear in zip(program.inputs, linear, strict=True) if not is_linear]
        avals += [AbstractArray(x.shape, x.dtype) for x, g in zip(program.outputs, given, strict=True) if g]
        avals += [x.aval.strong() for x in compress(compress(program.inputs, linear), added)]
        return stage(function, avals, f"transpose_of_{program.name}"), nonzero

    return program.derived(("transpose", linear, given, added), make)


def substitute(equations: Sequence[Equation], values: dict[Variable, Array]) -> list[Equation]:
    """Compute every equation that follows from known `values`; give the rest with those values put in."""
    rest = []
    for equation in equations:
        operands: list[Any] = [values.get(x, x) if type(x) is Variable else x for x in equation.operands]
        if any(type(x) is Variable for x in operands):
            rest.append(Equation(equation.primitive, operands, equation.params, equation.results, equation.source))
            continue
        result = equation.primitive(*operands, **equation.params)
        values.update(zip(equation.results, result if equation.primitive.multiple_results else [result], strict=True))
    return rest


def linearize(fun: Callable, *primals: Any, has_aux: bool = False) -> Any:
    """The value of `fun` at `primals`, and its derivative there as a linear function.

    The derivative costs the forward pass once, however often it is applied.

    Arguments:
        fun: a function of arrays or pytrees.
        primals: where to linearize.
        has_aux: whether `fun` gives a pair of its result and auxiliary data.

    Returns:
        `(result, f_jvp)`, with `has_aux` `(result, f_jvp, aux)`; `f_jvp(*tangents)` is the derivative in that
        direction. `f_jvp.program` is the linear Program.

    Example:
        >>> import funcgrad as fg
        >>> y, f_jvp = fg.linearize(lambda x: x ** 3, fg.array(2.0))
        >>> f_jvp(fg.array(1.0))
        Array(12., dtype=float32)
    """
    flat, structure = tree.flatten(primals)
    flat = as_arrays(flat, structure, "linearize")
    parts: dict[str, Any] = {}

    def function(*arguments):
        output = fun(*tree.unflatten(structure, arguments))
        outputs, parts["structure"], parts["aux"] = unwrap_outputs(output, has_aux, "linearize")
        return [*outputs, *tree.leaves(parts["aux"])] if has_aux else outputs

    results, equations, inputs, outputs = linearize_flat(function, flat)
    out_structure = parts["structure"]
    count = out_structure.num_leaves
    program = Program(
        [x for x in inputs if x is not None], equations, [x for x in outputs[:count] if x is not None], "linear"
    )

    def f_jvp(*tangents: Any) -> Any:
        tree.check_same_structure(primals, tangents, what="the tangents of a linearized function")
        given = as_arrays(tree.leaves(tangents), structure, "linearize")
        for t, x in zip(given, flat, strict=True):
            if t.shape != x.shape:
                raise ShapeError(f"a tangent of shape {t.shape} was given for a primal of shape {x.shape}.")
        moved = iter(program(*(cast(t, x.dtype) for t, x, v in zip(given, flat, inputs, strict=True) if v is not None)))
        moves = [None if v is None else next(moved) for v in outputs[:count]]
        return tree.unflatten(
            out_structure,
            [
                instantiate(t, x) if dtypes.is_differentiable(x.dtype) else None
                for t, x in zip(moves, results, strict=False)
            ],
        )

    f_jvp.program = program  # type: ignore[attr-defined]
    result = tree.unflatten(out_structure, results[:count])
    if not has_aux:
        return result, f_jvp
    return result, f_jvp, tree.unflatten(tree.structure(parts["aux"]), results[count:])


def vjp(fun: Callable, *primals: Any, has_aux: bool = False) -> Any:
    """The value of `fun`, and the function that pulls cotangents of the result back to the arguments (reverse mode).

    Arguments:
        fun: a function of arrays or pytrees.
        primals: its arguments.
        has_aux: whether `fun` gives a pair of its result and auxiliary data.

    Returns:
        `(result, f_vjp)`, with `has_aux` `(result, f_vjp, aux)`. `f_vjp(cotangent)` takes a pytree like the result
        and gives a tuple with one entry an argument; integer arguments get None.

    Raises:
        ShapeError, DtypeError: if a cotangent does not have the shape and dtype of its result.

    Example:
        >>> import funcgrad as fg
        >>> y, f_vjp = fg.vjp(lambda x, w: x * w, fg.array(2.0), fg.array(5.0))
        >>> f_vjp(fg.array(1.0))
        (Array(5., dtype=float32), Array(2., dtype=float32))
    """
    flat, structure = tree.flatten(primals)
    flat = as_arrays(flat, structure, "vjp")
    with Linearize() as interpreter:
        inputs = [interpreter.input(x) for x in flat]
        output = fun(*tree.unflatten(structure, [x for x, _ in inputs]))
        outputs, out_structure, aux = unwrap_outputs(output, has_aux, "vjp")
    pairs = [interpreter.output(x) for x in outputs]
    result = tree.unflatten(out_structure, [x for x, _ in pairs])

    def f_vjp(cotangent: Any) -> tuple:
        given, given_structure = tree.flatten(cotangent)
        if given_structure != out_structure:
            given = _cotangent_leaves(cotangent, result)
        given = [None if c is None else as_arrays([c], LEAF, "vjp")[0] for c in given]
        cotangents = [_checked_cotangent(c, x) for c, (x, _) in zip(given, pairs, strict=True)]
        moved = backward(interpreter.record.equations, [t for _, t in pairs], cotangents, [t for _, t in inputs])
        leaves = [
            instantiate(c, x) if t is not None else None for c, x, (_, t) in zip(moved, flat, inputs, strict=True)
        ]
        return tree.unflatten(structure, leaves)

    return (result, f_vjp, _without_tangents(aux, interpreter)) if has_aux else (result, f_vjp)


def _cotangent_leaves(cotangent: Any, result: Any) -> list[Any]:
    """Leaves of a cotangent in which None stands for the cotangent of an integer result, or for zero."""
    leaves = tree.leaves(cotangent, is_leaf=lambda x: x is None)
    if len(leaves) != len(tree.leaves(result)):
        tree.check_same_structure(result, cotangent, what="the cotangent given to vjp")
    return leaves


def _checked_cotangent(cotangent: Array | None, result: Array) -> Array | None:
    if cotangent is None or not dtypes.is_differentiable(result.dtype):
        return None
    if cotangent.shape != result.shape:
        raise ShapeError(
            f"a cotangent of shape {cotangent.shape} was given for a result of shape {result.shape}; "
            "a cotangent has the shape of its result."
        )
    if cotangent.dtype is not result.dtype and not cotangent.weak_type:
        raise DtypeError(
            f"a cotangent of dtype {cotangent.dtype.name} was given for a result of dtype {result.dtype.name}; "
            f"convert it with .astype('{result.dtype.name}')."
        )
    return cast(cotangent, result.dtype)


def _without_tangents(aux: Any, interpreter: Forward) -> Any:
    return tree.map(lambda x: interpreter.split(x)[0], aux)


def value_and_grad(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """A function that gives both the value of `fun` and its gradient.

    Arguments:
        fun: a function whose result is a floating scalar.
        argnums: which positional arguments to differentiate; each may be a pytree of floating arrays.
        has_aux: whether `fun` gives a pair of the scalar and auxiliary data.
        holomorphic: whether `fun` is holomorphic, so that complex arguments have a derivative.

    Returns:
        A function of the same arguments giving `(value, gradient)`, with `has_aux` `((value, aux), gradient)`. The
        gradient has the structure, shapes and dtypes of the argument, or is a tuple of such if `argnums` is one.

    Raises:
        DtypeError: if an argument or the result is not floating.
        ShapeError: if the result is not a scalar.

    Example:
        >>> import funcgrad as fg
        >>> fg.value_and_grad(lambda x: x ** 2)(fg.array(3.0))
        (Array(9., dtype=float32), Array(6., dtype=float32))
    """

    @wraps(fun)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        positions = normalize_positions(argnums, len(args), "argnums")
        chosen = args[positions[0]] if isinstance(argnums, int) else tuple(args[i] for i in positions)

        def name(index: int) -> str:
            return name_leaf(fun, (chosen,) if isinstance(argnums, int) else chosen, {}, index, positions)

        if type(chosen) is ConcreteArray:
            flat, structure = [chosen], LEAF
        else:
            flat, structure = tree.flatten(chosen)
            flat = as_arrays(flat, structure, "grad", name)
        for index, x in enumerate(flat):
            if x.dtype.kind != "f":
                _check_differentiable(x, name, index, holomorphic)
        with Linearize() as interpreter:
            inputs = [interpreter.input(x) for x in flat]
            duals = tree.unflatten(structure, [x for x, _ in inputs])
            arguments = list(args)
            if isinstance(argnums, int):
                arguments[positions[0]] = duals
            else:
                for position, argument in zip(positions, duals, strict=True):
                    arguments[position] = argument
            outputs, out_structure, aux = unwrap_outputs(fun(*arguments, **kwargs), has_aux, "grad")
        value, tangent = interpreter.output(outputs[0]) if len(outputs) == 1 else (None, None)
        if value is None or value.shape != () or value.dtype.kind != "f":
            _check_scalar(outputs, holomorphic)
        assert value is not None
        seed = full((), 1, value.dtype)
        moved = backward(interpreter.record.equations, [tangent], [seed], [t for _, t in inputs])
        gradient = tree.unflatten(
            structure, [zeros_like(x) if c is None else c for c, x in zip(moved, flat, strict=True)]
        )
        if out_structure is not LEAF:
            value = tree.unflatten(out_structure, [value])
        return ((value, _without_tangents(aux, interpreter)) if has_aux else value), gradient

    return value_and_gradient


def _check_differentiable(x: Array, name: Callable[[int], str], index: int, holomorphic: bool) -> None:
    if dtypes.is_complex(x.dtype) and not holomorphic:
        raise DtypeError(
            f"grad got `{name(index)}` of the complex dtype {x.dtype.name}; pass holomorphic=True for a holomorphic "
            "function, or differentiate with respect to the real and imaginary parts."
        )
    if not dtypes.is_differentiable(x.dtype):
        raise DtypeError(
            f"grad needs floating arguments, and `{name(index)}` has dtype {x.dtype.name}; convert it with "
            "x.astype(fg.float32), pass a float such as 3.0, or choose other arguments with argnums."
        )


def _check_scalar(outputs: Sequence[Array], holomorphic: bool) -> None:
    if len(outputs) != 1:
        raise ShapeError(
            f"grad needs a function that returns one scalar, and it returned {len(outputs)} arrays; return the loss "
            "alone, or (loss, aux) with has_aux=True."
        )
    (output,) = outputs
    if output.shape != ():
        raise ShapeError(
            f"grad needs a function that returns a scalar, and it returned an array of shape {output.shape}; reduce it "
            "with .sum() or .mean(), or use jacrev or jacfwd for all derivatives."
        )
    if not dtypes.is_floating(output.dtype) and not (holomorphic and dtypes.is_complex(output.dtype)):
        raise DtypeError(
            f"grad needs a function that returns a floating scalar, and it returned {output.dtype.name}; "
            "convert the result, or take its real part."
        )


def grad(fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable:
    """A function that gives the gradient of `fun`, by reverse mode.

    Arguments and errors are those of `value_and_grad`.

    Returns:
        A function of the same arguments giving the gradient, with `has_aux` `(gradient, aux)`.

    Example:
        >>> import funcgrad as fg
        >>> fg.grad(fg.numpy.tanh)(fg.array(0.0))
        Array(1., dtype=float32)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic)

    @wraps(fun)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient


def linear_transpose(fun: Callable, *primals: Any) -> Callable:
    """The transpose of a function that is linear: no values needed, only the shapes and dtypes of its arguments.

    Arguments:
        fun: a linear function of arrays or pytrees.
        primals: its arguments, or anything with their shapes and dtypes, such as `fg.ShapeDtypeStruct`.

    Returns:
        A function from a cotangent, a pytree like the result of `fun`, to a tuple with one entry an argument.

    Raises:
        MissingRuleError: if `fun` uses a primitive that is not linear.

    Example:
        >>> import funcgrad as fg
        >>> transpose = fg.linear_transpose(lambda x: 3.0 * x, fg.ShapeDtypeStruct((), fg.float32))
        >>> transpose(fg.array(2.0))
        (Array(6., dtype=float32),)
    """
    flat, structure = tree.flatten(primals)
    flat = [x if isinstance(x, (AbstractArray, Array)) else as_arrays([x], LEAF, "linear_transpose")[0] for x in flat]
    with Record() as record:
        inputs = [record.new_input(AbstractArray(x.shape, x.dtype)) for x in flat]
        output = fun(*tree.unflatten(structure, inputs))
        outputs, out_structure, _ = unwrap_outputs(output, False, "linear_transpose")

    def transposed(cotangent: Any) -> tuple:
        given, given_structure = tree.flatten(cotangent)
        if given_structure != out_structure:
            tree.check_same_structure(
                tree.unflatten(out_structure, outputs), cotangent, what="the cotangent of linear_transpose"
            )
        cotangents = [
            _checked_cotangent(c, x) for c, x in zip(as_arrays(given, given_structure, "vjp"), outputs, strict=True)
        ]
        variables = [record.atom(x) if isinstance(x, StageTracer) else None for x in outputs]
        moved = backward(record.equations, variables, cotangents, [x.variable for x in inputs])
        return tree.unflatten(structure, [instantiate(c, x) for c, x in zip(moved, flat, strict=True)])

    return transposed
