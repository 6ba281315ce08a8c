"""The benchmark harness measures, checks and reports. What is asserted here never depends on how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def run_benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the harness on the smallest row for one very short round."""
    command = [sys.executable, "-m", "benchmarks", "eager_add", "--rounds", "1", "--round-seconds", "0.001", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)


def test_a_row_is_measured_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "measured.json"

    process = run_benchmarks("--without-funcgrad", "--peers", "numpy", "--json", str(report))

    assert process.returncode == 0, process.stderr
    assert "a + b on 100-element float32 arrays" in process.stdout
    measured = json.loads(report.read_text(encoding="utf-8"))
    assert measured["machine"]["threads"] >= 1
    (row,) = measured["rows"]
    (entry,) = row["entries"]
    assert (row["name"], entry["label"], entry["status"]) == ("eager_add", "numpy", "measured")
    assert len(entry["rounds"]) == 1
    assert entry["first"] > 0


def test_a_library_that_is_not_installed_is_reported_as_such(tmp_path: Path) -> None:
    venv.create(tmp_path, symlinks=True)
    bare_interpreter = next(tmp_path.glob("[bS]*/python*"))

    process = run_benchmarks("--without-funcgrad", "--peers", "numpy,jax", "--python", str(bare_interpreter))

    assert process.returncode == 0, process.stderr
    assert process.stdout.count("not installed") >= 2


def test_an_unknown_row_is_named_with_the_known_ones() -> None:
    process = run_benchmarks("no_such_row")

    assert process.returncode == 2
    assert "no row is called no_such_row" in process.stderr
    assert "import_time" in process.stderr
