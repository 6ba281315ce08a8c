"""Every example runs to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    # In a folder of its own, because an example may write results; the package is found also where it is not installed.
    search_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "FUNCGRAD_EXAMPLES_QUICK": "1",
        "MPLBACKEND": "Agg",
        # Where several tests run at a time, threads of matrix products would wait for each other.
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": search_path,
    }

    process = subprocess.run(
        [sys.executable, str(example)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )

    assert process.returncode == 0, f"{example.name} ended with {process.returncode}:\n{process.stdout}"
