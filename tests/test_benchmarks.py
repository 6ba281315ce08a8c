"""The benchmark harness measures, checks and reports. What is asserted here never depends on how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import pytest

from benchmarks import processes
from benchmarks.agreement import Anything, Fingerprint, disagreement
from benchmarks.measurement import Outcome, measure_row
from benchmarks.memory import PeakMemory
from benchmarks.report import format_table, report_row, summarize
from benchmarks.row import BEST, CallRow, ProcessRow, restart
from benchmarks.rows import load_row, row_names
from benchmarks.whole_programs import agreement_with

REPOSITORY = Path(__file__).resolve().parent.parent

CALL_ROWS = [name for name in row_names() if isinstance(load_row(name), CallRow)]


def some_row(**fields: object) -> CallRow:
    """A row of which only the fields that are given matter."""
    defaults = {"name": "some_row", "title": "something", "unit": "ms", "data": dict, "reference": dict, "sources": {}}
    return CallRow(**{**defaults, **fields})


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


@pytest.mark.parametrize("name", CALL_ROWS)
def test_funcgrad_agrees_with_the_reference_of_every_row(name: str) -> None:
    row = load_row(name)
    data = row.data(small=True)
    call = row.sources["funcgrad"](data)
    expected = row.reference(data)

    # Twice, because the second call of a jitted function takes another way than the first.
    for _ in range(2):
        restart(call)
        assert disagreement(row, call(), expected) is None


@pytest.mark.parametrize("name", [name for name in CALL_ROWS if "numpy" in load_row(name).sources])
def test_numpy_agrees_with_the_reference_of_every_row(name: str) -> None:
    row = load_row(name)
    data = row.data(small=True)

    assert disagreement(row, row.sources["numpy"](data)(), row.reference(data)) is None


def test_a_wrong_result_is_found_by_the_fingerprint_of_the_right_one() -> None:
    right = numpy.random.default_rng(0).standard_normal((50, 40), numpy.float32)
    expected = Fingerprint.of(right.astype(numpy.float64), "float32")
    row = some_row(scaled_tolerance=1e-4)
    one_element, one_row, everything = right.copy(), right.copy(), right * numpy.float32(1.01)
    one_element[20, 11] += 0.5
    one_row[20] = right[21]

    assert disagreement(row, right, expected) is None
    assert disagreement(row, right + numpy.float32(5e-5), expected) is None
    for wrong in (one_element, one_row, everything):
        assert "is off by" in str(disagreement(row, wrong, expected))
    assert "float64(50, 40)" in str(disagreement(row, right.astype(numpy.float64), expected))


def test_the_scaled_tolerance_goes_with_the_size_of_the_expected_array() -> None:
    expected = numpy.array([1000.0, 1e-3])
    row = some_row(relative_tolerance=0.0, absolute_tolerance=0.0, scaled_tolerance=1e-5)

    assert disagreement(row, expected + 5e-3, expected) is None
    assert "off by up to 0.05" in str(disagreement(row, expected + 5e-2, expected))


def test_results_of_chance_have_to_be_finite_and_of_the_right_kind() -> None:
    row, expected = some_row(), Anything((2,), "float32")

    assert disagreement(row, numpy.ones(2, numpy.float32), expected) is None
    assert disagreement(row, numpy.array([1, numpy.nan], numpy.float32), expected) == "result is not finite"
    assert "expected float32(2,)" in str(disagreement(row, numpy.ones(3, numpy.float32), expected))


def test_the_fastest_peer_is_held_to_the_requirement_and_counted_in_the_mean() -> None:
    row = some_row(required={BEST: 1.5, "autograd": 5.0})
    outcomes = {
        "funcgrad": Outcome("measured", first=0.1, compiling=0.05, cached_first=0.01, rounds=[1.0]),
        "jax": Outcome("measured", first=0.4, compiling=0.4, cached_first=0.05, memory=2**20, rounds=[2.0, 3.0, 2.0]),
        "torch": Outcome("measured", first=0.2, rounds=[4.0]),
        "torch.compile": Outcome("skipped", "no result of the first call after 60 s"),
        "autograd": Outcome("measured", first=0.2, rounds=[4.5]),
    }

    reported = report_row(row, outcomes, limit=0.5)

    assert {entry["label"]: entry["met"] for entry in reported["entries"]} == {
        "funcgrad": None,
        "jax": True,
        "torch": None,
        "torch.compile": None,
        "autograd": False,
    }
    assert summarize([reported, reported]) == pytest.approx(
        {
            "steady, against the best peer of each row": 2.0,
            "first call, against JAX": 4.0,
            "compile, against JAX": 8.0,
            "first call with a warm cache, against JAX": 5.0,
        }
    )
    imports = {name: Outcome("measured", first=1.0, rounds=[x]) for name, x in (("funcgrad", 0.1), ("jax", 0.5))}
    waiting = summarize([reported, report_row(some_processes(name="import_time"), imports, limit=None)])
    assert waiting["from the import to the first result, against JAX"] == pytest.approx(0.9 / 0.2)
    table = format_table([reported])
    assert "1.0 MB" in table
    (limit,) = (line.split() for line in table.splitlines() if "(limit)" in line)
    assert limit == ["(limit)", "500", "ms", "0.500"]
    assert "some_row, torch.compile: skipped: no result of the first call after 60 s" in table


def some_processes(**fields: object) -> ProcessRow:
    """A row of processes that print; only the fields that are given matter."""
    statements = {"funcgrad": "print([1.0, 2.001])", "jax": "print([1.0, 3.0])", "torch": "import no_such_module"}
    return ProcessRow(**{"name": "some_row", "title": "something", "unit": "s", "statements": statements, **fields})


def test_what_a_whole_program_prints_has_to_agree() -> None:
    interpreters = dict.fromkeys(("funcgrad", "jax", "torch"), sys.executable)
    check = agreement_with([1.0, 2.0], 0.01)

    outcomes = measure_row(some_processes(check=check), interpreters, 1, 0.001)

    assert [outcome.status for outcome in outcomes.values()] == ["measured", "wrong result", "failed"]
    assert outcomes["jax"].detail == "the losses are [1.0, 3.0]; expected [1.0, 2.0]"
    outcomes = measure_row(some_processes(modules={"torch": ("no_such_module",)}), interpreters, 1, 0.001)
    assert outcomes["torch"].status == "not installed"


def test_the_whole_program_on_digits_gives_the_losses_that_all_libraries_give() -> None:
    pytest.importorskip("sklearn")
    row = load_row("program_digits_mlp")

    process = subprocess.run(
        [sys.executable, "-c", row.statements["funcgrad"]], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )

    assert row.check(process.stdout) is None


def test_a_second_way_of_using_funcgrad_has_a_ratio_but_is_no_peer() -> None:
    outcomes = {"funcgrad": Outcome("measured", rounds=[1.0]), "funcgrad float32": Outcome("measured", rounds=[1.5])}

    reported = report_row(some_row(required={"funcgrad float32": 1.3}), outcomes)

    assert [(entry["ratio"], entry["met"]) for entry in reported["entries"]] == [(None, None), (1.5, True)]
    assert summarize([reported]) == {}


def test_a_first_call_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.FIRST_CALL_SECONDS, "numpy", 0)

    with processes.Worker(sys.executable, "nbody_scan", "numpy", 0.001, str(tmp_path)) as worker:
        assert worker.ready == {"status": "skipped", "detail": "no result of the first call after 0 s"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set its mark of the most memory back")
def test_peak_memory_is_that_since_the_start() -> None:
    before = numpy.ones(2_000_000)
    memory = PeakMemory()
    numpy.ones(5_000_000).sum()
    memory.start()
    numpy.ones(2_500_000).sum()

    assert before.nbytes < memory.peak() < 30e6


def test_what_was_measured_is_shown_again_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report, picture = tmp_path / "measured.json", tmp_path / "picture.svg"
    measured = run_benchmarks("--peers", "numpy", "--json", str(report))
    assert measured.returncode == 0, measured.stderr

    shown = run_benchmarks("--from-json", str(report), "--picture", str(picture))

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == measured.stdout
    assert "compiled code:" in shown.stdout
    assert picture.read_text(encoding="utf-8").count("<svg") == 1
