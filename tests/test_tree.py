"""Pytrees: taking trees apart and together again, registered classes, prefixes, and errors that name a place."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections import OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcgrad import tree
from funcgrad.errors import TreeError

Pair = namedtuple("Pair", ["left", "right"])


@tree.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linear:
    weight: Any
    bias: Any = None
    activation: str = dataclasses.field(default="tanh", metadata=dict(static=True))


@tree.register_dataclass
@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    only: Any


class Interval:
    """Not a dataclass, and registered with functions."""

    def __init__(self, low, high, unit):
        self.low, self.high, self.unit = low, high, unit


tree.register_node(
    Interval, lambda x: ((x.low, x.high), x.unit), lambda unit, children: Interval(children[0], children[1], unit)
)


def containers(children: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        st.lists(children, max_size=3).map(deque),
        st.dictionaries(st.text("abc", max_size=2), children, max_size=3),
        st.dictionaries(st.integers(0, 5), children, max_size=3).map(OrderedDict),
        st.builds(Pair, children, children),
        st.builds(Linear, children, children, st.sampled_from(["tanh", "relu"])),
        st.builds(Slotted, children),
    )


trees = st.recursive(st.none() | st.integers(), containers, max_leaves=12)


# Taking apart, putting together


@given(trees)
def test_unflatten_is_the_inverse_of_flatten(example) -> None:
    leaves, structure = tree.flatten(example)

    assert tree.unflatten(structure, leaves) == example
    assert tree.leaves(example) == leaves
    assert tree.structure(example) == structure
    assert hash(tree.structure(example)) == hash(structure)
    assert len(leaves) == structure.num_leaves


@given(trees)
def test_paths_come_in_the_order_of_the_leaves_and_lead_to_them(example) -> None:
    pairs, structure = tree.flatten_with_path(example)

    assert structure == tree.structure(example)
    assert pairs == tree.leaves_with_path(example)
    assert [leaf for _, leaf in pairs] == tree.leaves(example)
    for index, (path, leaf) in enumerate(pairs):
        assert path(example) == leaf
        assert tree.describe_leaf_path(example, index) == tree.keystr(path)


def test_none_is_a_tree_without_leaves() -> None:
    assert tree.flatten((None, 1, None))[0] == [1]
    assert tree.map(lambda x: x + 1, {"a": None, "b": 1}) == {"a": None, "b": 2}
    assert tree.structure(None) != tree.structure(1)


def test_dicts_are_flattened_by_sorted_keys_and_keep_their_own_order() -> None:
    example = {"b": 1, "a": 2}

    assert tree.leaves(example) == [2, 1]
    assert list(tree.map(lambda x: x, example)) == ["b", "a"]
    assert tree.structure(example) == tree.structure({"a": 0, "b": 0})


def test_the_kind_of_every_container_is_kept() -> None:
    example = [Pair(1, (2,)), OrderedDict(a=3), defaultdict(list, b=4), deque([5])]

    result = tree.map(lambda x: 10 * x, example)

    assert result == [Pair(10, (20,)), OrderedDict(a=30), defaultdict(list, b=40), deque([50])]
    assert [type(x) for x in result] == [Pair, OrderedDict, defaultdict, deque]
    assert result[2].default_factory is list


def test_is_leaf_stops_at_a_node() -> None:
    def is_pair(x):
        return isinstance(x, Pair)

    example = {"a": Pair(1, 2), "b": 3}

    assert tree.leaves(example, is_leaf=is_pair) == [Pair(1, 2), 3]
    assert tree.map(str, example, is_leaf=is_pair) == {"a": "Pair(left=1, right=2)", "b": "3"}
    assert [tree.keystr(path) for path, _ in tree.leaves_with_path(example, is_leaf=is_pair)] == ["['a']", "['b']"]
    assert tree.leaves([None, 1], is_leaf=lambda x: x is None) == [None, 1]


def test_unflatten_takes_any_iterable_and_any_objects() -> None:
    structure = tree.structure([0, (0, 0)])

    assert tree.unflatten(structure, iter("xyz")) == ["x", ("y", "z")]
    assert tree.unflatten(structure, [None, {}, ()]) == [None, ({}, ())]


@pytest.mark.parametrize("leaves", [[1], [1, 2, 3], iter([1])])
def test_unflatten_refuses_a_wrong_number_of_leaves(leaves) -> None:
    with pytest.raises(TreeError, match=r"number of leaves given to unflatten is \d, and the structure has 2"):
        tree.unflatten(tree.structure([0, 0]), leaves)


# Computing with trees


def test_map_takes_several_trees_and_subtrees_below_the_leaves_of_the_first() -> None:
    assert tree.map(lambda x, y, z: (x, y, z), [1, 2], [3, 4], [[5, 6], None]) == [(1, 3, [5, 6]), (2, 4, None)]


def test_map_names_the_place_where_the_trees_differ() -> None:
    with pytest.raises(TreeError, match=r"tree 3 given to map: a list of 2 is needed at \['w'\], and a list of 1"):
        tree.map(lambda x, y, z: x, {"w": [1, 2]}, {"w": [1, 2]}, {"w": [1]})


def test_an_error_of_the_mapped_function_is_left_alone() -> None:
    def refuse(x):
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today") as caught:
        tree.map(refuse, [1])
    assert not isinstance(caught.value, TreeError)


def test_map_with_path_gives_the_path_first() -> None:
    result = tree.map_with_path(lambda path, x, y: f"{tree.keystr(path)} {x} {y}", {"a": (1,)}, {"a": (2,)})

    assert result == {"a": ("['a'][0] 1 2",)}


def test_reduce_goes_from_left_to_right() -> None:
    def append(x, y):
        return f"{x}{y}"

    assert tree.reduce(append, {"b": 2, "a": [0, 1]}) == "012"
    assert tree.reduce(append, [1, 2], "start") == "start12"
    assert tree.reduce(append, None, initializer="start") == "start"
    with pytest.raises(TreeError, match="without leaves"):
        tree.reduce(append, [None])


def test_all_is_about_leaves() -> None:
    assert tree.all([True, {"a": 1}])
    assert not tree.all([True, {"a": 0}])
    assert tree.all([])


def test_transpose_turns_a_tree_inside_out() -> None:
    example = [{"a": (1, 2), "b": 3}, {"a": (4, 5), "b": 6}]
    outer, inner = tree.structure([0, 0]), tree.structure(example[0])

    result = tree.transpose(outer, inner, example)

    assert result == {"a": ([1, 4], [2, 5]), "b": [3, 6]}
    assert tree.transpose(outer, None, example) == result
    assert tree.transpose(inner, outer, result) == example


def test_transpose_names_the_place_that_does_not_fit() -> None:
    with pytest.raises(TreeError, match=r"tree given to transpose: a tuple of 2 is needed at \[1\], and a tuple of 1"):
        tree.transpose(tree.structure([0, 0]), tree.structure((0, 0)), [(1, 2), (3,)])


# Registered classes


def test_static_fields_belong_to_the_structure() -> None:
    layer = Linear(1, 2, "relu")

    assert tree.leaves(layer) == [1, 2]
    assert tree.structure(layer) == tree.structure(Linear(3, 4, "relu"))
    assert tree.structure(layer) != tree.structure(Linear(1, 2, "tanh"))
    assert tree.map(lambda x: -x, layer) == Linear(-1, -2, "relu")


def test_fields_can_be_named_instead_of_marked() -> None:
    @dataclasses.dataclass
    class Both:
        value: int
        name: str

    @tree.register_dataclass(meta_fields=["name"])
    class ByMeta(Both):
        pass

    @tree.register_dataclass(data_fields=["value"])
    class ByData(Both):
        pass

    tree.register_dataclass(Both, data_fields=["value"], meta_fields=["name"])

    for kind in (ByMeta, ByData, Both):
        assert tree.leaves(kind(1, "x")) == [1]
        assert tree.map(lambda x: x + 1, kind(1, "x")).name == "x"


def test_a_class_that_is_no_dataclass_needs_both_lists() -> None:
    class Plain:
        pass

    with pytest.raises(TreeError, match="Plain is not a dataclass"):
        tree.register_dataclass(Plain)

    tree.register_dataclass(Plain, data_fields=["x"], meta_fields=[])
    plain = Plain()
    plain.x = 1
    assert tree.map(lambda x: x + 1, plain).x == 2


@pytest.mark.parametrize(
    ("data_fields", "meta_fields"),
    [(["x"], ["z"]), (["x"], []), (["x", "y"], ["y"]), (["x", "x", "y"], []), (None, ["z"])],
)
def test_every_field_must_be_named_once(data_fields, meta_fields) -> None:
    @dataclasses.dataclass
    class Point:
        x: int
        y: int

    with pytest.raises(TreeError, match=r"each field of Point exactly once; its fields are \['x', 'y'\]"):
        tree.register_dataclass(Point, data_fields, meta_fields)


def test_trees_are_put_together_without_the_initializer() -> None:
    @tree.register_dataclass
    @dataclasses.dataclass
    class Positive:
        value: int
        double: int = dataclasses.field(init=False)

        def __post_init__(self):
            if not self.value > 0:
                raise ValueError("positive, please")
            self.double = 2 * self.value

    assert tree.leaves(Positive(3)) == [3, 6]
    assert tree.map(lambda x: -x, Positive(3)).value == -3
    assert tree.map(lambda x: None, Positive(3)).double is None


def test_slotted_classes_and_subclasses() -> None:
    class More(Slotted):
        pass

    assert tree.map(lambda x: x + 1, Slotted((1, 2))) == Slotted((2, 3))
    assert tree.leaves([More(1)]) != [1]  # a subclass is a leaf until it is registered itself


@pytest.mark.parametrize("value", [[1], {"a": 1}, numpy.zeros(2)])
def test_an_unhashable_static_field_is_refused_by_name(value) -> None:
    kind = type(value).__name__
    with pytest.raises(TreeError, match=f"static field 'activation' of Linear holds a {kind}, which is not hashable"):
        tree.flatten({"layers": [Linear(1, activation=value)]})


def test_a_node_is_registered_with_functions() -> None:
    result = tree.map(lambda x: x + 1, [Interval(1, 2, "m")])[0]

    assert (result.low, result.high, result.unit) == (2, 3, "m")
    assert tree.structure(Interval(1, 2, "m")) != tree.structure(Interval(1, 2, "s"))


def test_a_class_is_registered_once() -> None:
    with pytest.raises(TreeError, match="Linear is already a pytree class"):
        tree.register_dataclass(Linear)
    with pytest.raises(TreeError, match="list is already a pytree class"):
        tree.register_node(list, lambda x: (x, None), lambda _, children: list(children))
    with pytest.raises(TreeError, match="only a class can be registered"):
        tree.register_node(3, lambda x: ((), None), lambda _, children: 3)  # type: ignore[arg-type]


def test_structures_can_be_copied_and_pickled() -> None:
    structure = tree.structure({"a": (1, None), "b": Pair(1, 2)})

    assert pickle.loads(pickle.dumps(structure)) == structure
    assert copy.deepcopy(structure) == structure


# Paths


def test_paths_read_like_python() -> None:
    example = {"layers": [Linear(1, bias=Pair(2, 3))], 0: Interval(4, 5, "m")}

    paths = [path for path, _ in tree.leaves_with_path(example)]

    assert sorted(tree.keystr(path) for path in paths) == sorted(
        [
            "['layers'][0].weight",
            "['layers'][0].bias.left",
            "['layers'][0].bias.right",
            "[0][<flat index 0>]",
            "[0][<flat index 1>]",
        ]
    )
    assert "layers/0/weight" in [tree.keystr(path, simple=True, separator="/") for path in paths]


def test_the_path_of_a_lone_leaf_is_empty() -> None:
    assert [tree.keystr(path) for path, _ in tree.leaves_with_path(1)] == [""]
    assert tree.describe_leaf_path(1, 0) == ""


# Prefixes


@given(trees, st.integers())
def test_a_single_entry_stands_for_the_whole_tree(example, entry) -> None:
    count = len(tree.leaves(example))

    assert tree.prefix_leaves(entry, example, what="in_axes") == [entry] * count
    assert tree.prefix_leaves(None, example, what="in_axes") == [None] * count
    assert tree.prefix_leaves((entry, None), (example, example), what="in_axes") == [entry] * count + [None] * count


@given(trees)
def test_a_tree_is_a_prefix_of_itself(example) -> None:
    assert tree.prefix_leaves(example, example, what="in_axes") == tree.leaves(example)


def test_none_in_a_prefix_is_an_entry_and_none_in_the_tree_is_empty() -> None:
    assert tree.prefix_leaves((0, None), (None, [1, None, 2]), what="in_axes") == [None, None]
    assert tree.prefix_leaves({"w": 0, "b": None}, {"w": (1, 2), "b": 3}, what="in_axes") == [None, 0, 0]
    assert tree.prefix_leaves([Linear(0, bias=None)], [Linear(1, bias=2)], what="in_axes") == [0, None]


@pytest.mark.parametrize(
    ("prefix", "example", "message"),
    [
        ((0, 1), (1,), "in_axes: a tuple of 2 was given for a tuple of 1"),
        ([0], (1,), "in_axes: a list of 1 was given for a tuple of 1"),
        ((0, {"w": 0}), (1, {"w": 2, "b": 3}), r"a dict with the keys 'w' was given at \[1\] for a dict with the keys"),
        ((0, [{"w": 0}]), (1, [2]), r"a dict with the keys 'w' was given at \[1\]\[0\] for a leaf"),
        ((0, [0]), (1, None), r"a list of 1 was given at \[1\] for a leaf"),
        (
            [Linear(0)],
            [Linear(1, activation="relu")],
            r"a Linear with activation='tanh' was given at \[0\] for one with",
        ),
    ],
)
def test_a_prefix_that_does_not_fit_is_refused_with_the_path(prefix, example, message) -> None:
    with pytest.raises(TreeError, match=message):
        tree.prefix_leaves(prefix, example, what="in_axes")


# Comparing


@given(trees)
def test_trees_that_differ_in_their_leaves_only_have_the_same_structure(example) -> None:
    tree.check_same_structure(example, tree.map(lambda x: "another leaf", example), what="the update")
    tree.check_same_structure(tree.structure(example), example, what="the update")


@pytest.mark.parametrize(
    ("expected", "actual", "message"),
    [
        ([1, 2], [1], "the update: a list of 2 is needed, and a list of 1 was given"),
        ({"a": [1]}, {"a": (1,)}, r"a list of 1 is needed at \['a'\], and a tuple of 1 was given"),
        ({"a": 1}, {"a": (1,)}, r"a leaf is needed at \['a'\], and a tuple of 1 was given"),
        ({"a": (1,)}, {"a": 1}, r"a tuple of 1 is needed at \['a'\], and a leaf was given"),
        ({"a": 1}, {"a": None}, r"a leaf is needed at \['a'\], and None was given"),
        (
            {"a": 1},
            OrderedDict(a=1),
            "a dict with the keys 'a' is needed, and an OrderedDict with the keys 'a' was given",
        ),
        ([], {}, "an empty list is needed, and an empty dict was given"),
        (
            {"m": [Linear(1)]},
            {"m": [Linear(1, activation="relu")]},
            r"a Linear with activation='tanh' is needed at \['m'\]\[0\], and one with activation='relu' was given",
        ),
        ([Linear(Linear(1))], [Linear(1)], r"a Linear is needed at \[0\].weight, and a leaf was given"),
        ([Interval(1, 2, "m")], [Interval(1, 2, "s")], r"needed at \[0\]"),
        (tree.structure((1,)), tree.structure([1]), "a tuple of 1 is needed, and a list of 1 was given"),
    ],
)
def test_the_first_difference_is_described(expected, actual, message) -> None:
    with pytest.raises(TreeError, match=message):
        tree.check_same_structure(expected, actual, what="the update")


@given(trees, trees)
def test_two_trees_are_the_same_or_the_difference_is_found(one, other) -> None:
    if tree.structure(one) == tree.structure(other):
        tree.check_same_structure(one, other, what="the update")
    else:
        with pytest.raises(TreeError, match="the update: "):
            tree.check_same_structure(one, other, what="the update")
