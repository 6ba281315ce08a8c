"""einsum: sums of products, written with a letter for each axis.

A call is first planned: letters and shapes decide everything, so the plan is made once and kept. A plan takes one or
two operands at a time. Each operand is prepared on its own (diagonals for letters that it repeats, sums over letters
that nobody else needs); two prepared operands are then multiplied, by `dot_general` where letters are summed, and
by a broadcasting product where none are. With three or more operands opt_einsum chooses the order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.array import Array, as_array
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.numpy.reductions import refuse_out
from funcgrad.primitives import elementwise as e
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.movement import slice_
from funcgrad.primitives.operators import cast, promote
from funcgrad.primitives.shapes import reduce_sum, reshape, transpose

# A label is a letter, or for an axis that an ellipsis stands for, its negative position from the end.
Label = str | int
Labels = tuple[Label, ...]
Operation = Callable[[Array], Array]


class Step(NamedTuple):
    """Takes operands out of the list, and appends their combination."""

    positions: tuple[int, ...]
    prepare: tuple[tuple[Operation, ...], ...]  # for each of the operands
    combine: Callable[[Array, Array], Array] | None  # None where there is only one
    finish: tuple[Operation, ...]


def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: Any = "auto",
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """Sums of products, by Einstein's convention.

    Arguments:
        subscripts: the letters of the axes of each operand, as in "ij,jk->ik". Letters that do not occur after the
            arrow are summed. Without an arrow, the letters that occur once stay, in alphabetical order. `...` stands
            for any axes, which broadcast. Instead of this, operands and lists of integers may alternate:
            `einsum(x, [0, 1], y, [1, 2], [0, 2])`.
        operands: arrays.
        out: refused, since arrays are immutable.
        optimize: how the order of products is chosen: a strategy of opt_einsum, a list of pairs of positions, or
            False for left to right.
        precision: of no consequence: products are always computed in full precision.
        preferred_element_type: the dtype in which to compute.

    Raises:
        ArgumentError: if the subscripts do not fit the operands.
        ShapeError: if axes with one letter have different lengths.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.einsum("ij,j->i", np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
        Array([21., 43.], dtype=float32)
    """
    refuse_out("einsum", out)
    subscripts, arrays = _arguments(subscripts, operands)
    arrays = promote(*arrays)
    if preferred_element_type is not None:
        arrays = [cast(x, dtypes.canonical(preferred_element_type)) for x in arrays]
    elif dtypes.is_bool(arrays[0].dtype):
        raise ArgumentError("einsum adds and multiplies numbers, not bools; convert them with x.astype(fg.int32).")
    if isinstance(optimize, list):
        optimize = tuple(map(tuple, optimize))
    values = list(arrays)
    for step in _plan(subscripts, tuple(x.shape for x in arrays), optimize):
        taken = [values[i] for i in step.positions]
        for i in sorted(step.positions, reverse=True):
            del values[i]
        taken = [_apply(operations, x) for operations, x in zip(step.prepare, taken, strict=True)]
        result = taken[0] if step.combine is None else step.combine(*taken)
        values.append(_apply(step.finish, result))
    return values[0]


def einsum_path(subscripts: Any, /, *operands: Any, optimize: Any = "greedy") -> tuple[Any, Any]:
    """The order in which `einsum` would multiply, and a description of what that costs.

    Arguments:
        subscripts, operands: as for `einsum`.
        optimize: a strategy of opt_einsum.

    Example:
        >>> import funcgrad.numpy as np
        >>> np.einsum_path("ij,jk,kl->il", np.ones((2, 9)), np.ones((9, 9)), np.ones((9, 2)))[0]
        [(0, 1), (0, 1)]
    """
    import opt_einsum

    subscripts, arrays = _arguments(subscripts, operands)
    return opt_einsum.contract_path(subscripts, *(x.shape for x in arrays), shapes=True, optimize=optimize)


def _apply(operations: Sequence[Operation], x: Array) -> Array:
    for operation in operations:
        x = operation(x)
    return x


def _arguments(subscripts: Any, operands: Sequence[Any]) -> tuple[str, list[Array]]:
    """The subscripts as text, also where they were given as lists of integers between the operands."""
    if isinstance(subscripts, str):
        return subscripts.replace(" ", ""), [as_array(x) for x in operands]
    given = [subscripts, *operands]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def text(labels: Sequence[Any]) -> str:
        return "".join("..." if label is Ellipsis else letters[label] for label in labels)

    output = f"->{text(given.pop())}" if len(given) % 2 else ""
    return ",".join(map(text, given[1::2])) + output, [as_array(x) for x in given[::2]]


def _parse(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[Labels], Labels]:
    """The labels of each operand, and those of the result."""
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ArgumentError(
            f"einsum got {len(shapes)} operand(s) for the {len(terms)} term(s) of '{subscripts}'; give one each."
        )
    ellipsis_axes = 0

    def labels_of(term: str, ndim: int | None) -> Labels:
        nonlocal ellipsis_axes
        before, dots, after = term.partition("...")
        if not all(c.isalpha() for c in before + after):
            raise ArgumentError(f"einsum got the term '{term}' in '{subscripts}'; use letters, and '...' at most once.")
        if ndim is None:
            hidden = ellipsis_axes if dots else 0
        else:
            hidden = ndim - len(before) - len(after)
            if hidden < 0 or (hidden and not dots):
                raise ArgumentError(
                    f"einsum got the term '{term}' for an operand of {ndim} axes; give one letter for each axis."
                )
            ellipsis_axes = max(ellipsis_axes, hidden)
        return (*before, *range(-hidden, 0), *after)

    inputs = [labels_of(term, len(shape)) for term, shape in zip(terms, shapes, strict=True)]
    if arrow:
        output = labels_of(right, None)
        if len(set(output)) != len(output):
            raise ArgumentError(f"einsum got '{subscripts}', whose result names a letter twice; name each once.")
        for label in output:
            if not any(label in labels for labels in inputs):
                raise ArgumentError(f"einsum got '{subscripts}', whose result has '{label}', which no operand has.")
        if "..." not in right and ellipsis_axes:
            raise ArgumentError(
                f"einsum got '{subscripts}'; axes of '...' are not summed, so put '...' into the result."
            )
    else:
        letters = [label for labels in inputs for label in labels if isinstance(label, str)]
        output = (*range(-ellipsis_axes, 0), *sorted(c for c in set(letters) if letters.count(c) == 1))
    return inputs, output


def _sizes(inputs: Sequence[Labels], shapes: Sequence[tuple[int, ...]]) -> dict[Label, int]:
    sizes: dict[Label, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for label, length in zip(labels, shape, strict=True):
            known = sizes.get(label, 1)
            if length != known and 1 not in (length, known):
                name = "..." if isinstance(label, int) else label
                raise ShapeError(
                    f"einsum got axes '{name}' of lengths {known} and {length}; one letter needs one length."
                )
            sizes[label] = length if known == 1 else known
    return sizes


@lru_cache(maxsize=4096)
def _plan(subscripts: str, shapes: tuple[tuple[int, ...], ...], optimize: Any) -> tuple[Step, ...]:
    inputs, output = _parse(subscripts, shapes)
    sizes = _sizes(inputs, shapes)
    current: list[tuple[Labels, tuple[int, ...]]] = list(zip(inputs, shapes, strict=True))
    steps = []
    for positions in _path(inputs, output, shapes, optimize):
        taken = [current[i] for i in positions]
        current = [x for i, x in enumerate(current) if i not in positions]
        needed = {*output, *(label for labels, _ in current for label in labels)}
        step, labels = _step(tuple(positions), taken, needed, sizes, None if current else output)
        steps.append(step)
        current.append((labels, tuple(sizes[label] for label in labels)))
    return tuple(steps)


def _path(inputs: Sequence[Labels], output: Labels, shapes: Any, optimize: Any) -> list[tuple[int, ...]]:
    count = len(inputs)
    if count <= 2:
        return [tuple(range(count))]
    if optimize is False:
        return [(0, 1)] + [(0, count - k - 1) for k in range(1, count - 1)]
    import opt_einsum

    symbols: dict[Label, str] = {}

    def text(labels: Labels) -> str:
        return "".join(symbols.setdefault(label, opt_einsum.get_symbol(len(symbols))) for label in labels)

    equation = f"{','.join(map(text, inputs))}->{text(output)}"
    strategy = "auto" if optimize is True else list(optimize) if isinstance(optimize, tuple) else optimize
    path, _ = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize=strategy)
    pairs: list[tuple[int, ...]] = []
    for positions in path:
        # Three operands at once are taken two at a time; what comes of two is last in the list.
        positions = sorted(positions)
        pairs.append(tuple(positions[:2]))
        remaining, count = positions[2:], count - 1
        for taken, position in enumerate(remaining):
            pairs.append((position - 2 - taken, count - 1))
            count -= 1
    return pairs


def _prepared(
    labels: Labels, shape: tuple[int, ...], wanted: set[Label], sizes: dict[Label, int]
) -> tuple[list[Operation], Labels]:
    """Operations after which an operand has every label once, only `wanted` ones, and all in full length."""
    operations: list[Operation] = []
    while len(set(labels)) < len(labels):
        first = next(i for i, label in enumerate(labels) if label in labels[i + 1 :])
        second = labels.index(labels[first], first + 1)
        n = shape[first]
        if n != shape[second]:
            raise ShapeError(
                f"einsum takes the diagonal of axes of lengths {n} and {shape[second]}; both need one length."
            )
        rest = [i for i in range(len(labels)) if i not in (first, second)]
        outer = tuple(shape[i] for i in rest)
        operations.append(partial(transpose, permutation=(*rest, first, second)))
        operations.append(partial(reshape, shape=(*outer, n * n)))
        # In a square of side n the diagonal is every (n + 1)-th element.
        ones, zeros = (1,) * len(outer), (0,) * (len(outer) + 1)
        operations.append(partial(slice_, starts=zeros, limits=(*outer, n * n), strides=(*ones, n + 1)))
        labels, shape = (*(labels[i] for i in rest), labels[first]), (*outer, n)
    short = [i for i, label in enumerate(labels) if shape[i] != sizes[label]]
    if short:
        labels = tuple(label for i, label in enumerate(labels) if i not in short)
        shape = tuple(n for i, n in enumerate(shape) if i not in short)
        operations.append(partial(reshape, shape=shape))
    summed = tuple(i for i, label in enumerate(labels) if label not in wanted)
    if summed:
        labels = tuple(label for label in labels if label in wanted)
        operations.append(partial(reduce_sum, axes=summed))
    return operations, labels


def _product_labels(x: Labels, y: Labels, needed: set[Label]) -> Labels:
    batch = tuple(label for label in x if label in y and label in needed)
    return (*batch, *(label for label in x if label not in y), *(label for label in y if label not in x))


def _step(
    positions: tuple[int, ...], taken: Any, needed: set[Label], sizes: dict[Label, int], output: Labels | None
) -> tuple[Step, Labels]:
    """A step, and the labels of its result; the last step puts them in the order of `output`."""
    shared = set(taken[0][0]) & set(taken[-1][0]) if len(taken) == 2 else set()
    prepared = [_prepared(labels, shape, needed | shared, sizes) for labels, shape in taken]
    operations = [tuple(ops) for ops, _ in prepared]
    if len(prepared) == 1:
        labels, combine = prepared[0][1], None
    else:
        (ops_x, x), (ops_y, y) = prepared
        # An axis of length 1 may have left one side, so that its label is no longer shared.
        lost_x = tuple(i for i, label in enumerate(x) if label not in needed and label not in y)
        lost_y = tuple(i for i, label in enumerate(y) if label not in needed and label not in x)
        if lost_x:
            ops_x.append(partial(reduce_sum, axes=lost_x))
            x = tuple(label for i, label in enumerate(x) if i not in lost_x)
        if lost_y:
            ops_y.append(partial(reduce_sum, axes=lost_y))
            y = tuple(label for i, label in enumerate(y) if i not in lost_y)
        operations = [tuple(ops_x), tuple(ops_y)]
        labels = _product_labels(x, y, needed)
        contracted = [label for label in x if label in y and label not in needed]
        if contracted:
            batch = [label for label in x if label in y and label in needed]
            numbers = (
                (tuple(map(x.index, contracted)), tuple(map(y.index, contracted))),
                (tuple(map(x.index, batch)), tuple(map(y.index, batch))),
            )
            combine = partial(dot_general, dimension_numbers=numbers)
        else:
            labels = labels if output is None else output
            operations = [(*ops, *_aligned(own, labels, sizes)) for ops, own in zip(operations, (x, y), strict=True)]
            combine = e.mul
    finish: tuple[Operation, ...] = ()
    if output is not None and labels != output:
        finish = (partial(transpose, permutation=tuple(map(labels.index, output))),)
        labels = output
    return Step(positions, tuple(operations), combine, finish), labels


def _aligned(own: Labels, labels: Labels, sizes: dict[Label, int]) -> list[Operation]:
    """Operations that lay an operand's axes out in the order of `labels`, with length 1 where it has none."""
    operations: list[Operation] = []
    order = sorted(range(len(own)), key=lambda i: labels.index(own[i]))
    if order != list(range(len(own))):
        operations.append(partial(transpose, permutation=tuple(order)))
    first = next((i for i, label in enumerate(labels) if label in own), len(labels))
    shape = tuple(sizes[label] if label in own else 1 for label in labels[first:])  # leading ones come by broadcasting
    if len(shape) != len(own):
        operations.append(partial(reshape, shape=shape))
    return operations


__all__ = ["einsum", "einsum_path"]
