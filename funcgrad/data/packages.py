"""Packages that only some functions need, imported when they are."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from funcgrad.errors import MissingPackageError


def needed(module: str, package: str, purpose: str) -> Any:
    """The module, for a purpose that the message names if its package is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingPackageError(
            f"{purpose} needs the package {package}; install it with pip install 'funcgrad[data]'."
        ) from None
