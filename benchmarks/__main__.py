"""The command line: `python -m benchmarks [ROW ...] [--peers NAMES] [--python PATH] [--json FILE] [--picture FILE]`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.limits import has_limit, least_time, measure_limits
from benchmarks.machine import describe
from benchmarks.measurement import measure_row
from benchmarks.picture import draw
from benchmarks.report import format_head, format_summary, format_table, report_row
from benchmarks.row import peer_of
from benchmarks.rows import load_row, row_names

PEERS = ("numpy", "jax", "torch", "torch.compile", "autograd")


def parse_arguments() -> argparse.Namespace:
    """Reads the command line; an unknown row or peer ends the program with a message."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compares funcgrad with its peers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows to run (all: {', '.join(row_names())})")
    parser.add_argument("--peers", default=",".join(PEERS), help="libraries to compare with (%(default)s)")
    parser.add_argument("--without-funcgrad", action="store_true", help="measure the peers alone")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter that runs the peers")
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds (%(default)s)")
    parser.add_argument("--round-seconds", type=float, default=0.03, help="length of a round (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to this file")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing: show what such a file holds")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw the ratios (.svg, .png, .pdf)")
    arguments = parser.parse_intermixed_args()
    arguments.peers = [peer for peer in arguments.peers.split(",") if peer]
    if unknown := [row for row in arguments.rows if row not in row_names()]:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(row_names())}")
    if unknown := [peer for peer in arguments.peers if peer not in PEERS]:
        parser.error(f"no peer is called {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if shutil.which(arguments.python) is None:
        parser.error(f"{arguments.python} is not a program")
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures what the command line asks for, as plain data."""
    interpreters = dict.fromkeys(arguments.peers, arguments.python)
    described = {"peers": arguments.python} if arguments.peers else {}
    if not arguments.without_funcgrad:
        # funcgrad goes first in every row.
        interpreters = {"funcgrad": sys.executable, **interpreters}
        described = {"funcgrad": sys.executable, **described}
    machine = describe(described)
    wanted = [load_row(name) for name in arguments.rows or row_names()]
    limits = measure_limits() if any(map(has_limit, wanted)) else None
    machine["limits"] = limits
    rows = []
    for row in wanted:
        print(f"measuring {row.name} ...", file=sys.stderr, flush=True)
        takes_part = {label: interpreters[peer_of(label)] for label in row.labels if peer_of(label) in interpreters}
        outcomes = measure_row(row, takes_part, arguments.rounds, arguments.round_seconds)
        rows.append(report_row(row, outcomes, least_time(row, limits) if limits else None))
    return {"machine": machine, "rounds": arguments.rounds, "round_seconds": arguments.round_seconds, "rows": rows}


def main() -> int:
    """Measures, prints the table and returns the exit status: 1 if a library failed or computed something wrong."""
    arguments = parse_arguments()
    if arguments.from_json is not None:
        measured = json.loads(arguments.from_json.read_text(encoding="utf-8"))
        if arguments.rows:
            measured["rows"] = [row for row in measured["rows"] if row["name"] in arguments.rows]
    else:
        measured = measure(arguments)
    rows = measured["rows"]
    print(format_head(measured["machine"], measured["rounds"], measured["round_seconds"]))
    print()
    print(format_table(rows))
    if summary := format_summary(rows):
        print()
        print(summary)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(measured, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.picture is not None:
        draw(rows, arguments.picture)
    statuses = {entry["status"] for row in rows for entry in row["entries"]}
    return int(not statuses <= {"measured", "not installed", "skipped"})


if __name__ == "__main__":
    sys.exit(main())
