"""Recurrent networks: the cells, which take one step, and the layers that run them along sequences.

Parameters, gates and initial values are PyTorch's: everything is drawn uniformly from (-1/sqrt(hidden_features),
1/sqrt(hidden_features)), and the rows of the weights hold one gate after the other.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from funcgrad import dtypes, random
from funcgrad import numpy as np
from funcgrad.annotations import Array, ArrayLike, Float, Key, Real
from funcgrad.control_flow.scan import scan
from funcgrad.errors import ShapeError
from funcgrad.nn.activations import Activation, sigmoid, tanh
from funcgrad.nn.dropout import Dropout
from funcgrad.nn.linear import check_sizes
from funcgrad.nn.module import Module


class RecurrentCell(Module):
    """What `RNNCell`, `GRUCell` and `LSTMCell` have in common.

    Arguments:
        in_features: the number of features of the input of a step.
        hidden_features: the number of features of the state.
        key: the random key from which the parameters are drawn.
        use_bias: whether there are biases.
        dtype: the dtype of the parameters.

    Attributes:
        input_weight: an array of shape (gates * hidden_features, in_features).
        hidden_weight: an array of shape (gates * hidden_features, hidden_features).
        input_bias, hidden_bias: arrays of shape (gates * hidden_features,), or None.
    """

    gates = 1

    input_weight: Float[Array, "rows in_features"]
    hidden_weight: Float[Array, "rows hidden_features"]
    input_bias: Float[Array, " rows"] | None
    hidden_bias: Float[Array, " rows"] | None
    in_features: int
    hidden_features: int

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        key: Key,
        use_bias: bool = True,
        dtype: Any = dtypes.float32,
    ):
        check_sizes(type(self).__name__, in_features=in_features, hidden_features=hidden_features)
        bound = 1 / math.sqrt(hidden_features) if hidden_features else 0.0
        rows = self.gates * hidden_features
        shapes = [(rows, in_features), (rows, hidden_features), (rows,), (rows,)]
        drawn = [
            random.uniform(part, shape, dtype, -bound, bound)
            for part, shape in zip(random.split(key, 4), shapes, strict=True)
        ]
        self.input_weight, self.hidden_weight = drawn[:2]
        self.input_bias, self.hidden_bias = drawn[2:] if use_bias else (None, None)
        self.in_features, self.hidden_features = in_features, hidden_features

    def initial_state(self, batch: Sequence[int] = ()) -> Any:
        """The state before the first step: zeros.

        Arguments:
            batch: the batch axes.
        """
        return np.zeros((*batch, self.hidden_features), self.hidden_weight.dtype)

    def __call__(
        self, x: Float[ArrayLike, "*batch in_features"], state: Any, *, key: Key | None = None
    ) -> tuple[Float[Array, "*batch hidden_features"], Any]:
        """One step.

        Arguments:
            x: one input, of shape (in_features,), or a batch, of shape (..., in_features).
            state: what `initial_state`, or the last step, gave.
            key: not used.

        Returns:
            The output, of shape (..., hidden_features), and the new state.

        Raises:
            ShapeError: if the last axis of `x` does not have `in_features` elements.
        """
        return self.step(self.projected(x), state)

    def projected(self, x: Any) -> Array:
        """The part of a step that needs no state, which can be computed for all steps at once."""
        x = np.asarray(x)
        if x.shape[-1:] != (self.in_features,):
            raise ShapeError(
                f"{type(self).__name__}({self.in_features}, {self.hidden_features}) got an input of shape {x.shape}; "
                f"its last axis must have {self.in_features} features."
            )
        y = x @ self.input_weight.T
        return y if self.input_bias is None else y + self.input_bias

    @abstractmethod
    def step(self, projected: Array, state: Any) -> tuple[Array, Any]:
        """The rest of a step: the output and the new state."""

    def _of_hidden(self, hidden: Array) -> Array:
        y = hidden @ self.hidden_weight.T
        return y if self.hidden_bias is None else y + self.hidden_bias


class RNNCell(RecurrentCell):
    """A step of the simple recurrent network: `h = activation(W x + b + U h + c)`. Its state is its output.

    Arguments:
        in_features, hidden_features, key, use_bias, dtype: see `RecurrentCell`.
        activation: the activation function.

    Example:
        >>> import funcgrad as fg
        >>> cell = fg.nn.RNNCell(2, 3, key=fg.random.key(0))
        >>> y, state = cell(fg.numpy.ones((5, 2)), cell.initial_state((5,)))
        >>> y.shape
        (5, 3)
    """

    activation: Activation

    def __init__(self, in_features: int, hidden_features: int, *, activation: Activation = tanh, **options: Any):
        super().__init__(in_features, hidden_features, **options)
        self.activation = activation

    def step(self, projected: Array, state: Any) -> tuple[Array, Any]:
        hidden = self.activation(projected + self._of_hidden(state))
        return hidden, hidden


class GRUCell(RecurrentCell):
    """A step of the gated recurrent unit. Its state is its output; arguments: see `RecurrentCell`.

    The gates are, in this order: reset, update, new.

    Source: K. Cho et al., https://arxiv.org/abs/1406.1078, with the reset gate behind the matrix product.

    Example:
        >>> import funcgrad as fg
        >>> cell = fg.nn.GRUCell(2, 3, key=fg.random.key(0))
        >>> y, state = cell(fg.numpy.ones((5, 2)), cell.initial_state((5,)))
        >>> y.shape
        (5, 3)
    """

    gates = 3

    def step(self, projected: Array, state: Any) -> tuple[Array, Any]:
        reset_x, update_x, new_x = np.split(projected, 3, axis=-1)
        reset_h, update_h, new_h = np.split(self._of_hidden(state), 3, axis=-1)
        update = sigmoid(update_x + update_h)
        new = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
        hidden = new + update * (state - new)
        return hidden, hidden


class LSTMCell(RecurrentCell):
    """A step of the long short-term memory. Its state is a pair, output and cell; arguments: see `RecurrentCell`.

    The gates are, in this order: input, forget, cell, output.

    Source: S. Hochreiter and J. Schmidhuber, https://doi.org/10.1162/neco.1997.9.8.1735; F. Gers, J. Schmidhuber and
    F. Cummins, https://doi.org/10.1162/089976600300015015.

    Example:
        >>> import funcgrad as fg
        >>> cell = fg.nn.LSTMCell(2, 3, key=fg.random.key(0))
        >>> y, (hidden, memory) = cell(fg.numpy.ones((5, 2)), cell.initial_state((5,)))
        >>> y.shape, memory.shape
        ((5, 3), (5, 3))
    """

    gates = 4

    def initial_state(self, batch: Sequence[int] = ()) -> Any:
        """The pair of states before the first step: zeros.

        Arguments:
            batch: the batch axes.
        """
        zeros = super().initial_state(batch)
        return zeros, zeros

    def step(self, projected: Array, state: Any) -> tuple[Array, Any]:
        hidden, memory = state
        gates = projected + self._of_hidden(hidden)
        into, forget, new, out = np.split(gates, 4, axis=-1)
        memory = sigmoid(forget) * memory + sigmoid(into) * np.tanh(new)
        hidden = sigmoid(out) * np.tanh(memory)
        return hidden, (hidden, memory)


class RecurrentLayers(Module):
    """What `RNN`, `GRU` and `LSTM` have in common: cells that run along sequences, in one or more layers.

    Arguments:
        in_features: the number of features of the inputs.
        hidden_features: the number of features of a state.
        num_layers: the number of layers, each of which gets the outputs of the one before it.
        key: the random key from which the parameters are drawn.
        bidirectional: whether each layer also has a cell that runs from the end to the start.
        dropout: the probability of an output of each layer but the last to become 0 while training.
        use_bias: whether there are biases.
        dtype: the dtype of the parameters.

    Attributes:
        cells: a tuple of cells, layer after layer; in a layer with two, the one that runs forward comes first.
    """

    cell_class: ClassVar[type[RecurrentCell]] = RecurrentCell

    cells: tuple[RecurrentCell, ...]
    dropout: Dropout
    num_layers: int
    bidirectional: bool

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        num_layers: int = 1,
        *,
        key: Key,
        bidirectional: bool = False,
        dropout: Real = 0.0,
        **options: Any,
    ):
        check_sizes(type(self).__name__, num_layers=num_layers)
        directions = 2 if bidirectional else 1
        keys = random.split(key, num_layers * directions)
        self.cells = tuple(
            self.cell_class(
                in_features if i < directions else directions * hidden_features, hidden_features, key=keys[i], **options
            )
            for i in range(num_layers * directions)
        )
        self.dropout, self.num_layers, self.bidirectional = Dropout(dropout), num_layers, bidirectional

    def initial_state(self, batch: Sequence[int] = ()) -> tuple[Any, ...]:
        """The states before the first step, one for each cell: zeros.

        Arguments:
            batch: the batch axes.
        """
        return tuple(cell.initial_state(batch) for cell in self.cells)

    def __call__(
        self,
        x: Float[ArrayLike, "*batch length in_features"],
        state: tuple[Any, ...] | None = None,
        *,
        key: Key | None = None,
    ) -> tuple[Float[Array, "*batch length out_features"], tuple[Any, ...]]:
        """The outputs of the last layer for each element of the sequence, and the states after it.

        Arguments:
            x: one sequence, of shape (length, in_features), or a batch, of shape (..., length, in_features).
            state: the states at the start, by default those of `initial_state`.
            key: a random key; needed for dropout while training.

        Returns:
            An array of shape (..., length, hidden_features), or twice as many features of both directions, and a tuple
            of the states of all cells. A cell that runs backwards has its last state at the start of the sequence.

        Raises:
            ShapeError: if the shape of `x` does not fit.
        """
        x = np.asarray(x)
        if x.ndim < 2:
            raise ShapeError(
                f"{type(self).__name__} got an input of shape {x.shape}; it takes sequences, (..., length, features)."
            )
        states = self.initial_state(x.shape[:-2]) if state is None else state
        if len(states) != len(self.cells):
            raise ShapeError(f"{type(self).__name__} has {len(self.cells)} cells, and got {len(states)} states.")
        keys = [None] * self.num_layers if key is None else random.split(key, self.num_layers)
        directions = 2 if self.bidirectional else 1
        x, after = np.moveaxis(x, -2, 0), []
        for layer in range(self.num_layers):
            if layer:
                x = self.dropout(x, key=keys[layer])
            outputs = []
            for direction in range(directions):
                cell, before = self.cells[layer * directions + direction], states[layer * directions + direction]
                last, y = scan(_step_of(cell), before, cell.projected(x), reverse=direction == 1)
                outputs.append(y)
                after.append(last)
            x = outputs[0] if directions == 1 else np.concatenate(outputs, axis=-1)
        return np.moveaxis(x, 0, -2), tuple(after)


def _step_of(cell: RecurrentCell) -> Any:
    def step(state: Any, projected: Array) -> tuple[Any, Array]:
        output, state = cell.step(projected, state)
        return state, output

    return step


class RNN(RecurrentLayers):
    """Simple recurrent networks along sequences. Arguments: see `RecurrentLayers`, and `activation` of `RNNCell`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.RNN(2, 3, num_layers=2, key=fg.random.key(0))
        >>> y, states = layer(fg.numpy.ones((5, 7, 2)))
        >>> y.shape, [state.shape for state in states]
        ((5, 7, 3), [(5, 3), (5, 3)])
    """

    cell_class = RNNCell


class GRU(RecurrentLayers):
    """Gated recurrent units along sequences. Arguments: see `RecurrentLayers`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.GRU(2, 3, key=fg.random.key(0))
        >>> y, (state,) = layer(fg.numpy.ones((5, 7, 2)))
        >>> y.shape, state.shape
        ((5, 7, 3), (5, 3))
    """

    cell_class = GRUCell


class LSTM(RecurrentLayers):
    """Long short-term memories along sequences. Arguments: see `RecurrentLayers`.

    Example:
        >>> import funcgrad as fg
        >>> layer = fg.nn.LSTM(2, 3, bidirectional=True, key=fg.random.key(0))
        >>> y, states = layer(fg.numpy.ones((5, 7, 2)))
        >>> y.shape, len(states)
        ((5, 7, 6), 2)
    """

    cell_class = LSTMCell
