"""Turns outcomes into the printed table and into JSON."""

from __future__ import annotations

from math import exp, log
from typing import Any

from benchmarks.measurement import Outcome
from benchmarks.row import BEST, UNITS, Row, library_of

HEADINGS = ("", "first call", "compile", "with cache", "steady", "memory", "ratio", "required", "")


def report_row(row: Row, outcomes: dict[str, Outcome], limit: float | None = None) -> dict[str, Any]:
    """All that is known of a row, in seconds, as plain data.

    The ratio of a peer is its steady time divided by funcgrad's: above 1, funcgrad is faster. It and `met` are None
    where one of the two was not measured, `met` also where nothing is required. `limit` is the least time of the row on
    this machine, if it is known.
    """
    ours = outcomes["funcgrad"].steady if "funcgrad" in outcomes else None
    peers = {label: outcome.steady for label, outcome in outcomes.items() if label != "funcgrad"}
    measured = {label: steady for label, steady in peers.items() if steady is not None}
    best = min(measured, key=measured.__getitem__, default=None)
    entries = []
    for label, outcome in outcomes.items():
        steady, required = outcome.steady, row.required.get(label)
        if label == best and required is None:
            required = row.required.get(BEST)
        ratio = steady / ours if label != "funcgrad" and steady and ours else None
        entries.append(
            {
                "label": label,
                "status": outcome.status,
                "detail": outcome.detail,
                "first": outcome.first,
                "compiling": outcome.compiling,
                "cached_first": outcome.cached_first,
                "memory": outcome.memory,
                "steady": steady,
                "rounds": outcome.rounds,
                "ratio": ratio,
                "required": required,
                "met": ratio >= required if ratio is not None and required is not None else None,
            }
        )
    return {"name": row.name, "title": row.title, "unit": row.unit, "limit": limit, "entries": entries}


def peer_ratios(row: dict[str, Any]) -> list[float]:
    """The ratios of other libraries, without those of other ways of using funcgrad."""
    found = [entry["ratio"] for entry in row["entries"] if library_of(entry["label"]) != "funcgrad"]
    return [ratio for ratio in found if ratio is not None]


def three_digits(value: float) -> str:
    """At least three significant digits, never an exponent: 0.0912, 1.05, 34.2, 1,090."""
    for limit, decimals in ((0.1, 4), (1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{decimals}f}"
    return f"{value:,.0f}"


def in_unit(seconds: float, unit: str) -> str:
    """The time with its unit."""
    return f"{three_digits(seconds / UNITS[unit])} {unit}"


def fitting_unit(seconds: float) -> str:
    """The largest unit in which the time is at least 1."""
    return max((unit for unit, size in UNITS.items() if size <= seconds), key=UNITS.__getitem__, default="ns")


def entry_cells(entry: dict[str, Any], unit: str) -> list[str]:
    """The cells of one line of the table."""

    # A first call often takes a thousand times as long as the others, so it gets a unit of its own.
    firsts = [
        "" if seconds is None else in_unit(seconds, fitting_unit(seconds))
        for seconds in (entry["first"], entry["compiling"], entry["cached_first"])
    ]
    memory = "" if entry["memory"] is None else f"{entry['memory'] / 2**20:,.1f} MB"
    steady = in_unit(entry["steady"], unit) if entry["status"] == "measured" else entry["status"]
    ratio = "" if entry["ratio"] is None else three_digits(entry["ratio"])
    required = "" if entry["required"] is None else three_digits(entry["required"])
    verdict = {None: "", True: "met", False: "MISSED"}[entry["met"]]
    return [f"  {entry['label']}", *firsts, steady, memory, ratio, required, verdict]


def limit_cells(row: dict[str, Any]) -> list[list[str]]:
    """The line of the machine's limit, with the share of it that funcgrad reaches; none where it is not known."""
    if row["limit"] is None:
        return []
    ours = next((entry["steady"] for entry in row["entries"] if entry["label"] == "funcgrad"), None)
    share = three_digits(row["limit"] / ours) if ours else ""
    return [["  (limit)", "", "", "", in_unit(row["limit"], row["unit"]), "", share, "", ""]]


def format_table(rows: list[dict[str, Any]]) -> str:
    """The table: for every row its title and a line per library, then what there is to say about failures."""
    groups = [(row, [entry_cells(entry, row["unit"]) for entry in row["entries"]] + limit_cells(row)) for row in rows]
    lines = [list(HEADINGS), *(cells for _, group in groups for cells in group)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(HEADINGS))]

    def align(cells: list[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    text = [align(list(HEADINGS))]
    for row, group in groups:
        text += ["", f"{row['name']}: {row['title']}", *map(align, group)]
    failures = [
        f"{row['name']}, {entry['label']}: {entry['status']}: {entry['detail']}"
        for row in rows
        for entry in row["entries"]
        if entry["detail"]
    ]
    return "\n".join(text + ([""] + failures if failures else []))


def geometric_mean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means over the rows in which both sides were measured, by what they say."""
    steady, first, waiting, compiling, cached = [], [], [], [], []
    imports = {
        entry["label"]: entry["steady"] for row in rows if row["name"] == "import_time" for entry in row["entries"]
    }
    for row in rows:
        entries = {entry["label"]: entry for entry in row["entries"] if entry["status"] == "measured"}
        if ratios := peer_ratios(row):
            steady.append(min(ratios))
        # The first call of an eager row compiles nothing, and has no warm cache.
        if {"funcgrad", "jax"} <= set(entries) and entries["funcgrad"]["cached_first"]:
            ours, theirs = entries["funcgrad"], entries["jax"]
            first.append(theirs["first"] / ours["first"])
            compiling.append(theirs["compiling"] / ours["compiling"])
            cached.append(theirs["cached_first"] / ours["cached_first"])
            if {"funcgrad", "jax"} <= set(imports):
                waiting.append((imports["jax"] + theirs["first"]) / (imports["funcgrad"] + ours["first"]))
    means = {"steady, against the best peer of each row": steady}
    means |= {"first call, against JAX": first, "from the import to the first result, against JAX": waiting}
    means |= {"compile, against JAX": compiling}
    means |= {"first call with a warm cache, against JAX": cached}
    return {title: geometric_mean(values) for title, values in means.items() if values}


def format_summary(rows: list[dict[str, Any]]) -> str:
    """The geometric means, a line each; empty where nothing was compared."""
    return "\n".join(f"geometric mean, {title}: {three_digits(mean)}" for title, mean in summarize(rows).items())


def format_head(machine: dict[str, Any], rounds: int, round_seconds: float) -> str:
    """What the figures were measured on and how."""
    lines = [
        f"CPU        {machine['cpu']}, {machine['vectors']}, {machine['threads']} threads",
        *([] if machine["load"] is None else [f"load       {machine['load']:.2f} before the first row"]),
        f"source     {machine['revision']}",
    ]
    if limits := machine["limits"]:
        speeds = f"{limits['bytes'] / 1e9:.1f} GB/s, {limits['operations'] / 1e9:.0f} float32 GFLOP/s"
        lines.append(f"limits     {speeds}: the best copy of large arrays and the best matrix product by BLAS")
    for name, interpreter in machine["interpreters"].items():
        packages = ", ".join(f"{package} {version}" for package, version in interpreter["packages"].items())
        lines.append(f"{name:10} Python {interpreter['python']}, {packages or 'no compared package'}")
        lines.append(f"{'':10} BLAS: {interpreter['blas']}")
        if name == "funcgrad":
            lines.append(f"{'':10} compiled code: {interpreter['compiled_code']}")
    lines.append(
        f"steady     median of {rounds} interleaved rounds, each of {round_seconds * 1e3:g} ms (or one call or process)"
    )
    lines.append("ratio      steady time of the peer / steady time of funcgrad: above 1, funcgrad is faster")
    return "\n".join(lines)
