"""What the rows of matrix products share: the same computation at several sizes."""

from __future__ import annotations

from operator import matmul

import numpy

from benchmarks.libraries import functions, numpy_function, torch_functions
from benchmarks.row import BEST, CallRow, Data


def matrix_product(size: int, unit: str) -> CallRow:
    """The row of the product of two square matrices."""

    def data(small: bool = False) -> Data:
        generator = numpy.random.default_rng(0)
        shape = (9, 9) if small else (size, size)
        return {name: generator.standard_normal(shape, numpy.float32) for name in ("a", "b")}

    def reference(data: Data) -> numpy.ndarray:
        return matmul(data["a"].astype(numpy.float64), data["b"].astype(numpy.float64)).astype(numpy.float32)

    return CallRow(
        name=f"matrix_product_{size}",
        title=f"product of two {size} x {size} float32 matrices",
        unit=unit,
        data=data,
        operations=2 * size**3,
        reference=reference,
        # To PyTorch, compiled and eager mean the same library call.
        sources={
            **functions(lambda library: lambda a, b: a @ b),
            **numpy_function(matmul),
            "torch": torch_functions(matmul)["torch"],
        },
        required={BEST: 1.0},
        scaled_tolerance=1e-5,
    )
