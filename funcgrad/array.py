"""Arrays: immutable values with a shape and a dtype.

`Array` is what users see. It comes in two forms: a `ConcreteArray` holds a buffer (a NumPy array, or a CuPy array on
a GPU), and a tracer (`core.Tracer`) stands for a value while a transform runs the user's function. Both answer
the same questions and take the same operators, which is why the same function can be run, differentiated, batched and
compiled. The arithmetic operators are attached by `primitives.operators`, indexing and the other methods by `numpy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy

from funcgrad import dtypes
from funcgrad.devices import Device, array_module, device_of, synchronize, to_host
from funcgrad.errors import ArgumentTypeError, DonatedArrayError, DtypeError, ImmutableArrayError


class AbstractArray:
    """What is known of an array before it has a value ("aval" for short): shape, dtype, and whether it is weak."""

    __slots__ = ("dtype", "shape", "weak_type")

    def __init__(self, shape: tuple[int, ...], dtype: numpy.dtype, weak_type: bool = False):
        self.shape, self.dtype, self.weak_type = shape, dtype, weak_type

    @property
    def aval(self) -> AbstractArray:
        return self

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size

    def strong(self) -> AbstractArray:
        return AbstractArray(self.shape, self.dtype) if self.weak_type else self

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is AbstractArray
            and self.shape == other.shape
            and self.dtype is other.dtype
            and self.weak_type == other.weak_type
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.weak_type))

    def __repr__(self) -> str:
        return f"{'~' if self.weak_type else ''}{self.dtype.name}[{','.join(map(str, self.shape))}]"

    def __reduce__(self):
        # Through the constructor, so that the dtype is again the one object that the library compares by identity.
        return _unpickle_aval, (self.shape, self.dtype.name, self.weak_type)


def _unpickle_aval(shape: tuple[int, ...], dtype: str, weak_type: bool) -> AbstractArray:
    return AbstractArray(shape, dtypes.canonical(dtype), weak_type)


def ShapeDtypeStruct(shape: Sequence[int], dtype: Any) -> AbstractArray:
    """A shape and a dtype, in place of an array where no values are needed: `eval_shape`, `jit(f).lower`.

    Raises:
        DtypeError: for a dtype that funcgrad does not have.

    Example:
        >>> import funcgrad as fg
        >>> fg.ShapeDtypeStruct((2, 3), fg.float32)
        float32[2,3]
    """
    return AbstractArray(tuple(int(n) for n in shape), dtypes.canonical(dtype))


class Array:
    """An immutable n-dimensional array.

    Made by `fg.array`, `fg.numpy.zeros` and the like; never by calling this class. Operators, indexing, methods and
    functions of `fg.numpy` give new arrays. `x.at[i].set(v)` gives a copy with some elements replaced.

    Example:
        >>> import funcgrad as fg
        >>> x = fg.array([1.0, 2.0, 3.0])
        >>> x * 2
        Array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ()
    # NumPy hands `numpy_array + array` to us rather than looping over our elements.
    __array_priority__ = 1000

    shape: tuple[int, ...]
    dtype: numpy.dtype
    weak_type: bool

    def __init__(self):
        raise ArgumentTypeError("Array is not called directly; make arrays with fg.array, fg.numpy.zeros and the like.")

    @property
    def aval(self) -> AbstractArray:
        return AbstractArray(self.shape, self.dtype, self.weak_type)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def concrete(self, purpose: str) -> ConcreteArray:
        """The array with a buffer behind this value; tracers without one raise, naming the `purpose`."""
        raise NotImplementedError

    # Everything below needs the value itself, and so works on tracers only where a value is known.

    def __bool__(self) -> bool:
        return bool(self._single("bool()"))

    def __int__(self) -> int:
        return int(self._single("int()"))

    def __float__(self) -> float:
        return float(self._single("float()"))

    def __complex__(self) -> complex:
        return complex(self._single("complex()"))

    def __index__(self) -> int:
        number = self._single("use as a Python integer")
        if not isinstance(number, (numpy.integer, numpy.bool_)):
            raise ArgumentTypeError(
                f"a {self.dtype.name} array cannot be used as a Python integer, such as an index; "
                "convert it with int(x) or x.astype(fg.int32)."
            )
        return int(number)

    def item(self, *index: int) -> bool | int | float | complex:
        """The element as a Python scalar; with `index`, the element there."""
        buffer = to_host(self.concrete("item()")._data)
        return buffer.item(*index)

    def tolist(self) -> Any:
        """Nested Python lists of the elements; a scalar for a 0-dimensional array."""
        return to_host(self.concrete("tolist()")._data).tolist()

    def _single(self, purpose: str) -> Any:
        buffer = to_host(self.concrete(purpose)._data)
        if buffer.size != 1:
            raise ArgumentTypeError(
                f"{purpose} needs an array with one element, and this one has shape {buffer.shape}; "
                "reduce it first, for example with .any(), .all() or .sum()."
            )
        return buffer.reshape(())[()]

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.ndim == 0 else format(str(self), spec)

    def __len__(self) -> int:
        if not self.shape:
            raise ArgumentTypeError("len() needs an array with at least one axis, and this one has none.")
        return self.shape[0]

    def __hash__(self) -> NoReturn:
        raise ArgumentTypeError(
            "arrays are not hashable, since == compares them element by element; use x.tolist() or id(x) as a key."
        )

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise ImmutableArrayError("arrays are immutable; instead of x[i] = v write x = x.at[i].set(v).")

    def __delitem__(self, index: Any) -> NoReturn:
        raise ImmutableArrayError("arrays are immutable; to leave elements out use fg.numpy.delete(x, i).")

    if TYPE_CHECKING:
        # Attached by primitives.operators and by numpy; declared here for readers and type checkers.
        def __add__(self, other: Any) -> Array: ...
        def __radd__(self, other: Any) -> Array: ...
        def __sub__(self, other: Any) -> Array: ...
        def __rsub__(self, other: Any) -> Array: ...
        def __mul__(self, other: Any) -> Array: ...
        def __rmul__(self, other: Any) -> Array: ...
        def __truediv__(self, other: Any) -> Array: ...
        def __rtruediv__(self, other: Any) -> Array: ...
        def __floordiv__(self, other: Any) -> Array: ...
        def __rfloordiv__(self, other: Any) -> Array: ...
        def __mod__(self, other: Any) -> Array: ...
        def __rmod__(self, other: Any) -> Array: ...
        def __divmod__(self, other: Any) -> tuple[Array, Array]: ...
        def __rdivmod__(self, other: Any) -> tuple[Array, Array]: ...
        def __pow__(self, other: Any) -> Array: ...
        def __rpow__(self, other: Any) -> Array: ...
        def __matmul__(self, other: Any) -> Array: ...
        def __rmatmul__(self, other: Any) -> Array: ...
        def __and__(self, other: Any) -> Array: ...
        def __rand__(self, other: Any) -> Array: ...
        def __or__(self, other: Any) -> Array: ...
        def __ror__(self, other: Any) -> Array: ...
        def __xor__(self, other: Any) -> Array: ...
        def __rxor__(self, other: Any) -> Array: ...
        def __lshift__(self, other: Any) -> Array: ...
        def __rlshift__(self, other: Any) -> Array: ...
        def __rshift__(self, other: Any) -> Array: ...
        def __rrshift__(self, other: Any) -> Array: ...
        def __neg__(self) -> Array: ...
        def __pos__(self) -> Array: ...
        def __abs__(self) -> Array: ...
        def __invert__(self) -> Array: ...
        def __eq__(self, other: Any) -> Array: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Array: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Array: ...
        def __le__(self, other: Any) -> Array: ...
        def __gt__(self, other: Any) -> Array: ...
        def __ge__(self, other: Any) -> Array: ...
        def __getitem__(self, index: Any) -> Array: ...
        def __iter__(self) -> Any: ...
        def __getattr__(self, name: str) -> Any: ...


class _Donated:
    """Stands where the buffer of a donated array was: any use of it says so."""

    __array_ufunc__ = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise DonatedArrayError(
            "this array was donated to a jitted function (donate_argnums) and its memory now holds a result; "
            "use the result, or do not donate the array."
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python and its tools ask for these of any object
            raise AttributeError(name)
        self.__array__()


DONATED = _Donated()


class ConcreteArray(Array):
    """An array with a buffer. The buffer is private and never written after it is wrapped."""

    __slots__ = ("_data", "dtype", "shape")
    weak_type = False
    _data: Any

    def __init__(self, data: Any):
        self._data, self.shape, self.dtype = data, data.shape, data.dtype

    @property
    def aval(self) -> AbstractArray:
        return AbstractArray(self.shape, self.dtype, self.weak_type)

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def device(self) -> Device:
        """Where the buffer lives."""
        return device_of(self._data)

    def devices(self) -> set[Device]:
        """The set of devices that hold the array, as JAX spells it."""
        return {self.device}

    def concrete(self, purpose: str) -> ConcreteArray:
        return self

    def block_until_ready(self) -> ConcreteArray:
        """Wait until the value is computed; on the CPU it always is."""
        synchronize(self._data)
        return self

    def is_deleted(self) -> bool:
        """Whether the memory was given away by `donate_argnums`."""
        return self._data is DONATED

    def delete(self) -> None:
        """Give up the buffer. Whatever uses the array afterwards raises a DonatedArrayError."""
        self._data = DONATED

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        host = to_host(self._data)
        if (dtype is not None and host.dtype != dtype) or copy:
            return numpy.array(host, dtype)
        view = host.view()
        view.flags.writeable = False
        return view

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule that shares the memory. Consumers that speak DLPack 1.0 are told it is read-only; an older
        consumer gets no such word and must not write into it."""
        data = self._data
        if not isinstance(data, numpy.ndarray):
            return data.__dlpack__(stream=stream)
        if max_version is not None and max_version >= (1, 0):
            data = self.__array__()
        elif not data.flags.writeable:  # NumPy refuses to hand read-only memory to an older consumer
            data = data.copy()
        return data.__dlpack__(max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __reduce__(self):
        return _unpickle, (to_host(self._data), self.weak_type)

    def __copy__(self) -> ConcreteArray:
        return self

    def __deepcopy__(self, memo: dict) -> ConcreteArray:
        return self

    def __repr__(self) -> str:
        host = to_host(self._data)
        body = numpy.array2string(host, separator=", ", prefix="Array(", suffix=",")
        shape = f", shape={self.shape}" if self.size == 0 and self.shape != (0,) else ""
        weak = ", weak_type=True" if self.weak_type else ""
        return f"Array({body}{shape}, dtype={self.dtype.name}{weak})"

    def __str__(self) -> str:
        return str(to_host(self._data))


class WeakArray(ConcreteArray):
    """A Python scalar that became an array on its way through a transform: its dtype gives way to others."""

    __slots__ = ()
    weak_type = True


def _unpickle(data: numpy.ndarray, weak: bool) -> ConcreteArray:
    return wrap(numpy.asarray(data, dtypes.canonical(data.dtype)), weak)


def wrap(buffer: Any, weak: bool = False) -> ConcreteArray:
    """An array around a buffer that nobody else writes to; NumPy's scalars become 0-dimensional buffers."""
    if isinstance(buffer, numpy.generic):
        buffer = numpy.asarray(buffer)
    return WeakArray(buffer) if weak else ConcreteArray(buffer)


def constant(scalar: bool | int | float | complex, dtype: numpy.dtype, weak: bool = False) -> ConcreteArray:
    """A 0-dimensional array of a Python scalar.

    Making one costs more than using it, so equal ones are shared; but no zeros, whose signs differ though 0.0 == -0.0.
    """
    return _shared_constant(scalar, dtype, weak) if scalar else _make_constant(scalar, dtype, weak)


def _make_constant(scalar: Any, dtype: numpy.dtype, weak: bool) -> ConcreteArray:
    try:
        return wrap(numpy.array(scalar, dtype), weak)
    except OverflowError:
        raise DtypeError(
            f"the Python integer {scalar} does not fit into {dtype.name}; give a wider dtype, "
            "for example fg.array(value, dtype=fg.int64)."
        ) from None


_shared_constant = lru_cache(maxsize=4096, typed=True)(_make_constant)


def as_array(value: Any) -> Array:
    """Any array-like as an Array. Arrays and tracers pass through, Python scalars become weak, the rest is copied.

    Raises:
        ArgumentTypeError: for what is not an array-like, such as None, strings and objects.
        DtypeError: for array-likes of a dtype that funcgrad does not have.
    """
    if isinstance(value, Array):
        return value
    default = dtypes.DEFAULT_OF_SCALAR.get(type(value))
    if default is not None:
        return constant(value, default, True)
    return ConcreteArray(to_buffer(value, None))


def to_buffer(value: Any, dtype: numpy.dtype | None) -> Any:
    """A fresh buffer with the contents of an array-like that is not an Array."""
    module = array_module(value)
    if module is not numpy:
        return module.array(value, dtype or dtypes.canonical(value.dtype))
    if isinstance(value, (numpy.ndarray, numpy.generic)) or hasattr(value, "__array__"):
        host = numpy.asarray(value)
        _check_not_complex(host, dtype)
        return numpy.array(host, dtype or dtypes.canonical(host.dtype), order="C")
    if not isinstance(value, (list, tuple, range, bool, int, float, complex, bytearray, memoryview)):
        raise ArgumentTypeError(
            f"{type(value).__name__} {_shorten(value)} is not an array; pass an array, a number or a list of numbers."
        )
    if isinstance(value, (list, tuple)):
        value = _unwrap_sequence(value)
    try:
        host = numpy.array(value)
    except ValueError:
        raise ArgumentTypeError(
            "a list whose rows have different lengths is not an array; pad the rows first."
        ) from None
    if host.dtype.kind == "O" or host.dtype.kind in "SUmMV" and host.dtype != dtypes.bfloat16:
        raise ArgumentTypeError(f"a list that holds {_shorten(value)} is not an array; it may hold numbers only.")
    if dtype is None:
        dtype = dtypes.canonical(host.dtype)
        if not _holds_typed_scalar(value):
            dtype = dtypes.DEFAULT_OF_KIND[dtypes.KIND[dtype]]
    _check_not_complex(host, dtype)
    if host.dtype.kind in "iu" and dtypes.is_integer(dtype) and host.size:
        limits = numpy.iinfo(dtype)
        if host.max() > limits.max or host.min() < limits.min:
            raise DtypeError(
                f"a Python integer in the list does not fit into {dtype.name}; give a wider dtype, "
                "for example fg.array(values, dtype=fg.int64)."
            )
    return numpy.array(host, dtype)


def _check_not_complex(host: numpy.ndarray, dtype: numpy.dtype | None) -> None:
    if dtype is not None and host.dtype.kind == "c" and not dtypes.is_complex(dtype):
        raise DtypeError(
            f"complex numbers do not convert to {dtype.name}; take their real part or absolute value first."
        )


def _unwrap_sequence(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_unwrap_sequence(item) for item in value]
    return numpy.asarray(value.concrete("a list of arrays")) if isinstance(value, Array) else value


def _holds_typed_scalar(value: Any) -> bool:
    """Whether a nested list holds NumPy scalars or arrays, whose dtypes count, rather than Python's numbers only."""
    if isinstance(value, (list, tuple)):
        return any(_holds_typed_scalar(item) for item in value)
    return isinstance(value, (numpy.ndarray, numpy.generic))


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
