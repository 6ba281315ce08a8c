"""Let a product of matrices join the cluster that reads it, where that pays.

A bias is added to each element of a product, a function is applied to it. If nobody else reads the product, it need not
go through memory for that: it hands its elements to the cluster part by part, as `epilogues` explains.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from funcgrad.compiler.clusters import FULL, Cluster, Read
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import conv_general_dilated
from funcgrad.program import Variable

MOST_ARRAYS = 2  # that a cluster reads and writes along with a product


class Joiner:
    """Joins clusters of a Program.

    Arguments:
        clusters: all of them; those that are left stay in the list.
        home: for each result the cluster that computes it.
        reads: who reads a variable.
        stored: what clusters have to store.
        wanted: what is wanted in memory anyway.
    """

    def __init__(
        self,
        clusters: list[Cluster],
        home: dict[Variable, Cluster],
        reads: Mapping[Variable, Sequence[Read]],
        stored: Collection[Variable],
        wanted: Collection[Variable],
    ):
        self.clusters, self.home, self.reads, self.stored, self.wanted = clusters, home, reads, stored, wanted

    def run(self) -> None:
        for cluster in list(self.clusters):
            (equation, *_) = cluster.level
            if not cluster.alone or equation.primitive not in (dot_general, conv_general_dilated):
                continue
            (result,) = equation.results
            readers = {read.cluster for read in self.reads.get(result, ())}
            if len(readers) == 1 and result not in self.wanted:
                (reader,) = readers
                if self.should_join(reader, result):
                    self.take_in(reader, cluster)

    def should_join(self, reader: Cluster, product: Variable) -> bool:
        """Whether the cluster that reads a product computes its elements from one element of the product each, and
        whether it gains.

        It saves to write and to read the product. But then the CPU goes from one small part of each array to the next,
        and does not foresee what it wants there; with many arrays, that costs more.
        """
        index = reader.index(product.shape, FULL)
        if reader.alone or reader.inner or reader.product is not None or index is None:
            return False
        if any(read.index != index for read in self.reads[product]):
            return False
        arrays = {read.variable for read in reader.reads if self.is_as_large(read)}
        written = [x for equation in reader.level for x in equation.results if x in self.stored]
        return len(arrays - {product}) + len(written) <= MOST_ARRAYS

    def is_as_large(self, read: Read) -> bool:
        """Whether another element is read for each one that a cluster computes, or all of a variable."""
        if self.home.get(read.variable) is read.cluster:
            return False
        return read.index is None or all(any(axis in i.axes for i in read.index) for axis in read.cluster.axes)

    def take_in(self, reader: Cluster, cluster: Cluster) -> None:
        """Have a product computed along with a cluster."""
        (equation,) = cluster.level
        reader.product, self.home[equation.results[0]] = equation, reader
        reader.reads += cluster.reads
        reader.bits |= cluster.bits
        reader.needs = (reader.needs | cluster.needs) & ~reader.bits
        self.clusters.remove(cluster)
        for other in self.clusters:
            if other is not reader and other.needs & reader.bits:
                other.needs |= reader.bits
