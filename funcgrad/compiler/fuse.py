"""Group the equations of a Program into clusters that are computed together, each in one pass over memory.

A cluster has a *domain*: axes that it loops over. The outer ones are what is left when its reductions are done, the
inner ones are reduced; a softmax over rows has the rows outside and the elements of a row inside. Every member
computes one element for each index of the whole domain (it is *full*), or one for each outer index: a reduction, and
what is computed from its result.

The Program is read from its end. When an equation comes up, everybody who reads its result has a cluster already, and
with it an index at which the result is read. The equation joins the cluster of a reader that reads the very element
which that cluster is about to compute; then the result need not go through memory. Else it begins a cluster of its own.

Movements of data, such as transposes, join nobody. They are followed from each reader to what they move, and leave
nothing behind but another index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from funcgrad import dtypes
from funcgrad.compiler.clusters import FULL, OUTER, Cluster, Read, element_index
from funcgrad.compiler.complex_numbers import Complex, Value
from funcgrad.compiler.elements import LOOKUPS, SINGLE_WRITES, Indices, broadcast_index, element_rule, movement_rule
from funcgrad.compiler.expand import expanded_program
from funcgrad.compiler.expressions import Axis, Buffer
from funcgrad.compiler.indices import constant_index, flatten, load
from funcgrad.compiler.join import Joiner
from funcgrad.compiler.merge import Merger
from funcgrad.compiler.products import operands_in_memory
from funcgrad.compiler.reductions import REDUCTIONS, SHORT, is_reduction, reduced_axes
from funcgrad.compiler.simplify import uniform_number
from funcgrad.compiler.turned import turned
from funcgrad.primitives import elementwise as ew
from funcgrad.primitives.counting import iota
from funcgrad.primitives.elementwise import stop_gradient
from funcgrad.primitives.movement import concatenate, dynamic_update_slice
from funcgrad.program import Equation, Program, Variable

LONGEST_ROW = 1 << 18  # elements of a row that is gone through several times
FEW_ROWS, LONG_ROW = 8, 1 << 15  # rows, and elements of one, such that each row is divided among threads


class Part(NamedTuple):
    """The part of an array that begins at `start` of an axis."""

    whole: Variable
    axis: int
    start: int

    def in_whole(self, index: Indices) -> Indices:
        """The index into the whole of an element of the part."""
        return (*index[: self.axis], index[self.axis] + self.start, *index[self.axis + 1 :])


def is_long(outer: Sequence[Axis], inner: Sequence[Axis]) -> bool:
    """Whether rows do not stay in the cache until they are gone through again, or are so few and long that it is better
    to divide each of them among threads."""
    count, length = (math.prod(axis.extent for axis in axes) for axes in (outer, inner))
    return length > LONGEST_ROW or (count < FEW_ROWS and length >= LONG_ROW)


def followed(movement: Equation, index: Any) -> tuple[Any, Indices]:
    """What a movement moves, and the index there of the element that it moves to `index`."""
    rule, found = movement_rule(movement), list[Any]()
    assert rule is not None
    rule(index, [found.append], movement)
    return movement.operands[0], found[0]


class Fuser:
    """Groups the equations of one Program."""

    def __init__(self, program: Program):
        self.program = program
        self.in_memory = {x for x in program.outputs if type(x) is Variable}
        self.inlined: dict[Variable, Equation] = {}  # what is computed wherever it is read
        self.reads: dict[Variable, list[Read]] = {}
        self.clusters: list[Cluster] = []
        self.home: dict[Variable, Cluster] = {}
        self.reduced_size: dict[Variable, int] = {}
        self.parts: dict[Variable, Part] = {}  # results that are parts of another one, in whose memory they are
        self.parts_of: dict[Variable, list[Variable]] = {}  # and those of each
        self.reader_is_full = False
        self.turned = turned(program)  # movements that are not followed

    def run(self) -> None:
        """Go through the Program; the clusters are then in the order in which they have to run."""
        self.in_memory |= self.turned
        for equation in self.program.equations:
            if movement_rule(equation) is not None and equation.results[0] not in self.turned:
                self.inlined[equation.results[0]] = equation
            self.note_reductions(equation)
        for equation in reversed(self.program.equations):
            self.visit(equation)
        Merger(self.clusters, self.home, self.parts_of).run()
        Joiner(self.clusters, self.home, self.reads, self.stored(), self.in_memory | {*self.parts}).run()
        self.sort_members()
        for cluster in self.clusters:
            cluster.divide_last_axis()
        self.update_last()
        self.clusters = self.in_order()

    def update_last(self) -> None:
        """Let an array be updated after all others have read it, if they do not read the updated one: then it may be
        updated in place."""
        for cluster in self.clusters:
            (equation, *_) = cluster.level
            if not cluster.alone or equation.primitive not in UPDATES:
                continue
            updated = equation.operands[0]
            for other in self.clusters:
                is_reader = other is not cluster and any(read.variable is updated for read in other.reads)
                if is_reader and not other.needs & cluster.bits:
                    self.require(cluster, other)

    def sort_members(self) -> None:
        """Bring the members of clusters into the order of the Program again, the last first."""
        position = {equation: -place for place, equation in enumerate(self.program.equations)}
        last = -len(position)  # of the parts of others, which nothing reads
        for cluster in self.clusters:
            cluster.level = dict(sorted(cluster.level.items(), key=lambda x: position.get(x[0], last)))

    def stored(self) -> set[Variable]:
        """The results of clusters that have to end up in memory: outputs, and what another cluster reads."""
        found = {*self.parts, *(x for x in self.program.outputs if type(x) is Variable)}
        for cluster in self.clusters:
            for read in cluster.reads:
                home = self.home.get(read.variable)
                if home is not None and (home is not cluster or read.index is None):
                    found.add(read.variable)
        return found

    def note_reductions(self, equation: Equation) -> None:
        """Remember of how many elements a result is the reduction, also after further steps on each of its elements."""
        (result, *_) = equation.results
        if is_reduction(equation):
            self.reduced_size[result] = math.prod(equation.operands[0].shape)
        else:
            sizes = [self.reduced_size.get(x, 0) for x in equation.operands if type(x) is Variable]
            same = [x for x in equation.operands if math.prod(x.shape) == math.prod(result.shape)]
            if sizes and max(sizes) and same:
                self.reduced_size[result] = max(sizes)

    # Who reads what

    def follow(self, x: Any, index: Indices) -> tuple[Any, Indices]:
        """What stands behind the element of `x` at an index, when movements are followed to their operand.

        Behind an iota there is nothing but the index along its axis.
        """
        while type(x) is Variable and x in self.inlined:
            equation = self.inlined[x]
            if movement_rule(equation) is None:
                break
            if equation.primitive is iota:
                return None, (index[equation.params["axis"]],)
            x, index = followed(equation, index)
        return x, index

    def note_read(self, cluster: Cluster, x: Any, index: Indices | None) -> None:
        if index is not None:
            x, index = self.follow(x, index)
            if x is None:  # a count, which is the value of an axis
                cluster.counted |= index[0].axes
                return
            if type(x) is Variable and x in self.inlined:
                self.note_reads(cluster, self.inlined[x], index)
                return
        if type(x) is Variable:
            if self.reader_is_full:
                cluster.read_by_full.add(x)
            read = Read(x, cluster, index)
            cluster.reads.append(read)
            self.reads.setdefault(x, []).append(read)
        elif uniform_number(x) is None:
            cluster.constant_reads.append(Read(x, cluster, index))

    def note_reads(self, cluster: Cluster, equation: Equation, index: Indices | None) -> None:
        """Write down what an equation reads for its element at `index`; None for all of its operands in memory."""
        if index is None:
            for x in equation.operands:
                self.note_read(cluster, x, None)
        elif equation.primitive in LOOKUPS or (equation.primitive in REDUCTIONS and movement_rule(equation) is None):
            rule = element_rule(equation)
            assert rule is not None
            rule(index, [partial(self.noted_element, cluster, x) for x in equation.operands], equation)
        elif movement_rule(equation) is not None:
            self.note_read(cluster, equation.results[0], index)
        else:
            shape = equation.results[0].shape
            for x in equation.operands:
                self.note_read(cluster, x, broadcast_index(index, x.shape, shape))

    def noted_element(self, cluster: Cluster, x: Any, index: Indices) -> Value:
        """Note that a rule reads an element; something of the same kind stands in for it."""
        self.note_read(cluster, x, index)
        part = load(Buffer(math.prod(x.shape), dtypes.real_of(x.dtype)), flatten(index, x.shape))
        return Complex(part, part) if x.dtype.kind == "c" else part

    # Finding a cluster

    def visit(self, equation: Equation) -> None:
        moved = movement_rule(equation) is not None
        if moved and equation.results[0] not in self.in_memory and not self.wanted_in_memory(equation.results[0]):
            return
        if equation.primitive is concatenate:
            return self.begin_parts(equation)
        alone = not is_reduction(equation) and element_rule(equation) is None
        if not alone and not moved:
            if self.is_cheaper_to_repeat(equation):
                return self.repeat(equation)
            for cluster in self.readers(equation):
                if self.join(cluster, equation):
                    return
            if self.is_computed_once(equation):
                return self.repeat(equation)
        self.begin(equation, alone)

    def is_cheaper_to_repeat(self, equation: Equation) -> bool:
        """Whether several clusters read a result, or one does at a few places for each element, that is computed from
        hardly more than what storing it would cost."""
        if equation.primitive not in QUICK:
            return False
        (result,) = equation.results
        reads = self.reads.get(result, ())
        readers = {read.cluster for read in reads}
        if result in self.in_memory or any(read.index is None for read in reads):
            return False
        size = math.prod(result.shape)
        if size == 1 and all(math.prod(x.shape) == 1 for x in equation.operands):
            return bool(readers) and all(cluster.axes for cluster in readers)  # once before a loop is nothing
        is_neighbour = 1 < len({read.index for read in reads}) < SHORT
        if len(readers) < 2 and not is_neighbour and not self.is_looked_up(result):
            return False
        large = [x for x in equation.operands if type(x) is Variable and math.prod(x.shape) == size]
        several = {self.moved(x) for x in large} if is_neighbour else large
        return len(several) <= 1 and all(x.dtype.itemsize <= result.dtype.itemsize for x in large)

    def moved(self, x: Variable) -> Variable:
        """The array that one of its parts, such as a slice, comes from."""
        while x in self.inlined and movement_rule(self.inlined[x]) is not None:
            operands = self.inlined[x].operands
            if len(operands) != 1 or type(operands[0]) is not Variable:
                break
            (x,) = operands
        return x

    def is_looked_up(self, x: Variable) -> bool:
        """Whether just some elements of a result are read, at places that are known when the program runs."""
        reads = self.reads.get(x, ())
        return bool(reads) and all(
            any(i.is_computed for i in read.index or ())
            and math.prod(axis.extent for axis in read.cluster.axes) <= math.prod(x.shape)
            for read in reads
        )

    def is_computed_once(self, equation: Equation) -> bool:
        """Whether one cluster reads a result such that computing each element where it is read computes none more
        often than storing them all would."""
        if len(equation.results) > 1 or is_reduction(equation):
            return False
        (result,) = equation.results
        reads = self.reads.get(result, ())
        clusters, indices = {read.cluster for read in reads}, [read.index for read in reads if read.index is not None]
        if result in self.in_memory or len(clusters) != 1 or len(indices) != len(reads):
            return False
        (cluster,) = clusters
        if cluster.alone or (cluster.inner and self.has_passes(cluster) and equation.primitive not in QUICK):
            return False
        short, size = cluster.short_axis, math.prod(result.shape)
        places = {flatten(index, result.shape) for index in indices}
        vector = next((axis for axis in reversed(cluster.axes) if axis is not short), None)
        if vector is not None and any(place.factor(vector) not in (0, 1) for place in places):
            large = {x for x in equation.operands if type(x) is Variable and math.prod(x.shape) == size}
            if len(large) > 1:  # rather one array with gaps than several
                return False
        if short is not None:
            numbers = range(short.extent)
            places = {place.replaced({short: constant_index(n)}) for place in places for n in numbers}
        if len(places) > 2 * SHORT:
            return False
        outer = math.prod(axis.extent for axis in cluster.outer if axis is not short)
        inner = math.prod(axis.extent for axis in cluster.axes if axis in cluster.inner)
        return sum(outer * (inner if place.axes & cluster.inner else 1) for place in places) <= size

    def has_passes(self, cluster: Cluster) -> bool:
        """Whether a cluster goes through its inner axes more than once."""
        return any(is_reduction(x) and not cluster.read_by_full.isdisjoint(x.results) for x in cluster.level)

    def repeat(self, equation: Equation) -> None:
        """Let every reader compute a result for itself."""
        (result,) = equation.results
        self.inlined[result] = equation
        for read in self.reads.pop(result, ()):
            read.cluster.reads.remove(read)
            self.reader_is_full = result in read.cluster.read_by_full
            self.note_reads(read.cluster, equation, read.index)

    def wanted_in_memory(self, variable: Variable) -> bool:
        wanted = any(read.index is None for read in self.reads.get(variable, ()))
        if wanted:
            self.in_memory.add(variable)
        return wanted

    def readers(self, equation: Equation) -> list[Cluster]:
        """The clusters that may take in an equation: one that needs no other of them."""
        found = dict.fromkeys(read.cluster for x in equation.results for read in self.reads.get(x, ()))
        return [
            cluster
            for cluster in found
            if not cluster.alone and not any(cluster.needs & other.bits for other in found if other is not cluster)
        ]

    def join(self, cluster: Cluster, equation: Equation) -> bool:
        """Let an equation join a cluster, if it computes just what the cluster reads of it."""
        own = [read for x in equation.results for read in self.reads.get(x, ()) if read.cluster is cluster]
        index, shape = own[0].index, equation.results[0].shape
        if index is None or any(read.index != index for read in own):
            return False
        level = None
        if is_reduction(equation):
            level = self.reduction_level(cluster, equation, index)
        else:
            if cluster.index(shape, FULL) == index:
                level = FULL
            elif cluster.inner and cluster.index(shape, OUTER) == index:
                level = OUTER
            elif not cluster.inner and self.reduced_size.get(equation.results[0]) == math.prod(
                axis.extent for axis in cluster.axes
            ):
                level = self.split(cluster, shape, index)
        if level is None:
            return False
        self.add(cluster, equation, level)
        return True

    def split(self, cluster: Cluster, shape: Sequence[int], index: Indices) -> str | None:
        """Make the last axes of a cluster inner ones, so that `index` runs over the outer ones."""
        for count in range(len(cluster.axes)):
            if element_index(cluster.axes[:count], shape) == index:
                if is_long(cluster.axes[:count], cluster.axes[count:]):
                    return None
                cluster.inner = frozenset(cluster.axes[count:])
                return OUTER
        return None

    def reduction_level(self, cluster: Cluster, equation: Equation, index: Indices) -> str | None:
        (x,), (result, *_) = equation.operands, equation.results
        reduced = set(reduced_axes(equation))
        lengths = [(axis in reduced, length) for axis, length in enumerate(x.shape) if length != 1]
        kept = [length for is_reduced, length in lengths if not is_reduced]
        trailing = all(is_reduced for is_reduced, _ in lengths[len(kept) :])
        same_size = math.prod(x.shape) == math.prod(axis.extent for axis in cluster.axes)
        if not cluster.inner and cluster.index(result.shape, FULL) == index:
            # The readers are what is done to the results of the reduction: the domain gets new axes for what it
            # reduces.
            if len(kept) == len(lengths) or kept != [axis.extent for axis in cluster.axes]:
                return None
            rest = iter(cluster.axes)
            cluster.axes = [
                Axis(length, f"r{place}") if is_reduced else next(rest)
                for place, (is_reduced, length) in enumerate(lengths)
            ]
            cluster.inner = frozenset(
                axis for axis, (is_reduced, _) in zip(cluster.axes, lengths, strict=True) if is_reduced
            )
            for member in cluster.level:
                cluster.level[member] = OUTER
            cluster.read_by_full.clear()
            return OUTER
        if not same_size or not lengths:
            return None
        if cluster.inner:
            if cluster.index(result.shape, OUTER) != index:
                return None
            inner_last = all(axis in cluster.inner for axis in cluster.axes[len(cluster.outer) :])
            if trailing and inner_last:
                if result in cluster.read_by_full and is_long(cluster.outer, cluster.axes[len(cluster.outer) :]):
                    return None
                return OUTER if cluster.index(x.shape, FULL) is not None else None
            # Reduced axes that are not the last ones mean that each pass goes through all of memory again.
            same = [(axis in cluster.inner, axis.extent) for axis in cluster.axes] == lengths
            return OUTER if same and result not in cluster.read_by_full else None
        return self.split(cluster, result.shape, index) if trailing and cluster.index(x.shape, FULL) else None

    def begin(self, equation: Equation, alone: bool) -> Cluster:
        if is_reduction(equation):
            (x,), reduced = equation.operands, set(reduced_axes(equation))
            cluster = self.new_cluster(x.shape)
            lengths = [(place, length) for place, length in enumerate(x.shape) if length != 1]
            cluster.inner = frozenset(
                axis for axis, (place, _) in zip(cluster.axes, lengths, strict=True) if place in reduced
            )
            self.add(cluster, equation, OUTER)
        else:
            cluster = self.new_cluster(() if alone else equation.results[0].shape, alone)
            self.add(cluster, equation, FULL)
        return cluster

    def begin_parts(self, equation: Equation) -> None:
        """Of arrays that are joined, each one is written where it belongs, by whoever computes it."""
        (whole,), axis, start = equation.results, equation.params["axis"], 0
        for x in equation.operands:
            part = Variable(x.aval)
            moved = Equation(stop_gradient, (x,), {}, (part,), equation.source)
            self.inlined[part], self.parts[part] = moved, Part(whole, axis, start)
            self.parts_of.setdefault(whole, []).append(part)
            self.in_memory.add(part)
            cluster = self.begin(moved, False)
            for read in self.reads.get(whole, ()):
                self.require(read.cluster, cluster)
            start += x.shape[axis]

    def new_cluster(self, shape: Sequence[int], alone: bool = False) -> Cluster:
        cluster = Cluster(len(self.clusters), shape, alone)
        self.clusters.append(cluster)
        return cluster

    def add(self, cluster: Cluster, equation: Equation, level: str) -> None:
        cluster.level[equation] = level
        self.reader_is_full = level == FULL or not cluster.read_by_full.isdisjoint(equation.results)
        for x in equation.results:
            self.home[x] = cluster
            for read in self.reads.get(x, ()):
                if read.cluster is not cluster:
                    self.require(read.cluster, cluster)
        if cluster.alone:
            for x in operands_in_memory(equation, self.follow):
                self.note_read(cluster, x, None)
        elif is_reduction(equation):
            self.note_read(cluster, equation.operands[0], cluster.index(equation.operands[0].shape, FULL))
        elif movement_rule(equation) is not None:
            # It is stored for those who need it in memory; whoever else reads it follows it, as this cluster does.
            x, index = equation.results[0], cluster.index(equation.results[0].shape, FULL)
            if x in self.turned:
                x, index = followed(equation, index)
            self.note_read(cluster, x, index)
        else:
            self.note_reads(cluster, equation, cluster.index(equation.results[0].shape, level))

    def require(self, later: Cluster, earlier: Cluster) -> None:
        """Note that one cluster has to run before another one, and so before all that need the latter."""
        more = earlier.needs | earlier.bits
        if later.needs | more == later.needs:
            return
        for cluster in self.clusters:
            if cluster is later or cluster.needs & later.bits:
                cluster.needs |= more

    def in_order(self) -> list[Cluster]:
        """The clusters so that each comes after those it needs; as far as that leaves a choice, as the Program has
        them."""
        left, done, ordered = list(reversed(self.clusters)), 0, []
        while left:
            waiting = []
            for cluster in left:
                if cluster.needs & ~done:
                    waiting.append(cluster)
                else:
                    ordered.append(cluster)
                    done |= cluster.bits
            assert len(waiting) < len(left), "clusters need each other"
            left = waiting
        return ordered


QUICK = frozenset(
    [ew.add, ew.sub, ew.mul, ew.neg, ew.abs_, ew.max_, ew.min_, ew.select, ew.convert, ew.convert_weak, ew.and_, ew.or_]
    + [ew.eq, ew.ne, ew.lt, ew.le, ew.gt, ew.ge, ew.not_, ew.xor]
)
"""Primitives that cost next to nothing beside reading their operands."""


UPDATES = frozenset([dynamic_update_slice, *SINGLE_WRITES])
"""Primitives whose result is their first operand but for some elements."""


def fuse(program: Program) -> Fuser:
    """Group the equations of a Program."""
    fuser = Fuser(expanded_program(program))
    fuser.run()
    return fuser
