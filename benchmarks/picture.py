"""Draws what was measured: for every row, funcgrad's speed as a multiple of each peer's, on a logarithmic scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import peer_ratios

COLORS = {
    "numpy": "#4d77cf",
    "jax": "#9c4dc4",
    "torch": "#ee6c4d",
    "torch.compile": "#b23a1e",
    "autograd": "#8a8a8a",
}
OURS, BETTER, WORSE = "#1b7f5c", "#1b7f5c", "#c0392b"


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in which funcgrad and a peer were measured, the one in which the best peer is farthest ahead first."""
    return sorted(filter(peer_ratios, rows), key=best_ratio)


def best_ratio(row: dict[str, Any]) -> float:
    """The steady time of the fastest peer divided by funcgrad's."""
    return min(peer_ratios(row))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes the picture; the format is that of the file's name.

    **Raises:** `ValueError` if no row compares funcgrad with a peer.
    """
    # Imported here, because only those who want a picture need matplotlib.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    rows = comparable(rows)
    if not rows:
        raise ValueError("there is nothing to draw: no row compares funcgrad with a peer")
    figure, axes = pyplot.subplots(figsize=(9, 1.4 + 0.3 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        best = best_ratio(row)
        axes.barh(place, best - 1, left=1, height=0.62, color=BETTER if best >= 1 else WORSE, alpha=0.25, zorder=1)
        for entry in row["entries"]:
            if entry["ratio"] is not None:
                color = COLORS.get(entry["label"], "black")
                axes.plot(entry["ratio"], place, "o", markersize=6, color=color, zorder=3)
            if entry["required"] is not None:
                axes.plot(entry["required"], place, "|", markersize=13, color="black", zorder=2)
        ours = next(entry["steady"] for entry in row["entries"] if entry["label"] == "funcgrad")
        if row["limit"] is not None:
            axes.plot(row["limit"] / ours, place, "D", markersize=5, color="black", markerfacecolor="none", zorder=2)
    axes.axvline(1, color=OURS, linewidth=1.5, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(
        "time of the peer / time of funcgrad (right of 1: funcgrad is faster; the bar ends at the best peer)"
    )
    axes.grid(axis="x", which="major", color="#dddddd", zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    present = {entry["label"] for row in rows for entry in row["entries"] if entry["ratio"] is not None}
    handles = [
        axes.plot([], [], "o", color=color, label=label)[0] for label, color in COLORS.items() if label in present
    ]
    handles.append(axes.plot([], [], "|", markersize=13, color="black", label="required")[0])
    if any(row["limit"] is not None for row in rows):
        handles.append(
            axes.plot([], [], "D", markersize=5, color="black", markerfacecolor="none", label="limit of the machine")[0]
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    # Without the time of drawing, the same measurements give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "funcgrad"
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata)
    pyplot.close(figure)
