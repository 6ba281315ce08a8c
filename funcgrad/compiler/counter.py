"""Counts eager operations, until it is worth the while to load what native code needs: see `eager`.

This is imported with the library, and so imports nothing that takes time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from funcgrad.array import ConcreteArray
from funcgrad.config import config
from funcgrad.core import Primitive
from funcgrad.primitives.operators import METHODS


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
        self.python_call: Callable[..., Any] = Primitive.__call__
        self.eager: Any = None
        self._counting: list[str] = []
        self._lock = threading.RLock()

    def start(self) -> None:
        """Puts functions that count in the place of those that compute."""
        Primitive.__call__ = self._counted(self.python_call)
        for direct in METHODS:
            setattr(ConcreteArray, direct.name, self._counted(direct.usual))
            self._counting.append(direct.name)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def counted(*arguments: Any, **params: Any) -> Any:
            self.count += 1
            if self.count > config.native_after:
                self.take_over()
            return function(*arguments, **params)

        return counted

    def take_over(self) -> None:
        """Ends the counting, and puts native code in its place if this Python can have it."""
        if config.compiler == "reference":
            self.count = 0  # as long as that is set
            return
        with self._lock:
            if not self._counting:
                return  # another thread was faster
            Primitive.__call__ = self.python_call
            for name in self._counting:
                delattr(ConcreteArray, name)
            self._counting.clear()
            from funcgrad.compiler.eager import activate

            self.eager = activate(self.python_call, self.forward_mode)


counter = Counter()
counter.start()
