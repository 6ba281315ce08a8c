"""Merge clusters that go through the same elements, so that what several of them read is read once.

When an equation joins a cluster, only those that read its result are looked at. So clusters may be left over that loop
over the same axes, one of which reads what the other one computes, or which read the same arrays. They become one, if
nothing has to run between them. Small arrays gain by it in any case: to begin a loop over them costs more than what it
does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from funcgrad.compiler.clusters import FULL, OUTER, Cluster
from funcgrad.compiler.elements import Indices
from funcgrad.compiler.expressions import Axis
from funcgrad.compiler.indices import Index, axis_index
from funcgrad.compiler.reductions import is_reduction
from funcgrad.program import Variable

LARGEST = 100  # equations in a cluster; larger ones would not fit the registers any more
MOST_READS = 20  # arrays; the CPU does not foresee what comes next in many more
SMALL = 1 << 12  # elements of a small array


class Merger:
    """Merges clusters of a Program.

    Arguments:
        clusters: all of them; those that are left stay in the list.
        home: for each result the cluster that computes it.
        parts: for each array that is joined from parts, which different clusters may compute, its parts.
    """

    def __init__(
        self, clusters: list[Cluster], home: dict[Variable, Cluster], parts: Mapping[Variable, Sequence[Variable]]
    ):
        self.clusters, self.home, self.parts = clusters, home, parts

    def run(self) -> None:
        groups: dict[tuple[int, ...], list[Cluster]] = {}
        for cluster in self.clusters:
            if not cluster.alone and not cluster.is_empty:
                groups.setdefault(tuple(axis.extent for axis in cluster.outer), []).append(cluster)
        for group in groups.values():
            waiting = list(group)  # those that have not been compared with all others, as they are now
            while waiting:
                one = waiting.pop()
                for other in group:
                    cluster, plain = (one, other) if one.inner else (other, one)
                    if one is not other and self.should_merge(cluster, plain) and not self.are_apart(cluster, plain):
                        self.take_in(cluster, plain)
                        group.remove(plain)
                        waiting = [cluster, *(x for x in waiting if x is not plain and x is not cluster)]
                        break

    def are_apart(self, one: Cluster, other: Cluster) -> bool:
        """Whether a third cluster has to run between two."""
        own = one.bits | other.bits
        both = [(one.needs, other.bits), (other.needs, one.bits)]
        return any(
            needs & x.bits and x.needs & bits
            for needs, bits in both
            if needs & bits
            for x in self.clusters
            if not x.bits & own
        )

    def should_merge(self, cluster: Cluster, plain: Cluster) -> bool:
        """Whether a cluster gains by taking in another one, without inner axes, and each has what it wants then."""
        if len(cluster.level) + len(plain.level) > LARGEST:
            return False
        if plain.inner and not (self.is_one_pass(cluster) and self.is_one_pass(plain) and same_shape(cluster, plain)):
            return False
        is_small = math.prod(axis.extent for axis in cluster.outer) <= SMALL
        if cluster.inner and not plain.inner and not is_small:
            return False
        level = OUTER if cluster.inner and not plain.inner else FULL
        names, others_names = ({read.variable for read in x.reads} for x in (cluster, plain))
        both = (cluster, plain)
        read_here = [x for x in names | others_names if self.home.get(x) in both]
        if not is_small and not read_here and names.isdisjoint(others_names):
            return False
        if len(names | others_names) - len(read_here) > MOST_READS:
            return False
        axes = self.axes(cluster, plain)
        own = {(read.variable, read.index) for read in cluster.reads}
        others = {(read.variable, moved(read.index, axes)) for read in plain.reads}
        shared = False
        for read in own | others:
            x, index = read
            if any(self.home[part] in both for part in self.parts.get(x, ())):
                return False
            computed = self.home.get(x) in both
            if not computed and not (read in own and read in others):
                continue
            here = index is not None and index == cluster.index(x.shape, level)
            elsewhere = others if self.home.get(x) is cluster else own
            if computed and read in elsewhere and not here:
                return False  # one wants another element than the other one is just computing
            shared |= here
        return is_small or shared

    def is_one_pass(self, cluster: Cluster) -> bool:
        """Whether a cluster goes through its inner axes once."""
        return all(cluster.read_by_full.isdisjoint(x.results) for x in cluster.level if is_reduction(x))

    def axes(self, cluster: Cluster, plain: Cluster) -> dict[Axis, Index]:
        """What the axes of one cluster are in another one."""
        return dict(zip(plain.axes, map(axis_index, cluster.axes if plain.inner else cluster.outer), strict=True))

    def take_in(self, cluster: Cluster, plain: Cluster) -> None:
        """Make the members of one cluster members of another one."""
        axes = self.axes(cluster, plain)
        for read in (*plain.reads, *plain.constant_reads):
            read.cluster, read.index = cluster, moved(read.index, axes)
        cluster.reads += plain.reads
        cluster.constant_reads += plain.constant_reads
        cluster.counted |= {x for axis in plain.counted for x in axes[axis].axes}
        if plain.inner:
            cluster.level |= plain.level
            cluster.read_by_full |= plain.read_by_full
        else:
            cluster.level |= dict.fromkeys(plain.level, OUTER if cluster.inner else FULL)
        for equation in plain.level:
            self.home |= dict.fromkeys(equation.results, cluster)
        cluster.bits |= plain.bits
        cluster.needs = (cluster.needs | plain.needs) & ~cluster.bits
        self.clusters.remove(plain)
        for other in self.clusters:
            if other is not cluster and other.needs & cluster.bits:
                other.needs |= cluster.bits | cluster.needs


def same_shape(one: Cluster, other: Cluster) -> bool:
    """Whether two clusters have the same axes and reduce the same of them."""
    shapes = ([(axis.extent, axis in cluster.inner) for axis in cluster.axes] for cluster in (one, other))
    return next(shapes) == next(shapes)


def moved(index: Indices | None, axes: dict[Axis, Index]) -> Indices | None:
    """An index with other axes."""
    return None if index is None else tuple(x.replaced(axes) for x in index)
