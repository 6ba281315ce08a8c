"""What a network is made of, layer by layer: shapes, parameters, and the operations that a call takes.

Nothing is computed for it. The network runs with placeholders of the right shapes, as under `eval_shape`, and inside of
that an interpreter counts operations. To know which layer they belong to, the network that runs is a copy, whose layers
are of classes that tell the interpreter when a call begins and ends.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from funcgrad import tree
from funcgrad.annotations import Array, Key, Real
from funcgrad.core import Interpreter, Primitive, current_interpreter
from funcgrad.nn.module import Module, static_field
from funcgrad.program import Program, programs_in
from funcgrad.transforms.jit import eval_shape

# Primitives that only move or make numbers, or say how derivatives go on.
_FREE = frozenset(
    {
        "axis_index",
        "axis_size",
        "broadcast_in_dim",
        "checkpoint_name",
        "complex",
        "concatenate",
        "convert",
        "convert_weak",
        "dynamic_slice",
        "dynamic_update_slice",
        "gather",
        "imag",
        "iota",
        "pad",
        "real",
        "reshape",
        "rev",
        "scatter_add",
        "scatter_max",
        "scatter_min",
        "scatter_mul",
        "scatter_set",
        "select",
        "slice",
        "stop_gradient",
        "threefry2x32",
        "transpose",
    }
)


def _flops_of(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any], results: Sequence[Any]) -> int:
    """The floating point operations of one primitive; `operands` and `results` need only have shapes."""
    programs = programs_in(params)
    if programs:
        costs = [_flops_of_program(program) for program in programs]
        return max(costs) if primitive.name == "cond" else sum(costs) * params.get("length", 1)
    name, size = primitive.name, sum(math.prod(x.shape) for x in results)
    if name in _FREE:
        return 0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * size * math.prod(operands[0].shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, outputs = operands[1].shape, params["dimension_numbers"].rhs_spec[0]
        return 2 * size * math.prod(kernel) // max(kernel[outputs], 1)
    if name.startswith("reduce_window"):
        return size * math.prod(params["window_dimensions"])
    if name.startswith(("reduce_", "arg", "cum", "sort", "top_k")):
        return sum(math.prod(x.shape) for x in operands)
    return size


def _flops_of_program(program: Program) -> int:
    return sum(_flops_of(e.primitive, e.operands, e.params, e.results) for e in program.equations)


class FlopCounter(Interpreter):
    """An interpreter that counts floating point operations while a function runs.

    A product and a sum count as two, so that a matrix product of m by k and k by n counts 2 m k n; every other function
    of a number, also a difficult one, counts as one; and moving numbers counts nothing. A loop counts as many times as
    it runs, but a `while_loop`, which cannot know, once; of the branches of `cond`, the longest counts.

    Attributes:
        flops: the number so far.

    Example:
        >>> import funcgrad as fg
        >>> with fg.nn.FlopCounter() as counter:
        ...     y = fg.numpy.ones((2, 3)) @ fg.numpy.ones((3, 4))
        >>> counter.flops
        48
    """

    transform = "FlopCounter"

    def __init__(self) -> None:
        self.flops = 0

    def interpret(self, primitive: Primitive, operands: Sequence[Array], params: dict[str, Any]) -> Any:
        """Count, and hand on."""
        results = primitive(*operands, **params)
        given = results if primitive.multiple_results else [results]
        self.flops += _flops_of(primitive, operands, params, given)
        return results


def count_flops(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """How many floating point operations a call of a function takes; see `FlopCounter` for what counts.

    Arguments:
        function: a function of arrays, or a module.
        args, kwargs: its arguments, of which only shapes and dtypes matter. Those that are no arrays must be hashable.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.Linear(10, 5, key=fg.random.key(0), use_bias=False)
        >>> fg.nn.count_flops(layer, fg.numpy.ones((32, 10)))
        3200
    """
    counter = FlopCounter()

    def counted(args: Any, kwargs: Any) -> Any:
        with counter:
            return function(*args, **kwargs)

    eval_shape(counted, args, kwargs)
    return counter.flops


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A row of `layer_table`: one layer, in one of its calls.

    Attributes:
        name: its fields and numbers on the way from the network, joined by dots; empty for the network itself.
        kind: its class.
        outputs: the shapes of the arrays that it gave, or None if it was not called.
        parameters: how many numbers its parameters have, with those of layers inside it.
        flops: how many operations its call took, with those of layers inside it.
    """

    name: str
    kind: str
    outputs: tuple[tuple[int, ...], ...] | None
    parameters: int
    flops: int


class _LayerCounter(FlopCounter):
    """Also knows which layer is being called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[tuple[int, ...], ...], int]] = []


def _layer_counter() -> _LayerCounter | None:
    """The counter around the next operation, if there is one."""
    interpreter = current_interpreter()
    while not isinstance(interpreter, _LayerCounter):
        interpreter = getattr(interpreter, "parent", None)
        if interpreter is None:
            return None
    return interpreter


@cache
def _watched_class(cls: type[Module]) -> type[Module]:
    """The class of copies of a layer that tell the counter about their calls."""
    original: Any = cls.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        name, counter = self.name_in_summary, _layer_counter()
        if counter is None:
            return original(self, *args, **kwargs)
        row, before = len(counter.calls), counter.flops
        counter.calls.append((name, (), 0))  # in the order in which calls begin
        result = original(self, *args, **kwargs)
        shapes = tuple(leaf.shape for leaf in tree.leaves(result) if isinstance(leaf, Array))
        counter.calls[row] = (name, shapes, counter.flops - before)
        return result

    # The name is a field, so that it goes wherever the layer goes: through transforms, and into changed copies.
    body = {"__annotations__": {"name_in_summary": str}, "name_in_summary": static_field(default=""), "__call__": call}
    watched = type(cls)(cls.__name__, (cls,), {**body, "__module__": cls.__module__, "__doc__": cls.__doc__})
    watched.__qualname__ = cls.__qualname__
    return watched


def _layers(node: Any, path: str = "") -> list[tuple[str, Module]]:
    """All modules of a tree with their names, outer ones first."""
    found: list[tuple[str, Module]] = []
    if isinstance(node, Module):
        found.append((path, node))
        names = [field.name for field in dataclasses.fields(node) if field.name not in node._static_names]
        children = [(name, getattr(node, name)) for name in names]
    elif isinstance(node, (tuple, list)):
        children = [(str(i), child) for i, child in enumerate(node)]
    elif isinstance(node, dict):
        children = [(str(name), child) for name, child in node.items()]
    else:
        return found
    for name, child in children:
        found += _layers(child, f"{path}.{name}" if path else name)
    return found


def _watched(node: Any, path: str = "") -> Any:
    """A copy of a tree in which the modules that can be called tell of their calls."""

    def inner(name: Any, child: Any) -> Any:
        return _watched(child, f"{path}.{name}" if path else str(name))

    if isinstance(node, Module):
        cls: Any = type(node)
        copy = object.__new__(_watched_class(cls) if callable(node) else cls)
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            object.__setattr__(
                copy, field.name, value if field.name in node._static_names else inner(field.name, value)
            )
        if type(copy) is not cls:
            object.__setattr__(copy, "name_in_summary", path)
        return copy
    if type(node) in (tuple, list):
        return type(node)(inner(i, child) for i, child in enumerate(node))
    if type(node) is dict:
        return {name: inner(name, child) for name, child in node.items()}
    return node


def layer_table(module: Module, *example: Any, key: Key | None = None) -> list[LayerRow]:
    """What `summary` prints, as a list of rows.

    Arguments:
        module: a network.
        example: what it is called with; only shapes and dtypes matter.
        key: a random key, for networks that need one.

    Returns:
        A row for each call of each layer, in the order in which the calls begin, and rows without output shapes for
        layers that were not called. The first row is the network itself.

    Example:
        >>> import funcgrad as fg
        >>> network = fg.nn.MLP(2, 1, width=8, depth=1, key=fg.random.key(0))
        >>> for row in fg.nn.layer_table(network, fg.numpy.ones((5, 2))):
        ...     print(row.name or "all", row.kind, row.outputs, row.parameters)
        all MLP ((5, 1),) 33
        layers.0 Linear ((5, 8),) 24
        layers.1 Linear ((5, 1),) 9
    """
    counter = _LayerCounter()

    def run(module: Any, example: Any, key: Any) -> Any:
        watched = _watched(module)
        with counter:
            return watched(*example) if key is None else watched(*example, key=key)

    eval_shape(run, module, example, key)
    layers = dict(_layers(module))
    sizes = {name: sum(math.prod(x.shape) for x in tree.leaves(layer)) for name, layer in layers.items()}
    rows = [
        LayerRow(name, type(layers[name]).__name__, shapes, sizes[name], flops) for name, shapes, flops in counter.calls
    ]
    called = {row.name for row in rows}
    return rows + [
        LayerRow(name, type(layer).__name__, None, sizes[name], 0)
        for name, layer in layers.items()
        if name not in called and sizes[name] and not any(name.startswith(f"{other}.") for other in called - {""})
    ]


def summary(module: Module, *example: Any, key: Key | None = None) -> None:
    """Prints a table of the layers of a network: output shapes, parameters, and operations.

    Each line includes what is inside of the layer; see `layer_table` for the same as data. Layers that have no
    parameters, do nothing and keep the shape have no line.

    Arguments:
        module: a network.
        example: what it is called with; only shapes and dtypes matter, and nothing is computed.
        key: a random key, for networks that need one.

    Example:
        >>> import funcgrad as fg
        >>> network = fg.nn.MLP(64, 10, width=256, depth=1, key=fg.random.key(0))
        >>> fg.nn.summary(network, fg.numpy.ones((32, 64)))
        layer       kind    output     parameters      FLOPs
        ----------------------------------------------------
        MLP                 (32, 10)       19,210  1,229,120
          layers.0  Linear  (32, 256)      16,640  1,056,768
          layers.1  Linear  (32, 10)        2,570    164,160
        ----------------------------------------------------
        parameters: 19,210 (75.0 KiB), FLOPs: 1,229,120
    """
    rows = layer_table(module, *example, key=key)
    cells = [("layer", "kind", "output", "parameters", "FLOPs")]
    before = None
    for row in rows:
        if row.parameters or row.flops or row.outputs != before:  # else it did nothing, like a dropout of rate 0
            outputs = "-" if row.outputs is None else ", ".join(map(str, row.outputs))
            first = (f"  {row.name}", row.kind) if row.name else (row.kind, "")
            flops = "-" if row.outputs is None else f"{row.flops:,}"
            cells.append((first[0], first[1], outputs, f"{row.parameters:,}", flops))
        before = row.outputs
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    rule = "-" * (sum(widths) + 8)
    for number, line in enumerate(cells):
        if number == 1:
            print(rule)
        left = [text.ljust(width) for text, width in zip(line[:3], widths, strict=False)]
        right = [text.rjust(width) for text, width in zip(line[3:], widths[3:], strict=True)]
        print("  ".join(left + right).rstrip())
    print(rule)
    size = sum(leaf.nbytes for leaf in tree.leaves(module))
    print(f"parameters: {rows[0].parameters:,} ({_bytes(size)}), FLOPs: {rows[0].flops:,}")


def _bytes(count: Real) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
