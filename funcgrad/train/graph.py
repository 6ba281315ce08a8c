"""A Program as the graph that TensorBoard shows: nodes with names, inputs and attributes.

Equations stand in groups, by the user's function whose line asked for them, and Programs that an equation carries are
drawn in a group of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from funcgrad.errors import SourceLine
from funcgrad.program import Equation, Program, Variable, programs_in


@dataclass
class Node:
    """A node of a graph."""

    name: str  # with slashes between groups
    operation: str
    inputs: list[str]
    shapes: list[tuple[int, ...]]
    attributes: dict[str, str] = field(default_factory=dict)


def nodes_of(program: Program, names: Sequence[str] = ()) -> list[Node]:
    """The nodes of a Program.

    Arguments:
        program: the Program.
        names: of its inputs; by default `input`.
    """
    drawing = _Drawing()
    places: dict[Variable, str] = {}
    for i, variable in enumerate(program.inputs):
        name = names[i] if i < len(names) else "input"
        places[variable] = drawing.add("inputs/", name, "Placeholder", [], [variable])
    outputs = drawing.draw(program, places, "")
    for place, variable in zip(outputs, program.outputs, strict=True):
        drawing.add("outputs/", "output", "Output", [place], [variable])
    return drawing.nodes


class _Drawing:
    def __init__(self):
        self.nodes: list[Node] = []
        self._counts: dict[str, int] = {}

    def draw(self, program: Program, places: dict[Variable, str], scope: str) -> list[str]:
        """Adds the equations of a Program, whose inputs have places; gives the places of its outputs."""
        groups = {scope.rstrip("/").rsplit("/", 1)[-1]: scope}  # the function that the Program comes from has its own

        def place_of(x: Any, inside: str) -> str:
            if type(x) is Variable:
                return places[x]
            return self.add(inside, "constant", "Const", [], [x], {} if x.ndim else {"value": str(x)})

        for equation in program.equations:
            name, body = equation.primitive.name, _body(equation)
            inside = scope
            if equation.source is not None and name != "call":
                function = _clean(equation.source.code.co_name)
                inside = groups.get(function) or groups.setdefault(function, self.unique(scope + function) + "/")
            inputs = [place_of(x, inside) for x in equation.operands]
            if body is not None:
                inner = self.unique(inside + _clean(body.name if name == "call" else name)) + "/"
                results = self.draw(body, dict(zip(body.inputs, inputs, strict=True)), inner)
            else:
                attributes = {k: _text(v) for k, v in equation.params.items()} | _source(equation.source)
                node = self.add(inside, name, name, inputs, equation.results, attributes)
                results = [f"{node}:{i}" if i else node for i in range(len(equation.results))]
            places.update(zip(equation.results, results, strict=True))
        return [place_of(x, scope) for x in program.outputs]

    def add(
        self,
        scope: str,
        name: str,
        operation: str,
        inputs: list[str],
        results: Sequence[Any],
        attributes: dict[str, str] | None = None,
    ) -> str:
        dtypes = {"dtype": ", ".join(x.dtype.name for x in results)}
        name = self.unique(scope + _clean(name))
        self.nodes.append(Node(name, operation, inputs, [x.shape for x in results], dtypes | (attributes or {})))
        return name

    def unique(self, name: str) -> str:
        """The name, with a number behind it if it was taken. A node and a group cannot have one name either."""
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        return self.unique(f"{name}_{count}") if count else name


def _body(equation: Equation) -> Program | None:
    """The Program that stands for an equation, if it takes the same operands and gives the same results."""
    bodies = programs_in(equation.params)
    if len(bodies) != 1:
        return None
    takes = [(x.shape, x.dtype) for x in bodies[0].inputs] == [(x.shape, x.dtype) for x in equation.operands]
    gives = [(x.shape, x.dtype) for x in bodies[0].outputs] == [(x.shape, x.dtype) for x in equation.results]
    return bodies[0] if takes and gives else None


def _source(source: SourceLine | None) -> dict[str, str]:
    return {} if source is None else {"line": f"{source}: {source.text}"}


def _text(value: Any) -> str:
    return getattr(value, "__name__", None) or str(value)


def _clean(name: str) -> str:
    """A name of letters, digits and a few signs, which is all that TensorBoard takes."""
    return re.sub(r"[^A-Za-z0-9_.\-/]+", "_", name).strip("/_") or "value"
