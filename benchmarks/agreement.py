"""Holds the result of a library to the row's reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from benchmarks.row import CallRow


@dataclass(frozen=True)
class Anything:
    """Expects an array of this shape and dtype with finite values: for what is drawn at random."""

    shape: tuple[int, ...]
    dtype: str

    def distance(self, leaf: numpy.ndarray, row: CallRow) -> str | None:
        return None if numpy.isfinite(leaf).all() else "is not finite"


@dataclass(frozen=True)
class Fingerprint:
    """Expects an array of which only a few numbers are known: a sample of its elements, and weighted sums of all.

    The weights are random signs, so an error anywhere changes the sums about as much as its Euclidean norm.
    """

    shape: tuple[int, ...]
    dtype: str
    root_mean_square: float
    sample: tuple[float, ...]
    sums: tuple[float, ...]

    @classmethod
    def of(cls, array: numpy.ndarray, dtype: str) -> Fingerprint:
        """The fingerprint of an array, in which it is to have the given dtype."""
        values = numpy.asarray(array, numpy.float64).ravel()
        places = numpy.linspace(0, max(0, values.size - 1), min(values.size, 8)).astype(int)
        signs = numpy.random.default_rng(values.size).integers(0, 2, (4, values.size), numpy.int8)
        sums = numpy.where(signs, values, -values).sum(axis=1)
        return cls(array.shape, dtype, root_mean_square(values), tuple(values[places].tolist()), tuple(sums.tolist()))

    def distance(self, leaf: numpy.ndarray, row: CallRow) -> str | None:
        mine = Fingerprint.of(leaf, str(leaf.dtype))
        scale = row.scaled_tolerance * self.root_mean_square
        error = numpy.subtract(mine.sample, self.sample)
        if (abs(error) > scale + row.absolute_tolerance + row.relative_tolerance * numpy.abs(self.sample)).any():
            return f"is off by up to {numpy.max(numpy.abs(error)):.3g}"
        # Errors of single elements add up in a weighted sum like steps of a random walk; three times its usual length
        # is allowed.
        steps = numpy.sqrt(numpy.prod(self.shape))
        allowed = 3 * steps * (scale + row.absolute_tolerance + row.relative_tolerance * self.root_mean_square)
        error = numpy.subtract(mine.sums, self.sums)
        if (abs(error) > allowed).any():
            return f"is off by about {numpy.max(numpy.abs(error)) / steps:.3g} (root mean square)"
        return None


def root_mean_square(values: numpy.ndarray) -> float:
    return float(numpy.sqrt(numpy.mean(numpy.square(values, dtype=numpy.float64)))) if values.size else 0.0


def leaves_by_path(tree: Any, path: str = "result") -> dict[str, Any]:
    """All leaves of nested tuples, lists and dicts under names such as `result[1]['w1']`; arrays as NumPy arrays."""
    if isinstance(tree, dict):
        items = [(f"{path}[{key!r}]", tree[key]) for key in sorted(tree)]
    elif isinstance(tree, (tuple, list)):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(tree)]
    elif isinstance(tree, (Anything, Fingerprint)):
        return {path: tree}
    else:
        # A PyTorch tensor that takes part in a derivative must be detached before NumPy may read it.
        return {path: numpy.asarray(tree.detach() if hasattr(tree, "detach") else tree)}
    return {name: leaf for item_path, item in items for name, leaf in leaves_by_path(item, item_path).items()}


def array_distance(row: CallRow, leaf: numpy.ndarray, expected: numpy.ndarray) -> str | None:
    """Says how far an array is from the expected one, if it is farther than the row allows."""
    absolute = row.absolute_tolerance
    if row.scaled_tolerance:
        absolute += row.scaled_tolerance * root_mean_square(expected)
    if numpy.allclose(leaf, expected, row.relative_tolerance, absolute, equal_nan=True):
        return None
    # In at least double precision, which also gives booleans a difference.
    difference = numpy.subtract(leaf, expected, dtype=numpy.result_type(leaf, numpy.float64))
    return f"is off by up to {numpy.max(numpy.abs(difference)):.3g}"


def disagreement(row: CallRow, result: Any, expected: Any) -> str | None:
    """Says in one line where a result differs from the reference in structure, shape, dtype or values, if it does."""
    results, expectations = leaves_by_path(result), leaves_by_path(expected)
    if list(results) != list(expectations):
        return f"the result consists of {', '.join(results)}; expected {', '.join(expectations)}"
    for path, expectation in expectations.items():
        leaf = results[path]
        if (leaf.dtype, leaf.shape) != (numpy.dtype(expectation.dtype), expectation.shape):
            return f"{path} is {leaf.dtype}{leaf.shape}; expected {expectation.dtype}{expectation.shape}"
        if isinstance(expectation, numpy.ndarray):
            distance = array_distance(row, leaf, expectation)
        else:
            distance = expectation.distance(leaf, row)
        if distance is not None:
            return f"{path} {distance}"
    return None
