"""A product of square matrices of 64 rows (see `benchmarks/matrix_products.py`)."""

from benchmarks.matrix_products import matrix_product

row = matrix_product(64, unit="µs")
