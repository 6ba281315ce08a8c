"""Functions of single elements, in the language of kernels, as native functions of NumPy arrays."""

import ctypes
from functools import cache

import numpy

from funcgrad.compiler.expressions import Axis, Buffer
from funcgrad.compiler.indices import axis_index, load
from funcgrad.compiler.llvm import kernel_text
from funcgrad.compiler.loops import Kernel, Loop, Store
from funcgrad.compiler.machine import load as load_code
from funcgrad.compiler.machine import object_code
from funcgrad.compiler.module import Module
from funcgrad.compiler.target import host_target

_ENTRY = """define void @entry(ptr %context, i64 %low, i64 %high) {
  call void @kernel(ptr %context, i64 %low, i64 %high)
  ret void
}"""


def native(function, dtypes, target=None):
    """What takes one-dimensional arrays of one length, and applies the function to their elements.

    Arguments:
        function: takes an Expression an array; gives an Expression, or a tuple of them.
        dtypes: those of the arrays.
        target: the CPU, that of this process if None is given.
    """
    made_for = cache(lambda length: _native(function, dtypes, target or host_target(), length))
    return lambda *arrays: made_for(arrays[0].size)(*arrays)


def _native(function, dtypes, target, length):
    """The same for arrays of one length."""
    axis = Axis(length, "i")
    place = axis_index(axis)
    inputs = [Buffer(length, numpy.dtype(dtype), f"x{k}") for k, dtype in enumerate(dtypes)]
    results = function(*[load(x, place) for x in inputs])
    several = isinstance(results, tuple)
    results = results if several else (results,)
    outputs = [Buffer(length, x.dtype, f"y{k}") for k, x in enumerate(results)]
    stores = [Store(y, place, x) for y, x in zip(outputs, results, strict=True)]
    kernel = Kernel([*inputs, *outputs], outputs, [Loop(axis, stores, "parallel vector")])
    module = Module(target)
    module.functions += [kernel_text(module, kernel, "kernel"), _ENTRY]
    loaded = load_code(object_code(module.text(), target), ["entry"])
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(loaded.addresses["entry"])

    def call(*arrays):
        arrays = [numpy.ascontiguousarray(x) for x in arrays]
        made = [numpy.empty(length, y.dtype) for y in outputs]
        context = numpy.array([x.ctypes.data for x in (*arrays, *made)], numpy.int64)
        entry(context.ctypes.data, 0, length)
        return tuple(made) if several else made[0]

    call.loaded = loaded  # the code stays in memory as long as the function
    return call
