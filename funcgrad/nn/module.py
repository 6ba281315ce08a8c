"""`Module`: the base class of layers and networks.

A module is a frozen dataclass that is a pytree. Its fields are either *data*, which are arrays, other modules and
pytrees of these: the parameters; or *static*, which are Python values such as sizes, names and activation functions.
Static fields belong to the structure of the tree, so no transform touches them, and `jit` compiles anew where they
differ. Because a module is a pytree, `grad` of a function of a module gives a module of gradients, and an optimizer's
step maps over both. There are no names of parameters, no registries, and no hidden state.

A base class rather than a decorator, although a decorator would be less code: layers are written with an `__init__`
that makes their parameters from a key, and a frozen dataclass cannot assign in its own `__init__`. The metaclass of
this base class opens a module while its `__init__` runs, closes it afterwards, and can then check that all of its
fields are there. It also means that nobody can forget the decorator.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import numpy

from funcgrad import tree
from funcgrad.array import Array
from funcgrad.errors import ArgumentError, ImmutableModuleError

_Module = TypeVar("_Module", bound="Module")
_STATIC_CLASSES = (bool, int, float, complex, str, bytes, type(None), numpy.dtype, enum.Enum, types.FunctionType)


def static_field(**options: Any) -> Any:
    """Declares a field that is part of the structure of a module, and no parameter of it.

    Fields annotated as numbers, strings, dtypes, callables, and tuples and unions of these, are static without it.

    Arguments:
        options: what `dataclasses.field` takes, such as `default`.

    Example:
        >>> import funcgrad as fg
        >>> class Scaled(fg.nn.Module):
        ...     factor: fg.Array
        ...     axes: tuple = fg.nn.static_field(default=(0,))
        >>> fg.tree.leaves(Scaled(fg.array(2.0)))
        [Array(2., dtype=float32)]
    """
    return dataclasses.field(metadata={**options.pop("metadata", {}), "static": True}, **options)


class _ModuleClass(ABCMeta):
    """The class of module classes: it lets `__init__` assign fields, and checks and closes the module after it."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        module: Any = cls.__new__(cls, *args, **kwargs)
        object.__setattr__(module, "_open", True)
        cls.__init__(module, *args, **kwargs)
        _complete(module)
        object.__delattr__(module, "_open")
        return module


@dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field, static_field))
@dataclasses.dataclass(repr=False, eq=False)
class Module(metaclass=_ModuleClass):
    """The base class of layers and networks: subclasses become frozen dataclasses that are pytrees.

    Declare the fields in the body of the class. Without an `__init__` of its own, a module takes them as arguments;
    with one, it assigns each of them there. Fields annotated as Python values (numbers, strings, callables, tuples of
    these) and those declared with `nn.static_field()` are static; all others hold parameters: arrays, modules, and
    pytrees of them. A module cannot be changed once it is made; `module.replace(...)` gives a changed copy.

    Raises:
        ArgumentError: when a module is made, if a field was not set, if a static field holds an array or something
            that has no hash, or if a data field holds a function or a string.
        ImmutableModuleError: for an assignment to a module, or to a field that was not declared.

    Example:
        >>> import funcgrad as fg
        >>> class Affine(fg.nn.Module):
        ...     scale: fg.Array
        ...     shift: fg.Array
        ...     activation: fg.nn.Activation = fg.nn.tanh
        ...
        ...     def __call__(self, x):
        ...         return self.activation(self.scale * x + self.shift)
        >>> module = Affine(fg.array(2.0), fg.array(-1.0))
        >>> module(0.5)
        Array(0., dtype=float32)
        >>> fg.grad(lambda module: module(0.5))(module).scale
        Array(0.5, dtype=float32)
    """

    _static_names: typing.ClassVar[frozenset[str]] = frozenset()
    _init_is_generated: typing.ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A generated __init__ is generated anew, for the new fields; one that somebody wrote is inherited.
        inherited_init = next(base for base in cls.__mro__[1:] if "__init__" in vars(base))
        was_generated = getattr(inherited_init, "_init_is_generated", False)
        cls._init_is_generated = "__init__" not in vars(cls) and was_generated
        dataclasses.dataclass(init=cls._init_is_generated, repr=False, eq=False)(cls)
        names = _names_around(cls)
        static = {field.name for field in dataclasses.fields(cls) if _is_static(field, cls, names)}
        cls._static_names = frozenset(static)
        fields = [field.name for field in dataclasses.fields(cls)]
        tree.register_dataclass(cls, [n for n in fields if n not in static], [n for n in fields if n in static])

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        if "_open" not in self.__dict__:
            raise ImmutableModuleError(
                f"a module does not change once it is made, so {kind}.{name} cannot be assigned; "
                f"make a changed copy with module.replace({name}=...)."
            )
        if name not in type(self).__dataclass_fields__:  # type: ignore[attr-defined]
            raise ImmutableModuleError(
                f"{kind} has no field '{name}'; declare it in the body of the class, for example "
                f"`{name}: fg.Array` or `{name}: fg.nn.Linear`, before assigning it in __init__."
            )
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise ImmutableModuleError(f"a module does not change once it is made, so {name} cannot be deleted from it.")

    def replace(self: _Module, **changes: Any) -> _Module:
        """A copy of the module in which some fields have other values.

        Arguments:
            changes: the new values, by the names of the fields.

        Raises:
            ArgumentError: if there is no such field, or the value does not fit it.

        Example:
            >>> import funcgrad as fg
            >>> layer = fg.nn.Linear(2, 3, key=fg.random.key(0))
            >>> layer.replace(weight=fg.numpy.zeros((3, 2)), bias=None)(fg.array([1.0, 2.0]))
            Array([0., 0., 0.], dtype=float32)
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise ArgumentError(f"{type(self).__name__} has no field '{name}'; its fields are {', '.join(names)}.")
        copy = object.__new__(type(self))
        for name in names:
            object.__setattr__(copy, name, changes[name] if name in changes else getattr(self, name))
        _complete(copy)
        return copy

    __replace__ = replace  # copy.replace(module, ...), from Python 3.13 on

    def __repr__(self) -> str:
        return _describe(self, "")


# Which fields are static


def _names_around(cls: type) -> dict[str, Any]:
    """The names that the body of a class sees, for annotations that are strings. Called while the class is made."""
    frame = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == __file__ or frame.f_globals["__name__"] != cls.__module__):
        frame = frame.f_back
    return {} if frame is None else {**frame.f_globals, **frame.f_locals}


def _is_static(field: dataclasses.Field, cls: type[Module], names: dict[str, Any]) -> bool:
    for base in cls.__mro__[1:]:
        if field in vars(base).get("__dataclass_fields__", {}).values():
            return field.name in base._static_names  # it was decided where the field was declared
    if "static" in field.metadata:
        return field.metadata["static"]
    annotation = field.type
    if isinstance(annotation, str):
        # Names that are only imported for type checkers cannot be found here: those of arrays, most often.
        try:
            annotation = eval(annotation, names, dict(vars(cls)))
        except Exception:
            return False
    return _is_static_type(annotation)


def _is_static_type(annotation: Any) -> bool:
    """Whether an annotation says that a field holds a Python value, and no array or container of arrays."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, tuple, frozenset):
        return all(argument is Ellipsis or _is_static_type(argument) for argument in arguments)
    if annotation in (Callable, typing.Callable) or origin in (Callable, typing.Literal, type):
        return True
    return annotation is None or isinstance(annotation, type) and issubclass(annotation, _STATIC_CLASSES)


# Checking a module when it is made


def _complete(module: Module) -> None:
    """Give the fields that `__init__` left out their defaults, and check that all hold what they can hold."""
    kind, static = type(module).__name__, module._static_names
    for field in dataclasses.fields(module):
        if field.name not in module.__dict__:
            object.__setattr__(module, field.name, _default(field, kind))
        value = module.__dict__[field.name]
        (_check_static if field.name in static else _check_data)(f"{kind}.{field.name}", value)


def _default(field: dataclasses.Field, kind: str) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ArgumentError(f"{kind}.__init__ did not set the field '{field.name}'; assign self.{field.name} there.")


def _check_static(where: str, value: Any) -> None:
    if any(isinstance(leaf, (Array, numpy.ndarray)) for leaf in tree.leaves(value)):
        raise ArgumentError(
            f"the static field {where} holds an array, which no transform would see; "
            "annotate the field as an array or a module, so that it is a parameter."
        )
    try:
        hash(value)
    except TypeError:
        raise ArgumentError(
            f"the static field {where} holds a {type(value).__name__}, which has no hash; use a tuple, a number, a "
            "string or a function."
        ) from None


def _check_data(where: str, value: Any) -> None:
    for leaf in tree.leaves(value):
        if callable(leaf) or isinstance(leaf, (str, bytes)):
            what = "string" if isinstance(leaf, (str, bytes)) else "function"
            raise ArgumentError(
                f"the field {where} holds a {what}, which is not an array; declare the field with "
                "nn.static_field(), or, for a function in a list of layers, wrap it in nn.Lambda."
            )


# Printing


def _describe(value: Any, indent: str) -> str:
    """A value in a module's repr: arrays as their dtype and shape, on one line where it fits and else one a field."""
    if isinstance(value, Array):
        return repr(value.aval.strong())
    if isinstance(value, Module):
        left, right = f"{type(value).__name__}(", ")"
        names = [field.name for field in dataclasses.fields(value)]
        parts = [(f"{name}=", getattr(value, name)) for name in names]
    elif type(value) in (tuple, list):
        left, right = "()" if type(value) is tuple else "[]"
        parts = [("", item) for item in value]
    elif type(value) is dict:
        left, right = "{}"
        parts = [(f"{key!r}: ", item) for key, item in value.items()]
    else:
        name = getattr(value, "__name__", None)
        return name if callable(value) and name is not None else repr(value)
    line = left + ", ".join(label + _describe(item, "") for label, item in parts) + right
    if len(line) + len(indent) <= 88 and "\n" not in line:
        return line
    inner = indent + "  "
    lines = [f"{inner}{label}{_describe(item, inner)},\n" for label, item in parts]
    return f"{left}\n{''.join(lines)}{indent}{right}"
