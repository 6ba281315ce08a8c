"""What rows share: a way to write a computation once for funcgrad and JAX, and how the others are called.

funcgrad has JAX's names, so a row holds one `program(library)`, which both compute. It takes the library as a
`Functional` and returns a function of the row's data, in their order, or a training step of a state and a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy

from benchmarks.row import Data, Source


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree of dicts, tuples and lists with the function applied to every array."""
    if isinstance(tree, Mapping):
        return {name: map_arrays(function, item) for name, item in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_arrays(function, item) for item in tree)
    return function(tree)


@dataclass(frozen=True)
class Functional:
    """funcgrad or JAX: `api` holds the transforms, and `wait` returns its argument once it is computed."""

    api: ModuleType
    numpy: ModuleType
    lax: ModuleType
    random: ModuleType
    wait: Callable[[Any], Any]

    def arrays(self, tree: Any) -> Any:
        """Copies of NumPy arrays, as arrays of the library."""
        return map_arrays(self.numpy.array, tree)


def functional(name: str) -> Functional:
    """Imports funcgrad or JAX."""
    api, *modules = (import_module(f"{name}{part}") for part in ("", ".numpy", ".lax", ".random"))
    wait = api.block_until_ready if name == "jax" else lambda result: result
    return Functional(api, *modules, wait)


def compile_something(peer: str) -> None:
    """Compiles a function that no row has, so that the compiler of funcgrad, JAX or PyTorch is loaded."""
    if peer == "torch.compile":
        torch = import_module("torch")
        torch.compile(lambda x: x + 1, dynamic=False)(torch.ones(3))
    else:
        library = functional(peer)
        library.wait(library.api.jit(lambda x: x + 1)(library.numpy.ones(3)))


Program = Callable[[Functional], Callable[..., Any]]


def functions(program: Program, jit: bool = True) -> dict[str, Source]:
    """The sources of funcgrad and JAX of a row whose program is a function of the data."""

    def source(name: str) -> Source:
        def with_library(data: Data) -> Callable[[], Any]:
            library = functional(name)
            function = program(library)
            if jit:
                function = library.api.jit(function)
            operands = [library.arrays(value) for value in data.values()]
            return (lambda: function(*operands)) if name == "funcgrad" else (lambda: library.wait(function(*operands)))

        return with_library

    return {name: source(name) for name in ("funcgrad", "jax")}


class Training:
    """A training step whose state is handed from call to call, from `restart` on."""

    def __init__(self, library: Functional, step: Callable[..., Any], data: Data) -> None:
        self._library, self._initial = library, data["state"]
        self._step = library.api.jit(step, donate_argnums=0)
        self._batch = library.arrays(data["batch"])
        self._state: Any = None

    def restart(self) -> None:
        # First given up, so that there are never two of them.
        self._state = None
        self._state = self._library.wait(self._library.arrays(self._initial))

    def __call__(self) -> Any:
        self._state, loss = self._library.wait(self._step(self._state, self._batch))
        return self._state, loss


def training_steps(program: Program) -> dict[str, Source]:
    """The sources of funcgrad and JAX of a row whose program is a training step.

    The data are a `"state"` and a `"batch"`; the step turns them into `(new_state, loss)`. The state is donated.
    """

    def source(name: str) -> Source:
        def with_library(data: Data) -> Training:
            library = functional(name)
            return Training(library, program(library), data)

        return with_library

    return {name: source(name) for name in ("funcgrad", "jax")}


def numpy_function(function: Callable[..., Any]) -> dict[str, Source]:
    """The source of NumPy: a function of the data, which it is given as copies."""

    def with_numpy(data: Data) -> Callable[[], Any]:
        operands = [map_arrays(numpy.array, value) for value in data.values()]
        return lambda: function(*operands)

    return {"numpy": with_numpy}


def autograd_function(loss: Callable[..., Any], differentiate: Sequence[str]) -> dict[str, Source]:
    """The source of autograd: the value of a loss and its gradients in some data, by their names.

    The loss takes a module with NumPy's names, and then the data.
    """

    def with_autograd(data: Data) -> Callable[[], Any]:
        import autograd
        import autograd.numpy

        operands = [map_arrays(numpy.array, value) for value in data.values()]
        targets = tuple(place for place, name in enumerate(data) if name in differentiate)
        compute = autograd.value_and_grad(lambda *operands: loss(autograd.numpy, *operands), targets)
        return lambda: compute(*operands)

    return {"autograd": with_autograd}


def torch_tensors(tree: Any, requires_grad: bool = False) -> Any:
    """Copies of NumPy arrays as PyTorch tensors; floating ones may take part in derivatives."""
    import torch

    def tensor(array: numpy.ndarray) -> Any:
        return torch.tensor(array, requires_grad=requires_grad and array.dtype.kind == "f")

    return map_arrays(tensor, tree)


def torch_sources(make: Callable[[Data, Callable[..., Any]], Callable[[], Any]]) -> dict[str, Source]:
    """The sources of PyTorch, eager and compiled: `make` gets the data, and what to wrap round its function."""

    def compiled(data: Data) -> Callable[[], Any]:
        import torch

        return make(data, lambda function: torch.compile(function, dynamic=False))

    return {"torch": lambda data: make(data, lambda function: function), "torch.compile": compiled}


def torch_functions(function: Callable[..., Any], differentiate: Sequence[str] = ()) -> dict[str, Source]:
    """The sources of PyTorch of a row whose function takes the data as tensors.

    With `differentiate`, the names of some data, the result is the function's value and its gradients in these.
    """

    def make(data: Data, wrap: Callable[..., Any]) -> Callable[[], Any]:
        import torch

        operands = [torch_tensors(value, name in differentiate) for name, value in data.items()]
        targets = [operand for name, operand in zip(data, operands, strict=True) if name in differentiate]
        computed = wrap(function)
        if not differentiate:
            return lambda: computed(*operands)

        def value_and_gradient() -> Any:
            value = computed(*operands)
            return value, torch.autograd.grad(value, targets)

        return value_and_gradient

    return torch_sources(make)


class TorchTraining:
    """The training step of PyTorch's users: forward, backward, and an optimizer that changes parameters in place.

    **Arguments:**

    - `parameters`: by their names in the row's state.
    - `loss`: a function of the batch.
    - `optimizer`: `slots` says what it keeps for a parameter, as `{name in the row's state: name in the optimizer}`.
    - `data`: the row's: a `"batch"`, and a `"state"` of `"parameters"`, the same tree under the name of each slot, and
      perhaps a `"count"` of steps.
    - `show`: makes of a parameter a view with the axes that it has in the row, if those are others.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        loss: Callable[..., Any],
        optimizer: Any,
        slots: dict[str, str],
        data: Data,
        show: Callable[[str, Any], Any] = lambda name, parameter: parameter,
    ) -> None:
        import torch

        self._loss, self._optimizer, self._batch = loss, optimizer, torch_tensors(data["batch"])
        self._state: dict[str, Any] = {"parameters": {name: show(name, value) for name, value in parameters.items()}}
        for name in slots:
            self._state[name] = {}
        # Pairs of a tensor and the NumPy array that it starts with.
        self._initial = []
        for parameter_name, parameter in parameters.items():
            kept = optimizer.state[parameter]
            for name, slot in slots.items():
                kept[slot] = torch.zeros_like(parameter)
                self._state[name][parameter_name] = show(parameter_name, kept[slot])
            for name in ("parameters", *slots):
                pair = self._state[name][parameter_name], data["state"][name][parameter_name]
                self._initial.append(pair)
            if "count" in data["state"]:
                kept["step"] = self._state["count"] = torch.zeros(())
                self._initial.append((kept["step"], data["state"]["count"]))

    def restart(self) -> None:
        import torch

        with torch.no_grad():
            for tensor, initial in self._initial:
                tensor.copy_(torch.from_numpy(numpy.asarray(initial)))

    def __call__(self) -> Any:
        self._optimizer.zero_grad()
        loss = self._loss(*self._batch)
        loss.backward()
        self._optimizer.step()
        return self._state, loss


def channels_last(tensor: Any) -> Any:
    """A tensor that lies in memory as convolutions like it best: of four axes, the second one is the fastest."""
    import torch

    return tensor.contiguous(memory_format=torch.channels_last if tensor.ndim == 4 else torch.contiguous_format)


def torch_parameters(tree: dict[str, numpy.ndarray], hide: Callable[[str, Any], Any] | None = None) -> dict[str, Any]:
    """Parameters of PyTorch; `hide` gives one the axes that PyTorch likes, and `show` of `TorchTraining` undoes it."""
    import torch

    tensors = {name: torch.tensor(value) for name, value in tree.items()}
    if hide is not None:
        tensors = {name: channels_last(hide(name, value)) for name, value in tensors.items()}
    return {name: torch.nn.Parameter(value) for name, value in tensors.items()}
