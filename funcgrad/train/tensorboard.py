"""The logger for TensorBoard: event files of numbers, distributions, images, texts, graphs and hyper-parameters.

The files are written with tensorboardX, at once and not in a thread of its own, so that an error of the disk reaches
the user and nothing waits for a thread that is no more.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

from funcgrad import tree
from funcgrad.errors import ArgumentError, MissingPackageError
from funcgrad.program import Program
from funcgrad.train.files import StrPath, refusing
from funcgrad.train.graph import Node, nodes_of
from funcgrad.train.loop import plain
from funcgrad.transforms.arguments import parameter_name
from funcgrad.transforms.jit import make_program

_SECONDS = 5.0  # after which what was logged is handed to the system


class TensorBoardLogger:
    """Writes event files that TensorBoard shows: `tensorboard --logdir FOLDER`.

    `log` writes numbers as scalars, texts as texts, arrays as histograms, and pytrees, such as gradients, as one
    histogram for each array. What a run logs is handed to the system every few seconds, and all of it at its end. A run
    that goes on from a checkpoint makes TensorBoard forget later steps.

    Arguments:
        folder: where the event files go, one folder for each run.

    Raises:
        MissingPackageError: tensorboardX is not installed.
        LogError: from all methods that write, if the file cannot be written.

    Example:
        >>> import funcgrad as fg
        >>> with fg.train.TensorBoardLogger("runs/first") as board:
        ...     board.log({"loss": 0.5, "weights": fg.numpy.arange(10.0)}, step=1)
        ...     board.text("notes", "a first run", step=1)
        ...     board.graph(lambda x: fg.numpy.sin(x) + 1, fg.array(0.0))
        ...     board.hyperparameters({"learning_rate": 0.1}, {"final loss": 0.5})
    """

    def __init__(self, folder: StrPath):
        try:
            self._summary = import_module("tensorboardX.summary")
            self._records = import_module("tensorboardX.record_writer")
            self._protos = import_module("tensorboardX.proto.event_pb2")
        except ImportError:
            raise MissingPackageError(
                "TensorBoardLogger needs tensorboardX; install it with pip install 'funcgrad[train]'."
            ) from None
        self.folder = Path(folder)
        self._writer: Any = None
        self._first_step: int | None = None
        self._flushed = 0.0

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Writes numbers, texts, metrics, arrays and pytrees of arrays by name."""
        for name, value in values.items():
            value = plain(value)
            if isinstance(value, str):
                self.text(name, value, step)
            elif isinstance(value, (bool, int, float)):
                self.scalar(name, value, step)
            else:
                self.histograms(value, step, prefix=name)

    def scalar(self, name: str, value: Any, step: int) -> None:
        """Writes a number."""
        self._add(self._summary.scalar(name, float(value)), step)

    def histogram(self, name: str, values: Any, step: int, bins: int = 64) -> None:
        """Writes how the finite elements of an array are distributed; nothing if there are none."""
        x = numpy.asarray(values)
        x = (abs(x) if x.dtype.kind == "c" else x).astype(numpy.float64).reshape(-1)
        x = x[numpy.isfinite(x)]
        if x.size:
            self._add(self._summary.histogram(name, x, bins), step)

    def histograms(self, values: Any, step: int, prefix: str = "") -> None:
        """Writes a histogram of each array of a pytree, named by its path: parameters, or gradients."""
        for path, leaf in tree.leaves_with_path(values):
            self.histogram("/".join(filter(None, [prefix, _path_text(path)])) or "value", leaf, step)

    def image(self, name: str, image: Any, step: int) -> None:
        """Writes an image of shape (height, width) or (height, width, channels): floats from 0 to 1, or uint8.

        Raises:
            ArgumentError: it has another shape or dtype.
            MissingPackageError: Pillow is not installed.
        """
        pixels = numpy.asarray(image)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
            raise ArgumentError(
                f"an image has the shape (height, width) or (height, width, 1, 3 or 4), not {numpy.shape(image)}."
            )
        if pixels.dtype != numpy.uint8:
            if pixels.dtype.kind in "biuc":
                raise ArgumentError(f"the pixels of an image are floats from 0 to 1, or uint8, not {pixels.dtype}.")
            pixels = (numpy.nan_to_num(pixels.astype(numpy.float64)).clip(0, 1) * 255).round().astype(numpy.uint8)
        try:
            summary = self._summary.image(name, pixels, dataformats="HWC")
        except ImportError:
            raise MissingPackageError(
                "images for TensorBoard need Pillow; install it with pip install 'funcgrad[train]'."
            ) from None
        self._add(summary, step)

    def text(self, name: str, text: str, step: int) -> None:
        """Writes a text, which TensorBoard shows as Markdown."""
        self._add(self._summary.text(name, text), step)

    def graph(self, function: Callable[..., Any] | Program, *args: Any) -> None:
        """Writes the graph of a function: of what it does with arrays, one node for each equation of its Program.

        Arguments:
            function: a function of arrays or pytrees, such as the training step; or a Program.
            args: its arguments, or `fg.ShapeDtypeStruct`s in place of arrays. They are not computed with.
        """
        if isinstance(function, Program):
            program, names = function, ()
        else:
            program = make_program(function)(*args)
            pairs = [(parameter_name(function, i), arg) for i, arg in enumerate(args)]
            found = [
                "/".join(filter(None, [name, _path_text(path)]))
                for name, arg in pairs
                for path, _ in tree.leaves_with_path(arg)
            ]
            names = found if len(found) == len(program.inputs) else ()
        graph = _graph_proto(nodes_of(program, names))
        self._write(self._protos.Event(graph_def=graph.SerializeToString(), wall_time=time.time()))

    def hyperparameters(self, settings: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        """Writes the settings of a run and the metrics that came of them, for TensorBoard's table of runs.

        Arguments:
            settings: numbers, truth values and texts by name; anything else is shown as text.
            metrics: numbers by name.
        """
        values = {name: plain(value) for name, value in settings.items()}
        shown = {n: v if isinstance(v, (bool, int, float, str)) else str(v) for n, v in values.items()}
        numbers = {name: float(plain(value)) for name, value in metrics.items()}
        scalars = [self._summary.scalar(name, value) for name, value in numbers.items()]
        tags = {scalar.value[0].tag: scalar.value[0].simple_value for scalar in scalars}  # without spaces, for example
        for summary in [*self._summary.hparams(shown, tags), *scalars]:
            self._add(summary, None)

    def resume(self, step: int) -> None:
        """Makes TensorBoard forget what was logged after a step."""
        self.close()
        self._first_step = step + 1

    def flush(self) -> None:
        """Hands all that was written to the system, so that TensorBoard sees it."""
        if self._writer is not None:
            with self._guarded():
                self._writer._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Closes the file; what is logged afterwards goes into another one in the same folder."""
        writer = self._writer
        if writer is not None:
            with self._guarded():
                writer.close()
            self._writer = None

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self):
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.close()

    def _add(self, summary: Any, step: int | None) -> None:
        self._write(self._protos.Event(summary=summary, step=step or 0, wall_time=time.time()))

    def _write(self, event: Any) -> None:
        with self._guarded():
            writer = self._writer or self._open()
            writer.write(event.SerializeToString())
        if time.monotonic() - self._flushed > _SECONDS:
            self.flush()

    def _open(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{now:017.6f}.{socket.gethostname()}.{os.getpid()}"
        writer = self._writer = self._records.RecordWriter(str(self.folder / name))
        first = self._first_step or 0
        start = self._protos.SessionLog(status=self._protos.SessionLog.START)
        events = [dict(file_version="brain.Event:2"), *([dict(session_log=start)] if first else [])]
        for content in events:
            event = self._protos.Event(wall_time=now, step=first, **content)
            writer.write(event.SerializeToString())
        self._first_step, self._flushed = None, 0.0
        return writer

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        with refusing(self.folder):
            try:
                yield
            except OSError:
                writer, self._writer = self._writer, None
                if writer is not None:
                    with contextlib.suppress(OSError):
                        writer.close()
                raise


def _path_text(path: tree.Path) -> str:
    return tree.keystr(path, simple=True, separator="/")


def _graph_proto(nodes: list[Node]) -> Any:
    """The nodes in TensorFlow's format of graphs, which is the one that TensorBoard shows."""
    graphs, definitions, values, shapes, versions = (
        import_module(f"tensorboardX.proto.{name}_pb2")
        for name in ("graph", "node_def", "attr_value", "tensor_shape", "versions")
    )

    def shape_of(shape: tuple[int, ...]) -> Any:
        return shapes.TensorShapeProto(dim=[shapes.TensorShapeProto.Dim(size=size) for size in shape])

    def proto_of(node: Node) -> Any:
        sizes = values.AttrValue.ListValue(shape=[shape_of(shape) for shape in node.shapes])
        attributes = {name: values.AttrValue(s=text.encode()) for name, text in node.attributes.items()}
        attributes["_output_shapes"] = values.AttrValue(list=sizes)
        return definitions.NodeDef(name=node.name, op=node.operation, input=node.inputs, attr=attributes)

    return graphs.GraphDef(node=[proto_of(node) for node in nodes], versions=versions.VersionDef(producer=22))
