"""Counts eager operations, until it is worth the while to load what native code needs: see `eager`.

This is imported with the library, and so imports nothing that takes time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from funcgrad.array import ConcreteArray
from funcgrad.compiler.locks import COMPILING
from funcgrad.config import config
from funcgrad.core import Primitive, Tracer
from funcgrad.primitives.operators import METHODS


def is_wanted() -> bool:
    """Whether eager operations may be native."""
    return config.native_after is not None and config.compiler != "reference"


def work_of(operands: Sequence[Any]) -> int:
    """How much an operation counts: one, and one more for each thousand elements; nothing while it is only traced."""
    x = operands[-1] if operands else None
    if type(x) is ConcreteArray and not x.is_deleted():
        return 1 + (x.size >> 10)
    return 0 if isinstance(x, Tracer) else 1


class Counter:
    """Stands in the place of operators and of the call of primitives, and counts.

    Attributes:
        python_call: what the call of a primitive is in Python.
        eager: native eager operations, once there are any.
        forward_mode: the interpreters of forward mode and of the first step of reverse mode, their tracer, and the
            class of the second step; the floor of transforms says which they are.
    """

    forward_mode: tuple[type, type, type, type]

    def __init__(self):
        self.count = 0
        self._limit: float | None = None  # of the count, until which nothing happens; None while nobody has asked
        self.python_call: Callable[..., Any] = Primitive.__call__
        self.eager: Any = None
        self._counting: list[str] = []

    def start(self) -> None:
        """Puts functions that count in the place of those that compute."""
        Primitive.__call__ = self._counted(self.python_call, Primitive)
        for direct in METHODS:
            setattr(ConcreteArray, direct.name, self._counted(direct.usual, ConcreteArray))
            self._counting.append(direct.name)

    def _counted(self, function: Callable[..., Any], cls: type) -> Callable[..., Any]:
        @wraps(function)
        def counted(*arguments: Any, **params: Any) -> Any:
            self.count += work_of(arguments)
            if self._limit is None or self.count > self._limit:
                self.take_over()
                if self.eager is not None:
                    return getattr(cls, function.__name__)(*arguments, **params)
            return function(*arguments, **params)

        return counted

    def take_over(self, *_: Any) -> None:
        """Ends the counting, if it is time, and has native code put in its place if this Python can have it."""
        if self._limit is None:
            config.watch("native_after", self.take_over)
            config.watch("compiler", self.take_over)
        self._limit = float(config.native_after or 0) if is_wanted() else math.inf
        if self.count <= self._limit or not self._counting:
            return
        # At once, and not in another thread meanwhile: from which operation on numbers are rounded in another way must
        # not depend on how busy the machine is.
        with COMPILING:
            self._activate()

    def _activate(self) -> None:
        if not self._counting:
            return  # another thread was faster
        from funcgrad.compiler.eager import activate

        names, self._counting = self._counting, []
        eager = activate(self.python_call, self.forward_mode, is_wanted)
        if eager is None:
            Primitive.__call__ = self.python_call
            for name in names:
                delattr(ConcreteArray, name)
        self.eager = eager


counter = Counter()
counter.start()
