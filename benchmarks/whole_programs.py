"""What rows of whole programs share: trainings from the start of the process to the last epoch, as users wait for them.

All libraries get the same data, initial parameters and order of batches, and print their losses, which have to agree.
The program of funcgrad and of JAX with Optax is one and the same, as are their names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.libraries import Functional, functional
from benchmarks.row import ProcessRow


def with_optimizers(name: str) -> tuple[Functional, Any]:
    """funcgrad or JAX, and the optimizers that go with it."""
    return functional(name), import_module({"funcgrad": "funcgrad.optim", "jax": "optax"}[name])


def training_step(library: Functional, optim: Any, optimizer: Any, loss: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled step (parameters, state of the optimizer, batch...) -> (parameters, state, loss)."""

    def step(parameters: Any, state: Any, *batch: Any) -> Any:
        value, gradient = library.api.value_and_grad(loss)(parameters, *batch)
        updates, state = optimizer.update(gradient, state, parameters)
        return optim.apply_updates(parameters, updates), state, value

    return library.api.jit(step, donate_argnums=(0, 1))


def tell(losses: Sequence[float]) -> None:
    """Prints what `agreement_with` reads."""
    print(json.dumps(list(losses)))


def agreement_with(expected: Sequence[float], tolerance: float) -> Callable[[str], str | None]:
    """A check that the printed losses are those expected, each with a relative error of at most `tolerance`."""

    def check(printed: str) -> str | None:
        losses = json.loads(printed.strip().splitlines()[-1])
        if len(losses) == len(expected):
            pairs = zip(losses, expected, strict=True)
            if all(math.isclose(found, right, rel_tol=tolerance) for found, right in pairs):
                return None
        return f"the losses are {losses}; expected {list(expected)}"

    return check


def program_row(name: str, title: str, losses: Sequence[float], tolerance: float) -> ProcessRow:
    """The row of the programs `with_functional(name)` and `with_torch()` in the row's file.

    What is required holds for the programs as they are run every day, with what was compiled on disk.
    """
    module = f"benchmarks.rows.{name}"
    functional = f"from {module} import with_functional; with_functional"
    return ProcessRow(
        name=name,
        title=title,
        unit="s",
        statements={
            "funcgrad": f"{functional}('funcgrad')",
            "jax": f"{functional}('jax')",
            "torch": f"from {module} import with_torch; with_torch()",
        },
        modules={"jax": ("optax",)},
        check=agreement_with(losses, tolerance),
        required={"jax": 2.0, "torch": 1.0},
    )
