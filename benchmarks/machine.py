"""Describes what the figures were measured on: the CPU, and for each interpreter the libraries and the BLAS in use.

`python -m benchmarks.machine` prints the description of the interpreter that runs it, as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.processes import REPOSITORY, clean_environment

VECTORS = {"avx512f": "avx512 (512 bits)", "avx2": "avx2 (256 bits)", "asimd": "asimd (128 bits)"}
"""The CPU flags that tell the vector width, widest first."""

DESCRIBED_PACKAGES = ("funcgrad", "numpy", "scipy", "llvmlite", "jax", "jaxlib", "torch", "autograd")


def cpu_properties() -> dict[str, str]:
    """The lines of /proc/cpuinfo about the first CPU, by name; empty where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    fields = [line.partition(":") for line in first.splitlines()]
    return {name.strip(): value.strip() for name, _, value in fields}


def cpu_flags() -> list[str]:
    """What the CPU has, in the words of the kernel."""
    properties = cpu_properties()
    return (properties.get("flags") or properties.get("Features") or "").split()


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for sums of products of bfloat16."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(cpu_flags())


def describe_machine() -> dict[str, Any]:
    """The CPU's model and vector width, how many hardware threads this process may use, and how busy they are."""
    properties = cpu_properties()
    flags = cpu_flags()
    return {
        "cpu": properties.get("model name") or platform.processor() or platform.machine(),
        "vectors": next((width for flag, width in VECTORS.items() if flag in flags), "unknown"),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def describe_blas() -> str:
    """NumPy's BLAS with the kernel that it chose for this CPU, as far as it can be told."""
    try:
        import numpy  # noqa: F401  (loads the BLAS that is then looked for)
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError as error:
        return f"unknown ({error.name} is not installed)"
    for library in threadpool_info():
        if library["user_api"] == "blas":
            kernel = library.get("architecture", "unknown")
            return f"{library['internal_api']} {library['version']}, kernel {kernel}, {library['num_threads']} threads"
    return "unknown"


def describe_compiled_code() -> str | None:
    """What funcgrad's compiled code runs on; None where a package that funcgrad needs is missing."""
    try:
        from funcgrad.compiler.target import host_target
        from funcgrad.config import config

        bits = 8 * host_target().vector_bytes
    except ModuleNotFoundError:
        return None
    return f"{config.threads} threads, {f'vectors of {bits} bits' if bits > 0 else 'no vectors'}"


def describe_interpreter() -> dict[str, Any]:
    """The versions of this Python and of the compared packages that it has, and the BLAS under its NumPy."""
    packages = {}
    for package in DESCRIBED_PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            pass
    return {
        "python": platform.python_version(),
        "packages": packages,
        "blas": describe_blas(),
        "compiled_code": describe_compiled_code(),
    }


def describe_revision() -> str:
    """The revision of the source tree that is measured, or "unknown" outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def describe(interpreters: dict[str, str]) -> dict[str, Any]:
    """Describes the machine and, by name, the given Python executables as the timed processes see them."""
    with tempfile.TemporaryDirectory() as cache_folder:
        environment = clean_environment(cache_folder)

        def ask(interpreter: str) -> dict[str, Any]:
            command: Sequence[str] = [interpreter, "-m", "benchmarks.machine"]
            answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            return json.loads(answer.stdout)

        described = {name: ask(interpreter) for name, interpreter in interpreters.items()}
    return {**describe_machine(), "revision": describe_revision(), "interpreters": described}


if __name__ == "__main__":
    print(json.dumps(describe_interpreter()))
