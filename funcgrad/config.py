"""Settings of the whole process: how many threads, how wide vectors are, where compiled code is kept.

    >>> import funcgrad as fg
    >>> with fg.config.override(threads=1):
    ...     fg.config.threads
    1

Each setting has a default, which an environment variable replaces. The variable is read when the setting is first
needed, so a program may still set it after funcgrad was imported.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload

from funcgrad.errors import ArgumentError

Value = TypeVar("Value")

MOST_THREADS = 256
VECTOR_BITS = (0, 128, 256, 512)
COMPILERS = ("default", "reference")
GIBIBYTE = 1 << 30


class Setting(Generic[Value]):
    """One setting: where its default comes from, and which values it takes.

    Arguments:
        environment: the variable that replaces the default.
        default: called to make the default.
        check: makes a value of the setting from what the user gave, or raises ValueError or TypeError.
        takes: which values are fine, as the error says it.
        docstring: what the setting does.
    """

    def __init__(
        self, environment: str, default: Callable[[], Value], check: Callable[[Any], Value], takes: str, docstring: str
    ):
        self.environment, self.default, self.check, self.takes = environment, default, check, takes
        self.__doc__ = docstring

    def __set_name__(self, owner: type, name: str):
        self.name = name

    @overload
    def __get__(self, config: None, owner: type) -> Setting[Value]: ...
    @overload
    def __get__(self, config: Config, owner: type) -> Value: ...
    def __get__(self, config: Config | None, owner: type) -> Setting[Value] | Value:
        if config is None:
            return self
        values = config._values
        if self.name not in values:
            text = os.environ.get(self.environment, "")
            # An empty variable is one that was unset in the shell's way.
            values[self.name] = self._checked(text, self.environment) if text else self.default()
        return values[self.name]

    def __set__(self, config: Config, value: Any):
        config._values[self.name] = checked = self._checked(value, f"fg.config.{self.name}")
        for watcher in config._watchers.get(self.name, ()):
            watcher(checked)

    def _checked(self, value: Any, name: str) -> Value:
        try:
            return self.check(value)
        except (TypeError, ValueError):
            raise ArgumentError(f"{name} cannot be {value!r}; give {self.takes}.") from None


def _whole_number(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(value) if isinstance(value, str) else operator.index(value)


def _check_threads(value: Any) -> int:
    number = _whole_number(value)
    if not 1 <= number <= MOST_THREADS:
        raise ValueError
    return number


def _check_vector_bits(value: Any) -> int | None:
    if value is None:
        return None
    number = _whole_number(value)
    if number not in VECTOR_BITS:
        raise ValueError
    return number


def _check_natural(value: Any) -> int:
    number = _whole_number(value)
    if number < 0:
        raise ValueError
    return number


def _check_natural_or_never(value: Any) -> int | None:
    return None if value is None or value == "never" else _check_natural(value)


def _check_compiler(value: Any) -> str:
    if value not in COMPILERS:
        raise ValueError
    return value


def _check_folder(value: Any) -> str | None:
    if value is None:
        return None
    folder = os.fspath(value)
    if not isinstance(folder, str) or not folder:
        raise ValueError
    return None if folder == "off" else os.path.abspath(os.path.expanduser(folder))


def usable_cpus() -> int:
    """The number of CPUs that this process may run on."""
    if sys.platform == "linux":
        return min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return min(os.cpu_count() or 1, MOST_THREADS)


def user_cache_folder() -> str | None:
    """Where the platform wants caches of the user's programs to be, with a folder of our own in it; None if nowhere."""
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        parent = os.path.expanduser("~/Library/Caches")
    else:
        # A relative path is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
        parent = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(parent):
            parent = os.path.expanduser("~/.cache")
    return os.path.join(parent, "funcgrad") if os.path.isabs(parent) else None


class Config:
    """The settings of this process. The one object of this class is `fg.config`.

    A setting is changed by assigning to it, or for a while with `override`. Either holds for all threads of the
    process. A name that is no setting raises AttributeError.

    Example:
        >>> import funcgrad as fg
        >>> fg.config.cache_bytes = 2**28
        >>> fg.config.cache_bytes
        268435456
        >>> fg.config.cache_bytes = 2**30
    """

    __slots__ = ("_values", "_watchers")

    threads = Setting(
        "FUNCGRAD_THREADS",
        usable_cpus,
        _check_threads,
        f"a whole number from 1 to {MOST_THREADS}",
        """How many threads compiled code runs on, the calling one included: an int, by default the number of CPUs that
        this process may use. Environment variable FUNCGRAD_THREADS. Results are bitwise the same for any number.""",
    )
    compiler = Setting(
        "FUNCGRAD_COMPILER",
        lambda: "default",
        _check_compiler,
        "'default' or 'reference'",
        """What runs functions whose `jit` names no compiler: "default" makes native code; "reference" runs what was
        traced as it stands, one operation after the other, to find out whether an unexpected result comes from
        compiling. Environment variable FUNCGRAD_COMPILER.""",
    )
    vector_bits = Setting(
        "FUNCGRAD_VECTOR_BITS",
        lambda: None,
        _check_vector_bits,
        "None for the widest vectors of this CPU, or 0, 128, 256 or 512",
        """The widest vectors that compiled code may use, in bits: None, the default, for those of this CPU; 128, 256 or
        512 for code as for a CPU that has none wider; 0 for no vectors at all. Environment variable
        FUNCGRAD_VECTOR_BITS. It counts for what is compiled afterwards.""",
    )
    native_after = Setting(
        "FUNCGRAD_NATIVE_AFTER",
        lambda: 1000,
        _check_natural_or_never,
        "a whole number, 0 or more, or None or 'never'",
        """How many eager operations, those outside of `jit`, NumPy computes before native code is made for such as come
        again: by default 1000, since it takes a while to load what that needs; 0 for native code from the first
        operation on; None or "never" to leave them all to NumPy. Where functions such as `tanh` are rounded, both may
        differ in the last digit. Environment variable FUNCGRAD_NATIVE_AFTER.""",
    )
    cache_folder = Setting(
        "FUNCGRAD_CACHE",
        user_cache_folder,
        _check_folder,
        "the path of a folder, or None or 'off' to keep nothing",
        """The folder in which compiled code is kept from one run to the next, by default `funcgrad` in the user's
        folder of caches; None or "off" to keep nothing. Environment variable FUNCGRAD_CACHE.""",
    )
    cache_bytes = Setting(
        "FUNCGRAD_CACHE_BYTES",
        lambda: GIBIBYTE,
        _check_natural,
        "a number of bytes, 0 or more",
        """How many bytes the cache folder may hold, by default 2**30: what was not used for the longest time goes
        first. Environment variable FUNCGRAD_CACHE_BYTES.""",
    )
    dump_folder = Setting(
        "FUNCGRAD_DUMP",
        lambda: None,
        _check_folder,
        "the path of a folder, or None or 'off' to write nothing",
        """A folder into which every stage of everything that is compiled is written; None, the default, for no such
        thing. Environment variable FUNCGRAD_DUMP.""",
    )

    def __init__(self):
        self._values: dict[str, Any] = {}
        self._watchers: dict[str, list[Callable[[Any], None]]] = {}

    @contextmanager
    def override(self, **settings: Any) -> Iterator[Config]:
        """Changes settings for the length of a `with` block, in all threads.

        Arguments:
            settings: names of settings and their values.

        Raises:
            ArgumentError: a value makes no sense for its setting, or there is no setting of that name; nothing has
                changed then.

        Example:
            >>> import funcgrad as fg
            >>> with fg.config.override(vector_bits=256, threads=1) as config:
            ...     config.vector_bits
            256
        """
        known = [name for name, value in vars(Config).items() if isinstance(value, Setting)]
        for name in settings:
            if name not in known:
                raise ArgumentError(f"There is no setting {name!r}; there are {', '.join(known)}.")
        before = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def watch(self, name: str, watcher: Callable[[Any], None]):
        """Calls `watcher` with the new value whenever the setting of that name is assigned to."""
        self._watchers.setdefault(name, []).append(watcher)

    def __repr__(self) -> str:
        names = (name for name, value in vars(Config).items() if isinstance(value, Setting))
        return f"config({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


config = Config()
"""The settings of this process."""
