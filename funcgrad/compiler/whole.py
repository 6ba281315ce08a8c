"""Programs that are one native function from beginning to end, so that nothing of them has to run in Python.

What is known of such a Program once it is compiled is plain data, its *recipe*: which buffers its machine code takes
and gives, how much memory it needs, and the name under which the code is kept. Recipes are kept on disk as well, by the
`identity` of the Program. A Program whose recipe is found there needs nothing of the compiler any more.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from funcgrad import dtypes
from funcgrad.compiler import cache
from funcgrad.compiler.bridge import native_callable
from funcgrad.compiler.execute import Executable
from funcgrad.compiler.identity import identity
from funcgrad.compiler.machine import Loaded, load
from funcgrad.compiler.memory import keep_freed_memory
from funcgrad.compiler.pool import parallel_address
from funcgrad.compiler.target import host_key
from funcgrad.program import Program

ENTRY = "entry"  # the name of the function, as the machine code has it
Array = tuple[tuple[int, ...], str]  # shape, and name of the dtype


class Recipe(NamedTuple):
    """All that is needed to run machine code, apart from the code.

    Attributes:
        code: the key in the cache of the machine code.
        inputs, outputs: what the function takes and gives, besides what it gives back.
        constants: arrays that the code reads, their elements in order.
        arena: how many bytes of memory it needs while it runs.
        nanoseconds: about how long it runs.
        taken: the numbers of the inputs that the code takes.
        results: what the function gives: numbers of inputs, and, counting on, of outputs.
        in_place: for outputs, by their number, the numbers of the inputs in whose memory it may write them.
    """

    code: bytes
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    constants: tuple[numpy.ndarray, ...]
    arena: int
    nanoseconds: float
    taken: tuple[int, ...]
    results: tuple[int, ...]
    in_place: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def function(self, loaded: Loaded) -> Callable[..., Any]:
        """The code as a function of buffers, which gives NotImplemented if they do not lie in memory as it wants."""
        keep_freed_memory()
        return native_callable(
            loaded.addresses[ENTRY],
            self.inputs,
            self.outputs,
            self.constants,
            self.arena,
            loaded,
            self.nanoseconds,
            functions=[parallel_address()],
            taken=self.taken,
            results=self.results,
            otherwise=NotImplemented,
        )


def described(shape: Sequence[int], dtype: numpy.dtype) -> Array:
    """An array as it stands in a recipe."""
    return tuple([int(n) for n in shape]), dtypes.canonical(dtype).name


class WholeProgram:
    """Runs a Program that is one native function.

    Arguments:
        recipe, loaded: the function.
        otherwise: gives what runs the Program for buffers that the function cannot read at all.

    Attributes:
        native: the function of buffers. It gives NotImplemented where it cannot read them as they lie in memory.
        in_place: see `Recipe`.
    """

    __slots__ = ("_otherwise", "in_place", "native")

    def __init__(self, recipe: Recipe, loaded: Loaded, otherwise: Callable[[], Executable]):
        self.native, self.in_place = recipe.function(loaded), dict(recipe.in_place)
        self._otherwise = otherwise

    def __call__(self, *buffers: Any) -> Sequence[Any]:
        results = self.native(*buffers)
        if results is not NotImplemented:
            return results
        if all(type(x) is numpy.ndarray for x in buffers):
            return self.native(*(numpy.require(x, requirements=["C", "A"]) for x in buffers))
        return self._otherwise()(*buffers)


class Shelf:
    """The place in the cache for the recipe of a Program; there is none for a Program without an identity.

    Attributes:
        is_several: whether the Program is known to be no native function, but several steps, of which each native one
            has a shelf of its own.
    """

    def __init__(self, program: Program):
        known, self.is_several = identity(program), False
        self._key = None if known is None else host_key() + known

    def recipe(self) -> tuple[Recipe, Loaded] | None:
        """The recipe and the code that it is for, if both are there."""
        kept = None if self._key is None else cache.read(self._key)
        if kept is None:
            return None
        fields, constants = marshal.loads(kept)
        if fields is None:
            self.is_several = True
            return None
        arrays = [numpy.frombuffer(x, dtypes.canonical(name)).reshape(shape) for shape, name, x in constants]
        recipe = Recipe(*fields)._replace(constants=tuple(arrays))
        code = cache.read(recipe.code)
        return None if code is None else (recipe, load(code, [ENTRY]))

    def put(self, recipe: Recipe | None) -> None:
        """Keeps a recipe; None if there can be none, because the Program is several steps."""
        if self._key is not None and not self.is_several:
            fields: Any = None if recipe is None else tuple(recipe._replace(constants=()))
            arrays = () if recipe is None else recipe.constants
            constants = [(*described(x.shape, x.dtype), x.tobytes()) for x in arrays]
            cache.write(self._key, marshal.dumps((fields, constants)))
