"""Functions close to the primitives, with JAX's names."""

from funcgrad.primitives.collectives import all_gather_primitive, axis_index, axis_size, pmax, pmean, pmin, ppermute, psum
from funcgrad.primitives.elementwise import stop_gradient
