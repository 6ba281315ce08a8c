"""The small language in which a kernel is described: loops over axes, and what happens to single elements in them.

A kernel is data. Its body is a list of statements: `Loop`, `Store`, `Accumulate` and `Turn`. What is stored is an
`Expression` of elements that are loaded (see `expressions`); where, is an `Index` (see `indices`). `compiler.kernels`
writes kernels, `compiler.llvm` turns them into code, `str(kernel)` prints them:

    kernel(x: float32[6], y: float32[2])
      parallel for i in 2
        s = 0
        for j in 3
          s += x[3*i + j]
        y[i] = s
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from funcgrad.compiler.expressions import (
    LONGEST_LINE,
    SYMBOLS,
    Accumulator,
    Axis,
    Buffer,
    Expression,
    constant_text,
    expression_text,
    parts,
    shown_operands,
)
from funcgrad.compiler.indices import Index, load


class Loop:
    """Do `body` for all values of an axis.

    `kind` is "serial"; "vector", where several neighbours are computed at a time; "parallel", where parts of the axis
    may go to other threads (the outermost loop of a kernel); or "parallel vector".

    With `bounds`, a serial loop does it only for the values from the first up to the second of these numbers.
    """

    __slots__ = ("axis", "body", "bounds", "kind")

    def __init__(
        self, axis: Axis, body: list[Statement], kind: str = "serial", bounds: tuple[Expression, ...] | None = None
    ):
        self.axis, self.body, self.kind, self.bounds = axis, body, kind, bounds


class When:
    """Do `body` if a condition holds, which is the same for all lanes of a vector."""

    __slots__ = ("body", "condition")

    def __init__(self, condition: Expression, body: list[Statement]):
        self.condition, self.body = condition, body


class Store:
    """Put a value at a place of a buffer."""

    __slots__ = ("buffer", "index", "value")

    def __init__(self, buffer: Buffer, index: Index, value: Expression):
        self.buffer, self.index, self.value = buffer, index, value


class Accumulate:
    """Let an accumulator of the innermost loop around take in a value."""

    __slots__ = ("accumulator", "value")

    def __init__(self, accumulator: Accumulator, value: Expression):
        self.accumulator, self.value = accumulator, value


class Turn:
    """Put a square of `size` times `size` elements, read column by column, into a local buffer row by row:

    target[a*size + b] = source[index + a + stride*b]
    """

    __slots__ = ("index", "size", "source", "stride", "target")

    def __init__(self, target: Buffer, source: Buffer, index: Index, stride: int, size: int):
        self.target, self.source, self.index, self.stride, self.size = target, source, index, stride, size


class Prefetch:
    """Ask for the memory around an element, which will soon be read or written."""

    __slots__ = ("buffer", "index", "to_write")

    def __init__(self, buffer: Buffer, index: Index, to_write: bool):
        self.buffer, self.index, self.to_write = buffer, index, to_write


Statement = Loop | When | Store | Accumulate | Turn | Prefetch


class Kernel:
    """A function over buffers: `arguments` are those that it reads or writes, `written` the latter.

    If it does nothing but copy a buffer to another one, `copies` are these two.
    """

    copies: tuple[Buffer, Buffer] | None = None

    def __init__(
        self, arguments: Sequence[Buffer], written: Sequence[Buffer], body: list[Statement], name: str = "kernel"
    ):
        self.arguments, self.written, self.body, self.name = tuple(arguments), tuple(written), body, name

    @property
    def parallel(self) -> Loop | None:
        """The outermost loop, if parts of it may run at the same time."""
        first = self.body[0] if len(self.body) == 1 else None
        return first if isinstance(first, Loop) and first.kind.startswith("parallel") else None

    @cached_property
    def text(self) -> str:
        arguments = ", ".join(f"{x.name}: {x.dtype}[{x.size}]" for x in self.arguments)
        return "\n".join([f"{self.name}({arguments})", *_statement_lines(self.body, 1)])

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def statements(body: Sequence[Statement]) -> Iterator[Statement]:
    """All statements, those inside of loops too."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop | When):
            yield from statements(statement.body)


def loops_in(body: Sequence[Statement]) -> Iterator[Loop]:
    """The outermost loops in a body."""
    for statement in body:
        if isinstance(statement, Loop):
            yield statement
        elif isinstance(statement, When):
            yield from loops_in(statement.body)


def expressions_in(body: Sequence[Statement]) -> Iterator[Expression]:
    """Each expression in these statements once, and after those that it is computed from."""
    seen: set[Expression] = set()
    for statement in statements(body):
        if isinstance(statement, Prefetch):
            continue
        if isinstance(statement, Loop):
            waiting = list(statement.bounds or ())
        else:
            waiting = [statement.condition if isinstance(statement, When) else statement_value(statement)]
        if isinstance(statement, Store):
            waiting += [atom for atom, _ in statement.index.terms if type(atom) is not Axis]
        while waiting:
            x = waiting[-1]
            missing = [y for y in parts(x) if y not in seen] if x not in seen else ()
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if x not in seen:
                seen.add(x)
                yield x


def statement_value(statement: Store | Accumulate | Turn) -> Expression:
    """What a statement stores or takes in; of a square, its first element."""
    return load(statement.source, statement.index) if isinstance(statement, Turn) else statement.value


def loaded_buffers(kernel: Kernel) -> set[Buffer]:
    """The buffers that a kernel reads."""
    return {x.payload[0] for x in expressions_in(kernel.body) if x.operation == "load"}


def finished(body: list[Statement], name: str = "kernel") -> Kernel:
    """A kernel with the arguments that its statements name."""
    arguments = dict.fromkeys(x.payload[0] for x in expressions_in(body) if x.operation == "load")
    written = dict.fromkeys(x.buffer for x in statements(body) if isinstance(x, Store))
    arguments |= written
    return Kernel([x for x in arguments if not x.local], [x for x in written if not x.local], body, name)


# Printing


def _statement_lines(body: Sequence[Statement], depth: int) -> list[str]:
    indent, lines = "  " * depth, []
    names: dict[Expression, str] = {}

    def name_shared(values: Sequence[Expression]) -> None:
        """Give names to what is used more than once, so that nothing is printed twice."""
        uses: dict[Expression, int] = {}
        order: list[Expression] = []
        depth: dict[Expression, int] = {}
        waiting = list(values)
        while waiting:
            x = waiting[-1]
            missing = [y for y in shown_operands(x) if y not in depth]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if x not in depth:
                depth[x] = 1 + max([depth[y] % LONGEST_LINE for y in shown_operands(x)], default=0)
                order.append(x)
                for y in shown_operands(x):
                    uses[y] = uses.get(y, 0) + 1
        for x in values:
            uses[x] = uses.get(x, 0) + 1
        for x in order:
            simple = x.operation in ("constant", "index", "accumulated", "load") or not x.operands
            if (uses[x] > 1 or depth[x] == LONGEST_LINE) and not simple and x not in names:
                text = expression_text(x, names)
                names[x] = f"t{len(names)}"
                lines.append(f"{indent}{names[x]} = {text}")

    lasts: list[tuple[str, str]] = []
    name_shared([x.value for x in body if isinstance(x, Store | Accumulate)])
    for statement in body:
        if isinstance(statement, Loop):
            for inner in statement.body:
                if isinstance(inner, Accumulate):
                    accumulator = inner.accumulator
                    lines.append(f"{indent}{accumulator.name} = {constant_text(accumulator.initial)}")
            kind = "" if statement.kind == "serial" else f"{statement.kind} "
            values = str(statement.axis.extent)
            if statement.bounds is not None:
                values = " to ".join(expression_text(x) for x in statement.bounds)
            lines.append(f"{indent}{kind}for {statement.axis.name} in {values}")
            lines += _statement_lines(statement.body, depth + 1)
        elif isinstance(statement, When):
            lines.append(f"{indent}if {expression_text(statement.condition)}")
            lines += _statement_lines(statement.body, depth + 1)
        elif isinstance(statement, Prefetch):
            lines.append(f"{indent}soon {statement.buffer.name}[{statement.index}]")
        elif isinstance(statement, Turn):
            source = f"{statement.source.name}[{statement.index} + a + {statement.stride}*b]"
            place = f"{statement.target.name}[{statement.size}*a + b]"
            lines.append(f"{indent}{place} = {source} for a, b in {statement.size} x {statement.size}")
        elif isinstance(statement, Store):
            lines.append(
                f"{indent}{statement.buffer.name}[{statement.index}] = {expression_text(statement.value, names)}"
            )
        else:
            name, operation = statement.accumulator.name, statement.accumulator.operation
            value, symbol = expression_text(statement.value, names), SYMBOLS.get(operation)
            if operation == "last":
                lasts.append((name, value))
            elif symbol:
                lines.append(f"{indent}{name} {symbol}= {value}")
            else:
                lines.append(f"{indent}{name} = {operation}({name}, {value})")
    if lasts:  # all at once, since they may depend on each other
        lines.append(f"{indent}{', '.join(name for name, _ in lasts)} = {', '.join(value for _, value in lasts)}")
    return lines
