"""`jit`: write a function down once, then run the Program instead of the Python.

The first call with arguments of new shapes and dtypes traces the function: `Stage` runs it on variables and notes
what it does. The Program is compiled and kept; later calls with such arguments run it without the function's Python.

A jitted function that meets another transform stays one operation, the primitive `call`, which carries its Program.
Differentiating or batching a `call` does the same to its Program, once: see `jvp_program`, `linearize_program`,
`transpose_program` and `batch_program`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from funcgrad import tree
from funcgrad.array import AbstractArray, Array, ConcreteArray
from funcgrad.compiler import COMPILERS, PROGRAM_OF_CALL, compile_program, simplified
from funcgrad.config import config
from funcgrad.core import Primitive, Tracer, check_not_traced, current_interpreter, ground, named_axes
from funcgrad.errors import ArgumentError, ArgumentTypeError
from funcgrad.primitives.elementwise import is_linear, zeros_like
from funcgrad.program import Program, stage_closed
from funcgrad.transforms.arguments import (
    LEAF,
    as_arrays,
    name_leaf,
    normalize_positions,
    parameter_name,
    spread,
    unwrap_outputs,
    weak_again,
)
from funcgrad.transforms.grad import linearize_program, transpose_program
from funcgrad.transforms.jvp import jvp_program
from funcgrad.transforms.vmap import batch_program

if TYPE_CHECKING:
    from funcgrad.compiler.cost import Cost
    from funcgrad.compiler.stages import HostCall, Kernels, MemoryPlans, Stages

# A call that is to be compiled by another compiler than the default has the parameter `compiler`, which the calls made
# from it inherit.


def _evaluate(*buffers, program, compiler="default"):
    return compile_program(program, compiler)(*buffers)


def _jvp(primals, tangents, *, program, **compiler):
    derivative, has_tangent = jvp_program(program, tuple(t is not None for t in tangents))
    results = call(*primals, *(t for t in tangents if t is not None), program=derivative, **compiler)
    count = len(program.outputs)
    return results[:count], spread(results[count:], has_tangent)


def _linearize(primals, tangents, *, program, **compiler):
    forward, linear, has_tangent = linearize_program(program, tuple(t is not None for t in tangents))
    results = call(*primals, program=forward, **compiler)
    count = len(program.outputs)
    if not any(has_tangent):
        return results[:count], [None] * count
    moved = call(*results[count:], *(t for t in tangents if t is not None), program=linear, **compiler)
    return results[:count], spread(moved, has_tangent)


def _transpose(cotangents, *operands, program, **compiler):
    linear = tuple(is_linear(x) for x in operands)
    transposed, nonzero = transpose_program(program, linear, tuple(c is not None for c in cotangents))
    known = [x for x, is_linear_here in zip(operands, linear, strict=True) if not is_linear_here]
    results = call(*known, *(c for c in cotangents if c is not None), program=transposed, **compiler)
    return spread(spread(results, nonzero), linear)


def _batch(size, operands, axes, *, program, axis_name, **compiler):
    batched, out_axes = batch_program(program, size, tuple(axes), axis_name)
    return call(*operands, program=batched, **compiler), out_axes


call = Primitive(
    "call",
    abstract=lambda *operands, program, **compiler: list(program.out_avals),
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=_batch,
    multiple_results=True,
    carries_functions=True,
)
PROGRAM_OF_CALL[call] = "program"


ShortWay = Callable[[tuple, dict], Any]
"""Runs a jitted function for arguments like those of an earlier call, or gives NO_SHORT_WAY for others."""

NO_SHORT_WAY = object()
CALLS_BEFORE_SHORT_WAY = 2  # making one takes as long as some calls
MOST_SHORT_WAYS = 4


def _signatures(flat: Sequence[Array]) -> tuple[Any, ...]:
    return tuple([(x.shape, x.dtype, x.weak_type) for x in flat])


@cache
def _structure_of_positional(count: int) -> Any:
    """The structure of the arguments of a call with this many positional arrays."""
    return tree.structure(((0,) * count, {}))


class Traced:
    """What jit keeps for one signature: the closed Program, the outer tracers it captured, and how to pack results."""

    __slots__ = ("calls", "captured", "has_weak_results", "out_structure", "program", "short_way")

    def __init__(self, program: Program, captured: list[Tracer], out_structure: Any):
        self.program, self.captured, self.out_structure = program, captured, out_structure
        self.has_weak_results = any(aval.weak_type for aval in program.out_avals)
        self.calls = 0
        self.short_way: ShortWay | None = None


class Lowered:
    """A jitted function for one signature, before it runs: look at it, or compile it.

    Each stage on the way to native code can be printed. They are those of the default compiler, also if another one is
    to be used.

    Attributes:
        program: the Program that was traced.

    Example:
        >>> import funcgrad as fg
        >>> lowered = fg.jit(lambda x: x * 2.0 + 1.0).lower(fg.numpy.ones(1000))
        >>> lowered.kernels[0]
        kernel(in0: float32[1000], out0: float32[1000])
          parallel vector for j in 1000
            out0[j] = ((in0[j] * 2) + 1)
        >>> lowered.cost.flops
        2000
    """

    def __init__(self, traced: Traced, in_structure: Any, compiler: dict[str, str]):
        self._traced, self._in_structure, self._compiler = traced, in_structure, compiler
        self.program = traced.program

    @cached_property
    def _stages(self) -> Stages:
        # Whoever only wants the Program need not wait for LLVM.
        from funcgrad.compiler.stages import Stages

        return Stages(self.program)

    @property
    def simplified(self) -> Program:
        """The Program in fewer equations."""
        return simplified(self.program)

    @property
    def kernels(self) -> Kernels:
        """What becomes native code: a sequence of kernels. Printed, all that the compiled function does, as loops over
        the elements of buffers, with what runs on the host between them."""
        return self._stages.kernels

    @property
    def memory_plan(self) -> MemoryPlans:
        """Where the values between kernels live, and how much memory is needed at a time: `peak_bytes`."""
        return self._stages.memory_plan

    @property
    def llvm_ir(self) -> str:
        """The native code in LLVM's language."""
        return self._stages.llvm_ir

    @property
    def assembly(self) -> str:
        """The machine code for this CPU, as text."""
        return self._stages.assembly

    @property
    def host_calls(self) -> list[HostCall]:
        """The equations that run on the host, also those in loops, since they have no native form. Each has a `name`,
        the `equation`, and `source`, the user's line."""
        return self._stages.host_calls

    @property
    def cost(self) -> Cost:
        """Arithmetic and traffic with memory: `flops`, `bytes_read`, `bytes_written`, and `seconds()`, about the least
        time that a machine could need, of which `roofline()` gives a table."""
        return self._stages.cost

    def compile(self) -> Callable[..., Any]:
        """Compile now; gives a function that takes the dynamic arguments of exactly this signature."""
        compile_program(self.program, **self._compiler)

        def compiled(*args: Any, **kwargs: Any) -> Any:
            flat, structure = tree.flatten((args, kwargs))
            flat = as_arrays(flat, structure, "a compiled function")
            avals = [AbstractArray(x.shape, x.dtype) for x in flat]
            expected = [x.strong() for x in self.program.in_avals[len(self._traced.captured) :]]
            if structure != self._in_structure or avals != expected:
                raise ArgumentTypeError(
                    f"a compiled function got arguments {avals} where it was compiled for {expected}; "
                    "call the jitted function, which compiles for new shapes, instead."
                )
            results = call(*self._traced.captured, *flat, program=self.program, **self._compiler)
            return tree.unflatten(self._traced.out_structure, results)

        return compiled

    def as_text(self) -> str:
        """The Program as text."""
        return str(self.program)


class JitFunction:
    """The result of `jit`: call it like the function; `lower` shows what it becomes."""

    def __init__(
        self,
        fun: Callable,
        static_argnums: int | Sequence[int],
        static_argnames: str | Sequence[str],
        donate_argnums: int | Sequence[int],
        compiler: str | None = None,
    ):
        self._fun = fun
        # Left out of the equations of calls that take the default.
        self._compiler = {} if compiler in (None, "default") else {"compiler": compiler}
        self._static_argnums, self._donate_argnums = static_argnums, donate_argnums
        names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
        self._static_names = frozenset(names)
        if names:
            self._add_positions_of(names)
        self._static_count = 0 if static_argnums == () and not names else 1
        self._name = getattr(fun, "__name__", "f").strip("<>")
        self._cache: dict[Any, Traced] = {}
        self._short_ways: tuple[ShortWay, ...] = ()  # for the latest signatures
        update_wrapper(self, fun, updated=())

    def _add_positions_of(self, names: Sequence[str]) -> None:
        """A static argument named in `static_argnames` is static also when it is passed by position."""
        try:
            parameters = list(inspect.signature(self._fun).parameters)
        except (TypeError, ValueError):
            return
        known = (self._static_argnums,) if isinstance(self._static_argnums, int) else tuple(self._static_argnums)
        self._static_argnums = (*known, *(parameters.index(n) for n in names if n in parameters))

    def _split_static(self, args: tuple, kwargs: dict) -> tuple[tuple, dict, dict, dict]:
        """The dynamic arguments, and the static ones by position and by name."""
        asked = (self._static_argnums,) if isinstance(self._static_argnums, int) else self._static_argnums
        within = [p for p in asked if -len(args) <= p < len(args)]
        by_position = {p % len(args): args[p] for p in within}
        by_name = {name: kwargs[name] for name in self._static_names if name in kwargs}
        for where, value in [*by_position.items(), *by_name.items()]:
            try:
                hash(value)
            except TypeError:
                label = where if isinstance(where, str) else parameter_name(self._fun, where)
                raise ArgumentTypeError(
                    f"the static argument `{label}` of {self._name} is a {type(value).__name__}, which cannot be "
                    "hashed; pass a hashable value, such as a tuple, or do not make it static."
                ) from None
        dynamic = tuple(x for i, x in enumerate(args) if i not in by_position)
        named = {name: x for name, x in kwargs.items() if name not in by_name}
        return dynamic, named, by_position, by_name

    def _signature(self, args: tuple, kwargs: dict):
        """The flat dynamic arguments, and all on which the trace depends."""
        arrays = [x for x in args if type(x) is ConcreteArray]
        if len(arrays) == len(args) and not kwargs and not self._static_count:  # nothing to take apart or to convert
            structure = _structure_of_positional(len(args))
            return arrays, (structure, (), _signatures(arrays), named_axes()), (structure, {}, {})
        if self._static_count:
            args, kwargs, by_position, by_name = self._split_static(args, kwargs)
            # 1, 1.0 and True are equal, and yet mean different Programs.
            static = tuple((k, v, type(v)) for k, v in [*sorted(by_position.items()), *sorted(by_name.items())])
        else:
            by_position, by_name, static = {}, {}, ()
        flat, structure = tree.flatten((args, kwargs))

        def name(index: int) -> str:
            kept = [i for i in range(len(args) + len(by_position)) if i not in by_position]
            return name_leaf(self._fun, args, kwargs, index, kept)

        flat = as_arrays(flat, structure, "jit", name)
        key = (structure, static, _signatures(flat), named_axes())
        return flat, key, (structure, by_position, by_name)

    def _traced(self, flat: Sequence[Array], key: Any, parts: Any) -> Traced:
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = self._trace(flat, *parts)
        else:
            check_not_traced(found.captured)
        return found

    def _trace(self, flat: Sequence[Array], structure: Any, by_position: dict, by_name: dict) -> Traced:
        out_structure: Any = None

        def function(*arguments):
            nonlocal out_structure
            dynamic, named = tree.unflatten(structure, arguments)
            rest = iter(dynamic)
            count = len(dynamic) + len(by_position)
            args = [by_position[i] if i in by_position else next(rest) for i in range(count)]
            output = self._fun(*args, **named, **by_name)
            outputs, out_structure, _ = unwrap_outputs(output, False, "jit")
            return outputs

        program, captured = stage_closed(function, [x.aval for x in flat], self._name)
        return Traced(program, captured, out_structure)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_interpreter() is ground:
            for short_way in self._short_ways:
                results = short_way(args, kwargs)
                if results is not NO_SHORT_WAY:
                    return results
        flat, key, parts = self._signature(args, kwargs)
        traced = self._traced(flat, key, parts)
        if current_interpreter() is ground and not traced.captured:  # what the call comes to, without the way there
            execute = compile_program(traced.program, **self._compiler)
            if self._donate_argnums != () and traced.calls < CALLS_BEFORE_SHORT_WAY:
                results = self._first_donation(traced, args, kwargs)
                if results is not NO_SHORT_WAY:
                    return results
            results = [*map(ConcreteArray, execute(*[x._data for x in flat]))]
            self._remember(traced, args, kwargs)
        else:
            results = call(*traced.captured, *flat, program=traced.program, **self._compiler)
        if self._donate_argnums != ():
            self._donate(args, results)
        return self._packed(traced, results)

    def _packed(self, traced: Traced, results: Sequence[Array]) -> Any:
        """The results as the function gives them."""
        if traced.has_weak_results:
            results = weak_again(results, traced.program.out_avals)
        return results[0] if traced.out_structure is LEAF else tree.unflatten(traced.out_structure, results)

    def _remember(self, traced: Traced, args: tuple, kwargs: dict) -> None:
        """Keep a short way for the next arguments like these, from the second call on."""
        traced.calls += 1
        if traced.calls == CALLS_BEFORE_SHORT_WAY:
            traced.short_way = self._short_way(traced, args, kwargs)
        self._use_short_way(traced)

    def _first_donation(self, traced: Traced, args: tuple, kwargs: dict) -> Any:
        """One of the first calls by a short way, since the usual one has no results in the memory of arguments."""
        way = self._short_way(traced, args, kwargs)
        results = NO_SHORT_WAY if way is None else way(args, kwargs)
        if results is not NO_SHORT_WAY:
            traced.calls += 1
            if traced.calls == CALLS_BEFORE_SHORT_WAY:
                traced.short_way = way
            self._use_short_way(traced)
        return results

    def _use_short_way(self, traced: Traced) -> None:
        if traced.short_way is not None and traced.short_way not in self._short_ways:
            self._short_ways = (traced.short_way, *self._short_ways[: MOST_SHORT_WAYS - 1])
            _with_short_ways.add(self)

    def _forget_short_ways(self) -> None:
        self._short_ways = ()
        for traced in list(self._cache.values()):
            traced.calls, traced.short_way = 0, None

    def _short_way(self, traced: Traced, args: tuple, kwargs: dict) -> ShortWay | None:
        """A way that reads the arguments with native code; None if there is none."""
        if "funcgrad.compiler.bridge" not in sys.modules:
            return None  # nothing native has been compiled yet, and to load what that takes would not pay
        bridge = import_module("funcgrad.compiler.bridge")
        _, _, by_position, by_name = self._split_static(args, kwargs)
        same_args = tuple([bridge.Same(x) if i in by_position else x for i, x in enumerate(args)])
        trees = (same_args, {name: bridge.Same(x) if name in by_name else x for name, x in kwargs.items()})
        donated: list[bool] = []
        if self._donate_argnums != ():
            positions = normalize_positions(self._donate_argnums, len(args), "donate_argnums")
            leaves = [(x, i in positions) for i, arg in enumerate(same_args) for x in tree.leaves(arg)]
            leaves += [(x, False) for x in tree.leaves(trees[1])]
            donated = [given for x, given in leaves if type(x) is not bridge.Same]
        return self._way_of(bridge, traced, trees, donated)

    def _way_of(self, bridge: Any, traced: Traced, trees: tuple, donated: Sequence[bool]) -> ShortWay | None:
        execute, structure = compile_program(traced.program, **self._compiler), traced.out_structure
        avals = traced.program.out_avals
        whole = bridge.tree_callable(execute, trees, structure, [x.weak_type for x in avals], NO_SHORT_WAY, donated)
        if whole is not None:  # the Program is one native function
            return whole
        read, make = bridge.tree_reader(trees, NO_SHORT_WAY), bridge.tree_maker(avals, structure, NO_SHORT_WAY)
        if read is None:
            return None

        def way(args: tuple, kwargs: dict) -> Any:
            buffers = read(args, kwargs)
            if buffers is NO_SHORT_WAY:
                return buffers
            results = execute(*buffers)
            if donated:
                self._donate(args, ())
            made = NO_SHORT_WAY if make is None else make(*results)
            return self._packed(traced, [*map(ConcreteArray, results)]) if made is NO_SHORT_WAY else made

        return way

    def _donate(self, args: tuple, results: Sequence[Array]) -> None:
        """Give up the buffers of donated arguments: whoever uses one again gets an error that says so."""
        kept = {id(x) for x in results}
        for position in normalize_positions(self._donate_argnums, len(args), "donate_argnums"):
            for x in tree.leaves(args[position]):
                if type(x) is ConcreteArray and id(x) not in kept and not x.is_deleted():
                    x.delete()

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Trace for these arguments (arrays, or `fg.ShapeDtypeStruct`s in their place) without running."""
        stand_in = tree.map(lambda x: zeros_like(x) if isinstance(x, AbstractArray) else x, (args, kwargs))
        flat, key, parts = self._signature(*stand_in)
        return Lowered(self._traced(flat, key, parts), parts[0], self._compiler)

    def clear_cache(self) -> None:
        """Forget all traces."""
        self._cache.clear()
        self._short_ways = ()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # A jitted method gets its instance as the first argument, as any function does.
        return self if instance is None else partial(self, instance)


_with_short_ways: WeakSet[JitFunction] = WeakSet()


def _forget_all_short_ways(_: Any) -> None:
    for function in list(_with_short_ways):
        function._forget_short_ways()


# A short way leads to code that was made by the compiler and for the vectors of its time.
config.watch("compiler", _forget_all_short_ways)
config.watch("vector_bits", _forget_all_short_ways)


def jit(
    fun: Callable | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    compiler: str | None = None,
) -> Any:
    """Compile a function: trace it once for each signature of its arguments, and run the Program from then on.

    The function must be pure: what it prints or changes happens while it is traced, and not again.

    Arguments:
        fun: a function of arrays or pytrees. Without it, gives a decorator.
        static_argnums: positions of arguments that are Python values to specialise on; they must be hashable.
        static_argnames: the same by name.
        donate_argnums: positions of arguments whose memory may be reused for results; they cannot be used afterwards.
            Memory that anything else sees, such as a NumPy view of an argument, is not reused.
        compiler: "default" for that of `fg.config.compiler`, or "reference" to run the Program just as it was traced.

    Returns:
        The compiled function, with `lower(*args)` to look at its Program and `clear_cache()`.

    Raises:
        TracedValueError: while tracing, if Python needs the value of an argument, as `if x > 0:` does.
        ArgumentTypeError: if an argument is neither an array nor a registered pytree, or a static one has no hash.
        ArgumentError: if there is no such compiler.

    Example:
        >>> import funcgrad as fg
        >>> @fg.jit
        ... def f(x):
        ...     return fg.numpy.sin(x) ** 2
        >>> f(fg.array(0.0))
        Array(0., dtype=float32)
    """
    if compiler is not None and compiler not in COMPILERS:
        raise ArgumentError(f"jit has no compiler {compiler!r}; choose one of {', '.join(map(repr, COMPILERS))}.")
    if fun is None:
        return partial(
            jit,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            donate_argnums=donate_argnums,
            compiler=compiler,
        )
    if not callable(fun):
        raise ArgumentError(f"jit needs a function, and got {type(fun).__name__}.")
    return JitFunction(fun, static_argnums, static_argnames, donate_argnums, compiler)


def make_program(fun: Callable, static_argnums: int | Sequence[int] = ()) -> Callable[..., Program]:
    """A function that gives the Program of `fun` for its arguments: what `fun` does, as data that can be printed.

    Arguments:
        fun: a function of arrays or pytrees.
        static_argnums: positions of arguments that are Python values to specialise on.

    Returns:
        A function of the same arguments (or `fg.ShapeDtypeStruct`s in their place) giving a `Program`, whose inputs
        are the leaves of the arguments.

    Example:
        >>> import funcgrad as fg
        >>> program = fg.make_program(lambda x: x * 2.0)(fg.array([1.0, 2.0]))
        >>> len(program.equations)
        1
    """
    lowering = JitFunction(fun, static_argnums, (), ())

    def program_of(*args: Any, **kwargs: Any) -> Program:
        return lowering.lower(*args, **kwargs).program

    return update_wrapper(program_of, fun)


def eval_shape(fun: Callable, *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of what `fun` returns, found without computing anything.

    Arguments:
        fun: a function of arrays or pytrees.
        args, kwargs: its arguments, or `fg.ShapeDtypeStruct`s in place of arrays.

    Returns:
        A pytree like the result, with a `ShapeDtypeStruct` for each array.

    Example:
        >>> import funcgrad as fg
        >>> fg.eval_shape(lambda x: x @ x.T, fg.ShapeDtypeStruct((2, 3), fg.float32))
        float32[2,2]
    """
    lowered = JitFunction(fun, (), (), ()).lower(*args, **kwargs)
    return tree.unflatten(lowered._traced.out_structure, [x.strong() for x in lowered.program.out_avals])
