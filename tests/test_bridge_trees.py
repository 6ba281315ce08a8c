"""Trees of arrays on their way to native code and back: leaves are read, and trees of results are made."""

import collections
import dataclasses
import gc
import sys
import weakref
from typing import Any, NamedTuple

import numpy
import pytest
from bridge_code import FLOAT32, Layer, Pair, a_tree, array, counts

import funcgrad as fg
from funcgrad import dtypes
from funcgrad.array import ConcreteArray, WeakArray, as_array
from funcgrad.compiler import bridge

OTHERWISE = object()


def test_the_leaves_of_trees_are_read_from_left_to_right():
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    for trees in (a_tree(), a_tree()):
        buffers = read(*trees)
        assert type(buffers) is list
        assert [*map(id, buffers)] == [id(x._data) for x in fg.tree.leaves(trees)]
    assert bridge.tree_reader((), OTHERWISE)() == []


def changed(place, value):
    """A function that puts a value at a place of a tree."""

    def change(tree):
        if not place:
            return value
        first, rest = place[0], changed(place[1:], value)
        if isinstance(tree, dict):
            return tree | {first: rest(tree.get(first))}
        if isinstance(tree, (list, tuple)):
            return type(tree)([*tree[:first], rest(tree[first]), *tree[first + 1 :]])
        return dataclasses.replace(tree, **{first: rest(getattr(tree, first))})

    return change


OTHERS = {
    "a shape": changed([0, 0], array(3)),
    "a rank": changed([0, 0], array(2, 1)),
    "a dtype": changed([0, 0], array(2, dtype=numpy.int32)),
    "a weak array": changed([0, 1, "a", 0], WeakArray(numpy.array(0, FLOAT32))),
    "a strong array": changed([1, "more"], array()),
    "a number": changed([1, "more"], 1.0),
    "a NumPy array": changed([0, 0], numpy.zeros(2, FLOAT32)),
    "an array with gaps": changed([0, 0], ConcreteArray(numpy.zeros(4, FLOAT32)[::2])),
    "an array for None": changed([0, 1, "a", 1], array()),
    "None for an array": changed([0, 0], None),
    "a tuple for a list": changed([0], (array(2), a_tree()[0][1])),
    "a list for a tuple": changed([0, 1, "a"], [array(), None]),
    "a longer list": changed([0], [*a_tree()[0], None]),
    "a shorter list": changed([0], [array(2)]),
    "another key": changed([0, 1], {"b": array(3), "c": (array(), None)}),
    "one key more": changed([0, 1, "c"], None),
    "a key that is no string": changed([0, 1], {"b": array(3), 1: (array(), None)}),
    "another class": changed([1, "layer", "bias"], (array(4), array(0, 2))),
    "another static field": changed([1, "layer", "name"], "other"),
    "a tree for an array": changed([0, 0], (array(2),)),
    "something else": changed([0, 0], object()),
    "no object of a class": changed([1, "layer"], array()),
}


NUMBERS = [2.5, 0.0, -0.0, 3, True, 1j, numpy.float32(2), numpy.int64(3), numpy.ones(3), dtypes.bfloat16.type(1)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda x: f"{type(x).__name__} {x}")
def test_what_becomes_an_array_is_read_as_one(number):
    read = bridge.tree_reader((array(2), [number]), OTHERWISE)
    expected = as_array(number)
    for value in (number, type(number)(1) if numpy.ndim(number) == 0 else number * 3):
        _, buffer = read(array(2), [value])
        assert buffer.dtype is expected.dtype
        assert str(buffer) == str(as_array(value)._data) and not numpy.shares_memory(buffer, value)
    for other in NUMBERS:
        if type(other) is not type(number):
            assert read(array(2), [other]) is OTHERWISE
    assert read(array(2), [array()]) is OTHERWISE and read(array(2), [expected]) is OTHERWISE


def test_what_cannot_become_an_array_is_not_read():
    read = bridge.tree_reader((1, numpy.ones(3)), OTHERWISE)
    for _ in range(100):
        assert read(2**70, numpy.ones(3)) is OTHERWISE
        assert read(1, numpy.array(["text"])) is OTHERWISE
        assert read(1, numpy.ones(4)) is OTHERWISE
        assert read(1, None) is OTHERWISE
        assert read(1, numpy.ones(3)) is not OTHERWISE


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_trees_of_another_kind_are_not_read(change):
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    before = counts(OTHERWISE, array, Layer, Pair)
    other = change(a_tree())
    for _ in range(100):
        assert read(*other) is OTHERWISE
        assert read(*a_tree()) is not OTHERWISE
    assert all(abs(a - b) < 20 for a, b in zip(counts(OTHERWISE, array, Layer, Pair), before, strict=True))


def test_another_number_of_trees_is_not_read():
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    assert read() is OTHERWISE and read(*a_tree(), None) is OTHERWISE and read(a_tree()) is OTHERWISE


def test_an_object_without_a_field_is_not_read():
    read = bridge.tree_reader(a_tree(), OTHERWISE)
    other = a_tree()
    empty = object.__new__(Layer)
    other[1]["layer"] = empty
    assert read(*other) is OTHERWISE
    read(*a_tree())  # no error is left behind


def test_the_order_of_the_keys_of_a_dict_does_not_matter():
    x, y = array(2), array(3)
    read = bridge.tree_reader(({"b": x, "a": y},), OTHERWISE)
    assert [len(b) for b in read({"a": y, "b": x})] == [3, 2] == [len(b) for b in read({"b": x, "a": y})]


def test_what_is_the_same_has_to_be_the_same_object():
    value = ("some", "value")
    read = bridge.tree_reader((bridge.Same(value), array(2)), OTHERWISE)
    assert read(value, array(2)) is not OTHERWISE
    assert read((*value,), array(2)) is OTHERWISE


class Computed:
    """A class whose fields are computed when one looks at them."""

    @property
    def x(self):
        return array(2)


class Reversed(NamedTuple):
    left: Any
    right: Any


def test_there_is_no_reader_for_trees_that_only_python_can_read():
    fg.tree.register_dataclass(Computed, ["x"], [])
    with pytest.warns(UserWarning, match="namedtuple"):
        fg.tree.register_node(Reversed, lambda x: ((x.right, x.left), None), lambda _, both: Reversed(*both[::-1]))
    deleted = array(2)
    deleted.delete()
    for x in [Computed(), Reversed(array(2), array(2)), {(1,): array(2)}, object(), deleted, collections.OrderedDict()]:
        assert bridge.tree_reader((x,), OTHERWISE) is None


def test_nothing_is_left_after_reading_many_trees():
    some = changed([0, 0], 0.0)(a_tree())
    read, trees, other = bridge.tree_reader(some, OTHERWISE), some, changed([1, "more"], 1.0)(some)
    gc.collect()
    leaves = [*fg.tree.leaves(trees), *(x._data for x in fg.tree.leaves(trees)[1:])]
    before, blocks = counts(*leaves, trees, OTHERWISE), sys.getallocatedblocks()
    for _ in range(20_000):
        read(*trees)
        read(*other)
    gc.collect()
    assert counts(*leaves, trees, OTHERWISE) == before
    assert sys.getallocatedblocks() - blocks < 200


def test_trees_of_results_are_made():
    like = {"b": Layer(array(3), Pair([array(2)], ()), "name"), "a": (array(), None)}
    leaves, structure = fg.tree.flatten(like)
    make = bridge.tree_maker([x.aval for x in leaves], structure, OTHERWISE)
    made = make(*[x._data for x in leaves])
    assert str(made) == str(like) and fg.tree.structure(made) == structure
    assert [*made] == ["b", "a"] and vars(made["b"]).keys() == vars(like["b"]).keys()
    assert [*map(id, [x._data for x in fg.tree.leaves(made)])] == [*map(id, [x._data for x in leaves])]
    assert weakref.ref(made["b"])() is made["b"]
    assert gc.is_tracked(made["b"]) and gc.is_tracked(made["a"]) and not gc.is_tracked(made["a"][0])
    assert make(*[x._data for x in leaves[1:]], numpy.zeros(1)) is OTHERWISE
    turned = numpy.zeros((3, 2), FLOAT32).T
    make = bridge.tree_maker([array(2, 3).aval], fg.tree.structure(0), OTHERWISE)
    assert make(turned)._data is turned


def test_trees_that_only_python_can_make_are_not_made():
    structure = fg.tree.structure(collections.OrderedDict(a=0))
    assert bridge.tree_maker([array(3).aval], structure, OTHERWISE) is None
