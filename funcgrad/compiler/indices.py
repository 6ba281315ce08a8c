"""Where in memory an element is, as a formula of the loops around it.

An `Index` is a sum of loop variables with factors. Element `[i, j]` of an array of shape (8, 5) is at the place
`5*i + j`, and the element `[j, i]` of its transpose is, too. So a movement of data is arithmetic on indices:

    i, j = axis_index(Axis(8, "i")), axis_index(Axis(5, "j"))
    place = flatten((i, j), (8, 5))
    print(place)                     # 5*i + j
    print(unflatten(place, (8, 5)))  # (i, j)
    print(quotient(place, 5))        # i

Indices are interned, as expressions are.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from funcgrad.compiler.expressions import INT64, TABLES, Axis, Buffer, Expression, convert, expression, expression_text


class Index:
    """A whole number that depends on loops: a constant plus a sum of atoms with whole factors.

    An atom is an `Axis`, or an `Expression` of dtype int64 such as a number loaded from memory. Add indices with `+`,
    multiply them by numbers with `*`; `quotient` and `remainder` divide where that is exact and note it otherwise.
    """

    __slots__ = ("axes", "constant", "terms")

    terms: tuple[tuple[Any, int], ...]
    constant: int
    axes: frozenset[Axis]

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return _index(self.terms, self.constant + other) if other else self
        if not other.terms:
            return self + other.constant
        factors = dict(self.terms)
        for atom, factor in other.terms:
            factors[atom] = factors.get(atom, 0) + factor
        return _from_factors(factors, self.constant + other.constant)

    def __mul__(self, factor: int) -> Index:
        if factor == 1:
            return self
        return _index(tuple((atom, f * factor) for atom, f in self.terms) if factor else (), self.constant * factor)

    def factor(self, axis: Axis) -> int | None:
        """By how much the index grows with each step of `axis`; None if that is not always the same."""
        if axis not in self.axes:
            return 0
        found = 0
        for atom, factor in self.terms:
            if atom is axis:
                found = factor
            elif type(atom) is not Axis and axis in atom.axes:
                return None
        return found

    def own_factor(self, axis: Axis) -> int | None:
        """The same, but for what numbers loaded from memory add to it."""
        found = 0
        for atom, factor in self.terms:
            if atom is axis:
                found = factor
            elif is_divided(atom) and atom.operands[0].payload.own_factor(axis) != 0:
                return None
        return found

    def divisions(self, axes: Set[Axis]) -> int:
        """How many quotients and remainders depend on some axes."""
        return sum(
            1 + atom.operands[0].payload.divisions(axes)
            for atom, _ in self.terms
            if is_divided(atom) and not atom.axes.isdisjoint(axes)
        )

    @property
    def is_computed(self) -> bool:
        """Whether numbers loaded from memory are part of it."""
        return any(
            atom.operands[0].payload.is_computed if is_divided(atom) else True
            for atom, _ in self.terms
            if type(atom) is not Axis
        )

    def bounds(self) -> tuple[int, int] | None:
        """The least and the greatest value that it can have; None if unknown."""
        low = high = self.constant
        for atom, factor in self.terms:
            limits = (0, atom.extent - 1) if type(atom) is Axis else atom.limits
            if limits is None:
                return None
            ends = limits[0] * factor, limits[1] * factor
            low, high = low + min(ends), high + max(ends)
        return low, high

    def replaced(self, values: dict[Axis, Index]) -> Index:
        """With other indices in place of axes, also inside of what was divided."""
        if self.axes.isdisjoint(values):
            return self
        total = constant_index(self.constant)
        for atom, factor in self.terms:
            if type(atom) is Axis:
                new = values.get(atom) or _index(((atom, 1),), 0)
            elif atom.operation in ("quotient", "remainder"):
                divide = quotient if atom.operation == "quotient" else remainder
                new = divide(atom.operands[0].payload.replaced(values), atom.payload)
            else:
                new = _index(((atom, 1),), 0)
            total = total + new * factor
        return total

    def __str__(self) -> str:
        parts = [(f"{factor}*" if factor != 1 else "") + _atom_text(atom) for atom, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts).replace("+ -", "- ")

    __repr__ = __str__


def is_divided(atom: Any) -> bool:
    """Whether an atom is the quotient or the remainder of another index."""
    return type(atom) is not Axis and atom.operation in ("quotient", "remainder")


_indices: dict[Any, Index] = {}
TABLES.append(_indices)


def _index(terms: tuple[tuple[Any, int], ...], constant: int) -> Index:
    key = (terms, constant)
    found = _indices.get(key)
    if found is None:
        found = _indices[key] = Index()
        found.terms, found.constant = terms, constant
        axes: frozenset[Axis] = frozenset()
        for atom, _ in terms:
            axes |= {atom} if type(atom) is Axis else atom.axes
        found.axes = axes
    return found


def _from_factors(factors: dict[Any, int], constant: int) -> Index:
    # What was divided, and the remainder, together are what there was before: e * (m // e) + m % e == m.
    for atom in list(factors):
        if type(atom) is not Axis and atom.operation == "remainder" and factors[atom]:
            whole, divisor = atom.operands[0], atom.payload
            divided = expression("quotient", INT64, (whole,), divisor)
            if factors.get(divided) == factors[atom] * divisor:
                scale = factors[atom]
                factors[atom] = factors[divided] = 0
                for inner, factor in whole.payload.terms:
                    factors[inner] = factors.get(inner, 0) + factor * scale
                constant += whole.payload.constant * scale
    terms = sorted([x for x in factors.items() if x[1]], key=lambda x: x[0].serial)
    return _index(tuple(terms), constant)


def constant_index(value: int) -> Index:
    """The index that is always `value`."""
    return _index((), value)


def axis_index(axis: Axis) -> Index:
    """The index that is the value of a loop variable."""
    return _index(((axis, 1),), 0) if axis.extent > 1 else constant_index(0)


def index_of(value: Expression, limits: tuple[int, int] | None = None) -> Index:
    """A computed whole number as an index, with the least and greatest value that it can have."""
    if value.operation == "index":
        return value.payload
    value = convert(value, INT64)
    if limits is not None:
        value = expression("bounded", INT64, (value,), limits)
    return _index(((value, 1),), 0)


def _divide(index: Index, divisor: int) -> tuple[Index, Index]:
    """The index as a multiple of the divisor, divided by it, and what is left."""
    multiple = [(atom, factor // divisor) for atom, factor in index.terms if factor % divisor == 0]
    rest = [(atom, factor) for atom, factor in index.terms if factor % divisor]
    return _index(tuple(multiple), index.constant // divisor), _index(tuple(rest), index.constant % divisor)


def quotient(index: Index, divisor: int) -> Index:
    """`index // divisor`, for an index that is not negative; the index itself where there is nothing to divide."""
    if divisor <= 1:
        return index
    exact, rest = _divide(index, divisor)
    limits = rest.bounds()
    if limits is not None and limits[0] >= 0 and limits[1] < divisor:
        return exact
    # Dividing the whole and not only the rest, so that the remainder finds its quotient again.
    return _index(((expression("quotient", INT64, (index_value(index),), divisor), 1),), 0)


def remainder(index: Index, divisor: int) -> Index:
    """`index % divisor`, for an index that is not negative; zero where there is nothing to divide."""
    if divisor <= 1:
        return constant_index(0)
    _, rest = _divide(index, divisor)
    limits = rest.bounds()
    if limits is not None and limits[0] >= 0 and limits[1] < divisor:
        return rest
    return _index(((expression("remainder", INT64, (index_value(index),), divisor), 1),), 0)


def flatten(indices: Sequence[Index], shape: Sequence[int]) -> Index:
    """The place of an element in memory, where the last axis is the fastest."""
    total = constant_index(0)
    for index, length in zip(indices, shape, strict=True):
        total = total * length + index
    return total


def unflatten(place: Index, shape: Sequence[int]) -> tuple[Index, ...]:
    """The indices of the element at a place in memory: the inverse of `flatten`."""
    indices = []
    for length in reversed(shape[1:]):
        indices.append(remainder(place, length))
        place = quotient(place, length)
    if shape:
        indices.append(place if shape[0] != 1 else constant_index(0))
    return tuple(reversed(indices))


def load(buffer: Buffer, index: Index) -> Expression:
    """The element of a buffer at a place in memory."""
    return expression("load", buffer.dtype, (), (buffer, index))


def index_value(index: Index) -> Expression:
    """An index as a number of dtype int64."""
    return expression("index", INT64, (), index)


def _atom_text(atom: Any) -> str:
    if type(atom) is Axis:
        return atom.name
    if atom.operation in ("quotient", "remainder"):
        return f"({atom.operands[0].payload}){'//' if atom.operation == 'quotient' else '%'}{atom.payload}"
    return expression_text(atom)
