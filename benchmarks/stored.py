"""References that would take a page of NumPy: computed once by JAX in float64 and kept as fingerprints.

`PEERS_PYTHON -m benchmarks.stored ROW ...` computes those of the named rows anew, for their full and their small data,
and writes them to `references/ROW.json`.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy

from benchmarks.agreement import Fingerprint, leaves_by_path
from benchmarks.row import CallRow, Data, restart
from benchmarks.rows import load_row

FOLDER = Path(__file__).resolve().parent / "references"


def key_of(data: Data) -> str:
    """A checksum of the data: a reference computed from other data is never used."""
    checksum = 0
    for path, leaf in leaves_by_path(data).items():
        described = f"{path} {leaf.dtype}{leaf.shape}".encode()
        checksum = zlib.crc32(numpy.ascontiguousarray(leaf).tobytes(), zlib.crc32(described, checksum))
    return f"{checksum:08x}"


def stored(row_name: str) -> Callable[[Data], Any]:
    """The function that looks the reference of a row up."""

    def reference(data: Data) -> Any:
        known = json.loads((FOLDER / f"{row_name}.json").read_text(encoding="utf-8"))
        key = key_of(data)
        if key not in known:
            raise LookupError(
                f"references/{row_name}.json is of other data; compute it with python -m benchmarks.stored"
            )
        return from_json(known[key])

    return reference


def to_json(tree: Any) -> Any:
    """Nested containers of float64 results, as JSON in which every array is a fingerprint of its float32 self."""
    if isinstance(tree, dict):
        return {"dict": {name: to_json(item) for name, item in tree.items()}}
    if isinstance(tree, (tuple, list)):
        return {"list": [to_json(item) for item in tree]}
    array = numpy.asarray(tree)
    dtype = "float32" if array.dtype == numpy.float64 else str(array.dtype)
    return {"array": asdict(Fingerprint.of(array, dtype), dict_factory=shortened)}


def shortened(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a fingerprint with as many digits as float32 can be compared with."""

    def nine_digits(value: Any) -> Any:
        if isinstance(value, tuple):
            return [nine_digits(item) for item in value]
        return float(f"{value:.9g}") if isinstance(value, float) else value

    return {name: nine_digits(value) for name, value in items}


def from_json(stored: Any) -> Any:
    """The inverse of `to_json`."""
    ((kind, content),) = stored.items()
    if kind == "dict":
        return {name: from_json(item) for name, item in content.items()}
    if kind == "list":
        return [from_json(item) for item in content]
    lists = ("shape", "sample", "sums")
    return Fingerprint(**{name: tuple(value) if name in lists else value for name, value in content.items()})


def in_double(tree: Any) -> Any:
    """The same tree with float64 in place of float32."""
    if isinstance(tree, dict):
        return {name: in_double(item) for name, item in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(in_double(item) for item in tree)
    return tree.astype(numpy.float64) if tree.dtype == numpy.float32 else tree


def as_text(known: dict[str, Any]) -> str:
    """JSON with a line for every array."""
    return json.dumps(known).replace('{"array"', '\n{"array"') + "\n"


def main() -> None:
    """Computes and writes the references of the rows on the command line."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:]:
        row = load_row(name)
        assert isinstance(row, CallRow)
        known = {}
        for small in (False, True):
            data = row.data(small=small)
            call = row.sources["jax"](in_double(data))
            restart(call)
            known[key_of(data)] = to_json(call())
        (FOLDER / f"{name}.json").write_text(as_text(known), encoding="utf-8")


if __name__ == "__main__":
    main()
