"""Compares funcgrad with NumPy, JAX, PyTorch and autograd: `python -m benchmarks` (see README.md beside this file)."""
