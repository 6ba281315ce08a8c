"""Every exception that funcgrad raises on purpose.

Each message is one sentence in the user's words: what was wrong, and what to do instead. The base class adds the
user's own file and line, found by walking the stack out of this package, so that nobody has to read a traceback
full of internals to find the line that matters.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, FrameType

PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class SourceLine:
    """A line of the user's code: where an operation was called. The text of the line is read only when asked for."""

    __slots__ = ("code", "line")

    def __init__(self, code: CodeType, line: int):
        self.code, self.line = code, line

    @property
    def file(self) -> str:
        return self.code.co_filename

    @property
    def text(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame outside this package, or None when the whole stack is ours.

    The generated helpers of decorators and comprehensions belong to the file that holds them, so a file name is
    enough to tell the user's frames from ours.
    """
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        frame = frame.f_back
    return frame


def user_line() -> SourceLine | None:
    """The user's line that is running now."""
    frame = user_frame(2)
    return None if frame is None else SourceLine(frame.f_code, frame.f_lineno)


class FuncgradError(Exception):
    """Base class of all errors raised by funcgrad.

    Arguments:
        message: one sentence, saying what was wrong and what to do instead.
        source: the user's line it is about; by default the line that is running now.
    """

    def __init__(self, message: str, source: SourceLine | None = None):
        self.message = message
        self.source = source or user_line()
        super().__init__(message)

    def __str__(self) -> str:
        if self.source is None:
            return self.message
        where = f'{self.message}\n  File "{self.source.file}", line {self.source.line}'
        return f"{where}\n    {self.source.text}" if self.source.text else where

    def __reduce__(self):
        # A code object cannot be pickled; the text that the user reads can, and is all a parent process needs.
        return _restore, (type(self), str(self))


def _restore(cls: type[FuncgradError], text: str) -> FuncgradError:
    error = cls.__new__(cls)
    error.message, error.source, error.args = text, None, (text,)
    return error


class ShapeError(FuncgradError, ValueError):
    """The shapes of the operands do not fit the operation."""


class DtypeError(FuncgradError, TypeError):
    """The dtype of an operand does not fit the operation or the transform."""


class ArgumentError(FuncgradError, ValueError):
    """An argument of a transform or function has a value that makes no sense there."""


class ArgumentTypeError(FuncgradError, TypeError):
    """An argument is of a type that is neither an array nor something that converts to one."""


class TreeError(FuncgradError, ValueError):
    """Two pytrees that should have the same structure differ, or a pytree holds something unexpected."""


class OutOfBoundsError(FuncgradError, IndexError):
    """A Python integer used as an index lies outside the axis."""


class IndexTypeError(FuncgradError, TypeError):
    """Something that cannot index an array was used as an index."""


class ImmutableArrayError(FuncgradError, TypeError):
    """An attempt to write into an array."""


class ImmutableModuleError(FuncgradError, AttributeError):
    """An attempt to assign to a module that is made already, or to a field that it does not declare."""


class TracedValueError(FuncgradError, TypeError):
    """The concrete value of an array was needed while a transform runs the function with abstract values."""


class LeakedTracerError(FuncgradError, RuntimeError):
    """A traced value was used after, or outside of, the transformed function that it belongs to."""


class DonatedArrayError(FuncgradError, RuntimeError):
    """An array whose memory was given away by `donate_argnums` was used again."""


class MissingRuleError(FuncgradError, NotImplementedError):
    """A primitive has no rule for the transform that met it."""


class UnboundAxisError(FuncgradError, NameError):
    """A collective names an axis that no surrounding `vmap` has."""


class ProgramError(FuncgradError, TypeError):
    """A Program is not well typed. Seeing it means a bug in a primitive's rules, not in the user's code."""


class DeviceError(FuncgradError, RuntimeError):
    """A device that was asked for is not there, or operands live on different devices."""


class CheckpointError(FuncgradError):
    """A checkpoint cannot be written or read."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no checkpoint where one was looked for."""


class DamagedCheckpointError(CheckpointError):
    """The bytes of a checkpoint are not those that were written, or the file is none."""


class CheckpointMismatchError(CheckpointError, ValueError):
    """A checkpoint holds other leaves than the example that it is restored into."""


class DataError(FuncgradError, ValueError):
    """A file of data does not hold what its format says, or something else than was asked for."""


class WorkerError(FuncgradError, RuntimeError):
    """A worker process of a data loader died, or raised something that cannot be sent to its parent."""


class NotFiniteError(FuncgradError, ArithmeticError):
    """A training step gave NaN or infinity, and a callback watches for it."""


class LogError(FuncgradError):
    """A file of logs cannot be written or read."""


class MissingPackageError(FuncgradError, ImportError):
    """A package is not installed that only some functions need."""
