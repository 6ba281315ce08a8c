"""Trees as the bridge's builtin sees them: records of what it has to find in its arguments, and of what it has to make.

A record is a table of words of 8 bytes, each a number or the address of an object or of another record. What they point
to has to be kept alive by whoever has the records, which is what `kept` is for.
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from types import MemberDescriptorType
from typing import Any

import numpy

from funcgrad import dtypes, tree
from funcgrad.array import ConcreteArray, WeakArray
from funcgrad.compiler.bridge.code import CONVERTED, DICT, LEAF, LIST, NAMED_TUPLE, NODE, OBJECT, SAME, TUPLE


def record(names: dict[str, int], **values: int) -> list[int]:
    """The words of a record with these names; those without a value are 0."""
    return [values.get(name, 0) for name in names]


class Table:
    """Words in memory, which stay where they are for as long as this object lives."""

    __slots__ = ("_words", "address")

    def __init__(self, words: Iterable[int]):
        self._words = array("q", words)  # which is quicker to make than one of NumPy
        self.address = self._words.buffer_info()[0]


class Same:
    """Stands in a tree of arguments for a value that has to be this very object."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class Result:
    """Stands in a tree of results for an array.

    Arguments:
        place: which it is: a number of an input, or the number of inputs and the number of an output.
        shape, dtype: its shape and dtype.
        wrapper: the class to wrap it in; None to give the buffer.
    """

    __slots__ = ("dtype", "place", "shape", "wrapper")

    def __init__(self, place: int, shape: tuple[int, ...], dtype: numpy.dtype, wrapper: type[ConcreteArray] | None):
        self.place, self.shape, self.dtype, self.wrapper = place, shape, dtype, wrapper


CONVERTIBLE = frozenset({bool, int, float, complex, numpy.ndarray, *(x.type for x in dtypes.ALL)})
"""Types of which every object becomes an array, unless something is wrong with it."""


class UnknownNodeError(Exception):
    """The builtin does not know how to look into an object."""


class TreeRecords:
    """The records of trees that are like a given one.

    The builtin knows tuples, named tuples, lists, dicts with strings or integers as keys, and registered dataclasses.

    Arguments:
        example: a tree of arrays, numbers, NumPy's arrays, None and `Same` objects that is to be read, or one of
            `Result`s that is to be made.

    Attributes:
        root: the address of the record of the whole.
        leaves: the arrays, and what becomes one, from left to right.
        kept: what the records refer to.

    Raises:
        UnknownNodeError: there is something else in the tree.
    """

    def __init__(self, example: Any, is_read: bool):
        self.is_read = is_read
        self.leaves: list[Any] = []
        self.kept: list[Any] = []
        self.root = self._table(self._node(example))

    def _table(self, words: Iterable[int]) -> int:
        table = Table(words)
        self.kept.append(table)
        return table.address

    def _node(self, x: Any) -> list[int]:
        kind = type(x)
        if kind is Result:
            self.kept += [x.shape, x.dtype, x.wrapper]
            wrapper = 0 if x.wrapper is None else id(x.wrapper)
            return record(NODE, kind=LEAF, place=x.place, wrapper=wrapper, dtype=id(x.dtype), shape=id(x.shape))
        if kind is ConcreteArray or kind is WeakArray:
            if type(x._data) is not numpy.ndarray:
                raise UnknownNodeError
            self.leaves.append(x)
            return record(NODE, kind=LEAF)
        if kind in CONVERTIBLE:
            self.leaves.append(x)
            return record(NODE, kind=CONVERTED, type=id(kind))
        if kind is Same or x is None:
            value = None if x is None else x.value
            self.kept.append(value)
            return record(NODE, kind=SAME, same=id(value))
        if kind is tuple or kind is list:
            return self._inner(TUPLE if kind is tuple else LIST, kind, x)
        if kind is dict and {type(key) for key in x} in ({str}, {int}, set()):
            keys = sorted(x) if self.is_read else [*x]  # a new dict has the order that it had
            return self._inner(DICT, kind, [x[key] for key in keys], keys)
        if tree.is_named_tuple(kind):
            return self._inner(NAMED_TUPLE, kind, x)
        fields = tree.fields_of(kind)
        if fields is None or not has_plain_fields(kind, fields[0]):
            raise UnknownNodeError
        data, static = fields
        values = [*(getattr(x, name) for name in data), *(Same(getattr(x, name)) for name in static)]
        return self._inner(OBJECT, kind, values, [*data, *static])

    def _inner(self, kind: int, cls: type, children: Sequence[Any], keys: Sequence[Any] = ()) -> list[int]:
        nodes = [self._node(x) for x in children]
        self.kept += [cls, keys]
        below, names = self._table(chain.from_iterable(nodes)), self._table(map(id, keys))
        return record(NODE, kind=kind, type=id(cls), count=len(nodes), children=below, keys=names)


def has_plain_fields(cls: type, names: Sequence[str]) -> bool:
    """Whether objects of a class hold their fields themselves, so that to look at them runs no code of the user."""
    if cls.__getattribute__ is not object.__getattribute__:
        return False
    found = [inspect.getattr_static(cls, name, None) for name in names]
    return all(type(x) is MemberDescriptorType or not hasattr(x, "__get__") for x in found)
