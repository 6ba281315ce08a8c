"""The CPU that code is made for.

`host_target` says what the CPU of this process has. That is LLVM's answer, which is kept on disk, so that a process
whose code was compiled by an earlier one need not load LLVM.
"""

from __future__ import annotations

import marshal
import os
import sys
from functools import cache
from typing import Any, NamedTuple

import numpy

from funcgrad.compiler.cache import cached
from funcgrad.compiler.llvm_library import says
from funcgrad.config import config

# Features of x86-64 that come with vectors of 256 bits, and so go with them.
_AVX_FAMILY = frozenset({"f16c", "fma", "fma4", "sha512", "sm3", "sm4", "vaes", "vpclmulqdq", "xop"})


class Target(NamedTuple):
    """A kind of CPU that code is made for.

    Arguments:
        cpu: LLVM's name of the CPU.
        features: LLVM's list of what it has and has not: "+avx2,-avx512f".
        vector_bytes: the size of a vector register that code shall use, 64 with AVX-512; 0 for no vectors.
        triple: LLVM's name of the platform: "x86_64-unknown-linux-gnu".
    """

    cpu: str
    features: str
    vector_bytes: int
    triple: str

    def lanes(self, dtype: Any) -> int:
        """How many numbers of a dtype a vector register holds, at least 1."""
        return max(1, self.vector_bytes // numpy.dtype(dtype).itemsize)

    @property
    def architecture(self) -> str:
        """The first word of the triple: "x86_64", "aarch64"."""
        word = self.triple.partition("-")[0]
        return "aarch64" if word == "arm64" else word

    @property
    def present(self) -> frozenset[str]:
        """The names of the features that the CPU has."""
        return _present(self.features)

    @property
    def vector_registers(self) -> int:
        """How many vector registers there are."""
        return 32 if self.architecture == "aarch64" or "avx512vl" in self.present else 16

    @property
    def has_fma(self) -> bool:
        """Whether `llvm.fma` is an instruction. Where it is not, it calls the C library for each number."""
        return self.architecture == "aarch64" or "fma" in self.present

    @property
    def has_float16(self) -> bool:
        """Whether float16 is converted from and to float32 by instructions, not by calling a function per number."""
        return self.architecture == "aarch64" or "f16c" in self.present

    @property
    def has_bfloat16_dot(self) -> bool:
        """Whether there are instructions that multiply pairs of bfloat16 and add them up in float32."""
        return self.present >= {"avx512bf16", "avx512vl"} or self.architecture == "aarch64" and "bf16" in self.present

    def without_vectors_above(self, bits: int) -> Target:
        """The same CPU, as if its vector registers were not wider than `bits`.

        With 0, only vectors are left out: the instructions are those of the CPU. With 128 and 256, what came with wider
        registers is left out as well, so that code is what an older CPU would get. On x86-64, 128 means no AVX, and
        therefore no FMA and no conversion of float16 either.
        """
        if 8 * self.vector_bytes <= bits:
            return self
        if bits == 0 or self.architecture != "x86_64":
            return self._replace(vector_bytes=bits // 8)
        features = (
            "-" + name[1:] if _is_wider(name[1:], bits) else name for name in self.features.split(",") if name != ""
        )
        return self._replace(features=",".join(features), vector_bytes=bits // 8)


@cache
def _present(features: str) -> frozenset[str]:
    return frozenset(name[1:] for name in features.split(",") if name.startswith("+"))


def _is_wider(feature: str, bits: int) -> bool:
    """Whether a feature of x86-64 needs vectors of more than `bits`."""
    if bits < 256 and (feature.startswith("avx") or feature in _AVX_FAMILY):
        return True
    return feature.startswith(("avx512", "avx10", "evex512", "amx-avx512"))


def _host_says_llvm() -> Target:
    # On Windows, too, the loader takes the format of object files that Linux has.
    triple = says("GetProcessTriple") + ("-elf" if os.name == "nt" else "")
    features = sorted(says("GetHostCPUFeatures").split(","), key=lambda feature: feature[1:])
    target = Target(says("GetHostCPUName"), ",".join(features), 16, triple)
    if target.architecture != "x86_64":
        return target
    if target.present >= {"avx512f", "avx512bw", "avx512dq", "avx512vl"}:
        return target._replace(vector_bytes=64)
    return target._replace(vector_bytes=32) if target.present >= {"avx2", "fma"} else target


CPU_LINES = (b"vendor", b"cpu family", b"model", b"stepping", b"flags", b"CPU ", b"Features", b"cache size")


@cache
def _cpu_says_system() -> bytes | None:
    """What the system says of the CPU, all that LLVM's answer depends on; None where that is not known."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = file.read(16384).partition(b"\n\n")[0]  # the first of all cores
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith(CPU_LINES)]
    return b"\n".join(lines) if any(line.startswith((b"flags", b"Features")) for line in lines) else None


@cache
def _host() -> Target:
    cpu = _cpu_says_system()
    if cpu is None:
        return _host_says_llvm()

    def fields() -> bytes:
        target = _host_says_llvm()
        return marshal.dumps((target.cpu, target.features, target.vector_bytes, target.triple))

    return Target(*marshal.loads(cached(b"the CPU\n" + cpu, fields)))


@cache
def _host_up_to(bits: int | None) -> Target:
    return _host() if bits is None else _host().without_vectors_above(bits)


def host_target() -> Target:
    """The CPU that this process runs on, with vectors not wider than `fg.config.vector_bits`."""
    return _host_up_to(config.vector_bits)


def host_key() -> bytes:
    """What tells this CPU from others, if vectors are not wider than `fg.config.vector_bits`.

    It is part of the keys of code that is made for it. Where the system describes the CPU, LLVM need not be asked.
    """
    return repr((config.vector_bits, _cpu_says_system() or _host())).encode()
