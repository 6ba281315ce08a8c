"""funcgrad: composable transformations of pure functions over immutable arrays.

`grad` differentiates, `vmap` batches, `jit` compiles, and they compose in any order:

    >>> import funcgrad as fg
    >>> import funcgrad.numpy as np
    >>> def loss(w, x):
    ...     return np.sum(np.tanh(x @ w) ** 2)
    >>> per_example = fg.jit(fg.vmap(fg.grad(loss), in_axes=(None, 0)))
    >>> per_example(np.ones((3, 2)), np.zeros((5, 3))).shape
    (5, 3, 2)

The names are those of JAX. `fg.numpy` and `fg.lax` hold the functions, `fg.nn`, `fg.losses` and `fg.optim` what
models are made of, `fg.random` the random numbers, `fg.tree` the pytrees.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from funcgrad import errors, lax, numpy, tree
from funcgrad.array import Array, ShapeDtypeStruct
from funcgrad.config import config
from funcgrad.control_flow import checkpoint_policies, debug
from funcgrad.control_flow.callbacks import io_callback, pure_callback
from funcgrad.control_flow.checkpoint import checkpoint, checkpoint_name
from funcgrad.control_flow.checkpoint import checkpoint as remat
from funcgrad.core import Interpreter, Primitive, Tracer, bind
from funcgrad.devices import Device
from funcgrad.devices import find_devices as devices
from funcgrad.dtypes import (
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from funcgrad.lax import stop_gradient
from funcgrad.numpy import array, asarray, from_dlpack
from funcgrad.numpy.placement import device_get, device_put
from funcgrad.program import Program
from funcgrad.transforms.custom_derivatives import custom_jvp, custom_vjp
from funcgrad.transforms.grad import grad, linear_transpose, linearize, value_and_grad, vjp
from funcgrad.transforms.jacobians import hessian, jacfwd, jacrev
from funcgrad.transforms.jit import eval_shape, jit, make_program
from funcgrad.transforms.jvp import jvp
from funcgrad.transforms.vmap import vmap

if TYPE_CHECKING:
    from funcgrad import checkpoints, data, losses, nn, ops, optim, random, testing, train

__version__ = "0.1.0"

# What a program may never use is imported when it is first named, so that `import funcgrad` stays quick.
_LAZY = frozenset({"checkpoints", "data", "losses", "nn", "ops", "optim", "random", "testing", "train"})


def __getattr__(name: str):
    if name in _LAZY:
        return _import_module(f"funcgrad.{name}")
    raise AttributeError(f"module 'funcgrad' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY})


__all__ = [
    "Array",
    "Device",
    "Interpreter",
    "Primitive",
    "Program",
    "ShapeDtypeStruct",
    "Tracer",
    "array",
    "asarray",
    "bfloat16",
    "bind",
    "bool_",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "checkpoints",
    "complex64",
    "complex128",
    "config",
    "custom_jvp",
    "custom_vjp",
    "data",
    "debug",
    "device_get",
    "device_put",
    "devices",
    "errors",
    "eval_shape",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "grad",
    "hessian",
    "int8",
    "int16",
    "int32",
    "int64",
    "io_callback",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "lax",
    "linear_transpose",
    "linearize",
    "losses",
    "make_program",
    "nn",
    "numpy",
    "ops",
    "optim",
    "pure_callback",
    "random",
    "remat",
    "stop_gradient",
    "testing",
    "train",
    "tree",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "value_and_grad",
    "vjp",
    "vmap",
]
