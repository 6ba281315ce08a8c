"""Holds the result of a library to the row's reference."""

from __future__ import annotations

from typing import Any

import numpy

from benchmarks.row import CallRow


def leaves_by_path(tree: Any, path: str = "result") -> dict[str, numpy.ndarray]:
    """All arrays of nested tuples, lists and dicts, as NumPy arrays under names such as `result[1]['w1']`."""
    if isinstance(tree, dict):
        items = [(f"{path}[{key!r}]", tree[key]) for key in sorted(tree)]
    elif isinstance(tree, (tuple, list)):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(tree)]
    else:
        # A PyTorch tensor that takes part in a derivative must be detached before NumPy may read it.
        return {path: numpy.asarray(tree.detach() if hasattr(tree, "detach") else tree)}
    return {name: leaf for item_path, item in items for name, leaf in leaves_by_path(item, item_path).items()}


def disagreement(row: CallRow, result: Any, expected: Any) -> str | None:
    """Says in one line where a result differs from the reference in structure, shape, dtype or values, if it does."""
    results, expectations = leaves_by_path(result), leaves_by_path(expected)
    if list(results) != list(expectations):
        return f"the result consists of {', '.join(results)}; expected {', '.join(expectations)}"
    for path, expectation in expectations.items():
        leaf = results[path]
        if (leaf.dtype, leaf.shape) != (expectation.dtype, expectation.shape):
            return f"{path} is {leaf.dtype}{leaf.shape}; expected {expectation.dtype}{expectation.shape}"
        if not numpy.allclose(leaf, expectation, row.relative_tolerance, row.absolute_tolerance, equal_nan=True):
            # In at least double precision, which also gives booleans a difference.
            difference = numpy.subtract(leaf, expectation, dtype=numpy.result_type(leaf, numpy.float64))
            return f"{path} is off by up to {numpy.max(numpy.abs(difference)):.3g}"
    return None
