"""LLVM code becomes machine code of the CPU that was asked for, and is found in memory."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest

from funcgrad.compiler import llvm_library
from funcgrad.compiler.machine import Code, Part, assembly, code_key, kept, load, object_code, object_codes
from funcgrad.compiler.target import Target, host_target
from funcgrad.config import config

SUM = """
define i64 @sum(i64 %a, i64 %b) {
  %c = add i64 %a, %b
  ret i64 %c
}
"""

# Multiplies and adds 16 numbers, with vectors of the given width.
FMA = """
define void @f(ptr %x) {{
  %v = load <{lanes} x float>, ptr %x, align 4
  %w = call <{lanes} x float> @llvm.fma(<{lanes} x float> %v, <{lanes} x float> %v, <{lanes} x float> %v)
  store <{lanes} x float> %w, ptr %x, align 4
  ret void
}}
declare <{lanes} x float> @llvm.fma(<{lanes} x float>, <{lanes} x float>, <{lanes} x float>)
"""

ZEN5 = Target("znver5", "+avx,+avx2,+fma,+f16c,+avx512f,+avx512vl,+avx512bf16,+avx10.1,+sse2", 64, "x86_64-linux-gnu")
APPLE = Target("apple-m1", "+neon", 16, "arm64-apple-darwin23.0.0")


def function(address: int, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def mappings() -> int:
    """How many pieces of memory the process has, where the system says so."""
    maps = Path("/proc/self/maps")
    return len(maps.read_text().splitlines()) if maps.exists() else 0


def test_code_runs():
    loaded = load(object_code(SUM, host_target()), ["sum"])
    assert function(loaded.addresses["sum"], ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(2, 40) == 42


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_levels(level):
    loaded = load(object_code(SUM, host_target(), level), ["sum"])
    assert function(loaded.addresses["sum"], ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(2, 40) == 42


def test_names_repeat():
    codes = [object_code(f"define i32 @f() {{ ret i32 {number} }}", host_target(), 0) for number in range(5)]
    loaded = [load(code, ["f"]) for code in codes]
    assert [function(each.addresses["f"], ctypes.c_int32)() for each in loaded] == [0, 1, 2, 3, 4]


def test_functions_of_the_process_are_found():
    code = object_code(
        """
        declare float @expf(float)
        declare ptr @memset(ptr, i32, i64)
        define float @f(float %x, ptr %p) {
          %q = call ptr @memset(ptr %p, i32 7, i64 100)
          %y = call float @expf(float %x)
          ret float %y
        }
        """,
        host_target(),
    )
    loaded = load(code, ["f"])
    buffer = numpy.zeros(100, numpy.uint8)
    f = function(loaded.addresses["f"], ctypes.c_float, ctypes.c_float, ctypes.c_void_p)
    assert f(1.0, buffer.ctypes.data) == pytest.approx(numpy.exp(1.0))
    assert (buffer == 7).all()


def test_constants_and_variables_have_their_place():
    code = object_code(
        """
        @counter = internal global i64 5
        @table = private constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
        define i64 @f(i64 %i) {
          %old = load i64, ptr @counter
          %new = add i64 %old, 1
          store i64 %new, ptr @counter
          %p = getelementptr i64, ptr @table, i64 %i
          %v = load i64, ptr %p
          %r = add i64 %v, %new
          ret i64 %r
        }
        """,
        host_target(),
    )
    first, second = load(code, ["f"]), load(code, ["f"])
    f, g = (function(each.addresses["f"], ctypes.c_int64, ctypes.c_int64) for each in (first, second))
    assert [f(0), f(1), g(3)] == [16, 27, 46]


def test_code_goes_with_the_object():
    code = object_code(SUM, host_target())
    for _ in range(300):  # more than one loader loads
        loaded = load(code, ["sum"])
    before = mappings()
    kept = [load(code, ["sum"]) for _ in range(150)]
    assert len({each.addresses["sum"] for each in kept}) == 150
    f = function(kept[0].addresses["sum"], ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    del kept[1:]
    gc.collect()
    assert f(1, 2) == 3
    del kept, loaded
    gc.collect()
    assert mappings() <= before + 10


def test_wrong_code_is_refused():
    with pytest.raises(RuntimeError, match="expected"):
        object_code("define nonsense", host_target())
    with pytest.raises(RuntimeError, match="does not dominate"):
        object_code("define i32 @f() {\n  %a = add i32 %b, 1\n  %b = add i32 1, 1\n  ret i32 %a\n}", host_target())
    with pytest.raises(RuntimeError):
        load(b"no object code", ["f"])
    with pytest.raises(RuntimeError):
        load(object_code(SUM, host_target()), ["product"])
    # Nothing of it hurts what comes later.
    test_code_runs()


def test_threads_compile_at_once():
    results = {}

    def work(number: int):
        loaded = load(object_code(f"define i32 @f() {{ ret i32 {number} }}", host_target()), ["f"])
        results[number] = function(loaded.addresses["f"], ctypes.c_int32)()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: number for number in range(8)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_amid_compilation_can_compile():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            object_code(SUM, host_target())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    loaded = load(object_code(SUM, host_target()), ["sum"])
                    sum_ = function(loaded.addresses["sum"], ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
                    status = 0 if sum_(1, 2) == 3 else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


def test_lanes():
    assert [ZEN5.lanes(dtype) for dtype in ("float32", "float64", "int8", "complex64")] == [16, 8, 64, 8]
    assert ZEN5.without_vectors_above(0).lanes("float32") == 1
    assert APPLE.lanes(numpy.float32) == 4


def test_caps_of_x86():
    assert ZEN5.without_vectors_above(512) == ZEN5
    avx2 = ZEN5.without_vectors_above(256)
    assert avx2.features == "+avx,+avx2,+fma,+f16c,-avx512f,-avx512vl,-avx512bf16,-avx10.1,+sse2"
    assert avx2.vector_bytes == 32 and avx2.has_fma and avx2.has_float16
    assert ZEN5.has_bfloat16_dot and not avx2.has_bfloat16_dot
    assert (ZEN5.vector_registers, avx2.vector_registers) == (32, 16)
    sse = ZEN5.without_vectors_above(128)
    assert sse.features == "-avx,-avx2,-fma,-f16c,-avx512f,-avx512vl,-avx512bf16,-avx10.1,+sse2"
    assert sse.vector_bytes == 16 and not sse.has_fma and not sse.has_float16
    scalars = ZEN5.without_vectors_above(0)
    assert scalars == ZEN5._replace(vector_bytes=0) and scalars.has_fma


def test_caps_of_others():
    assert APPLE.without_vectors_above(256) == APPLE.without_vectors_above(128) == APPLE
    assert APPLE.without_vectors_above(0).vector_bytes == 0
    assert APPLE.architecture == "aarch64" and APPLE.has_fma and APPLE.vector_registers == 32


def test_the_setting_counts():
    with config.override(vector_bits=None):
        host = host_target().vector_bytes
        for bits in (0, 128, 256, 512):
            with config.override(vector_bits=bits):
                assert host_target().vector_bytes == min(host, bits // 8)
                assert host_target() is host_target()
        assert host_target().vector_bytes == host


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_code_keeps_to_the_cap(bits):
    host = host_target()
    if host.architecture != "x86_64" or 8 * host.vector_bytes < bits:
        pytest.skip("this CPU has no such vectors")
    target = host.without_vectors_above(bits)
    # Vectors that are wider than the registers are taken apart.
    text = assembly(FMA.format(lanes=16), target)
    widest = {name for name in ("xmm", "ymm", "zmm") if re.search(rf"%{name}\d", text)}
    assert {128: "xmm", 256: "ymm", 512: "zmm"}[bits] in widest
    assert not widest & {128: {"ymm", "zmm"}, 256: {"zmm"}, 512: set()}[bits]
    assert ("vfm" in text) == target.has_fma


@pytest.mark.parametrize("bits", [0, 128, 256, 512])
def test_every_cap_computes_the_same(bits):
    target = host_target().without_vectors_above(bits)
    x = numpy.random.default_rng(0).standard_normal(16).astype(numpy.float32)
    expected = (x.astype(numpy.float64) * x + x).astype(numpy.float32)
    loaded = load(object_code(FMA.format(lanes=16), target), ["f"])
    function(loaded.addresses["f"], None, ctypes.c_void_p)(x.ctypes.data)
    numpy.testing.assert_array_equal(x, expected)


FLOAT16 = "\n".join(
    f"""
define void @{name}(ptr %x, ptr %y, i64 %n) {{
  br label %next
next:
  %i = phi i64 [0, %0], [%j, %next]
  %p = getelementptr {source}, ptr %x, i64 %i
  %a = load {source}, ptr %p
  %b = {operation} {source} %a to {result}
  %q = getelementptr {result}, ptr %y, i64 %i
  store {result} %b, ptr %q
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %next, label %done
done:
  ret void
}}
"""
    for name, operation, source, result in [
        ("widen", "fpext", "half", "float"),
        ("widen_twice", "fpext", "half", "double"),
        ("narrow", "fptrunc", "float", "half"),
        ("narrow_twice", "fptrunc", "double", "half"),
    ]
)


@pytest.mark.parametrize("bits", [0, 128])
@pytest.mark.parametrize("level", [0, 1])
def test_float16_is_converted_as_numpy_does(bits, level):
    target = host_target().without_vectors_above(bits)
    names = ("widen", "widen_twice", "narrow", "narrow_twice")
    loaded = load(object_code(FLOAT16, target, level), names)
    convert = [
        function(loaded.addresses[name], None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64) for name in names
    ]
    every = numpy.arange(2**16, dtype=numpy.uint16).view(numpy.float16)
    floats = every.astype(numpy.float64)
    floats = floats[numpy.isfinite(floats)]
    floats = numpy.unique(numpy.concatenate([floats, [2.0**16, 2.0**17, 1e30, 1e-30, numpy.inf]]))
    # All numbers, what lies half way between two of them, and the neighbours of both.
    floats = numpy.concatenate([floats, (floats[:-1] + floats[1:]) / 2])
    doubles = numpy.concatenate([floats, numpy.nextafter(floats, numpy.inf), numpy.nextafter(floats, -numpy.inf)])
    singles = floats.astype(numpy.float32)
    singles = numpy.concatenate(
        [singles, *(numpy.nextafter(singles, numpy.float32(end)) for end in (numpy.inf, -numpy.inf))]
    )
    doubles, singles = (numpy.append(each, [numpy.nan, -0.0, -numpy.nan]) for each in (doubles, singles))
    singles = singles.astype(numpy.float32)
    for call, x, dtype in zip(
        convert, (every, every, singles, doubles), ("float32", "float64", "float16", "float16"), strict=True
    ):
        y = numpy.empty(x.shape, dtype)
        call(x.ctypes.data, y.ctypes.data, x.size)
        with numpy.errstate(all="ignore"):
            expected = x.astype(dtype)
        numpy.testing.assert_array_equal(y, expected)
        numpy.testing.assert_array_equal(numpy.signbit(y), numpy.signbit(expected))


@pytest.mark.parametrize(
    "triple, cpu, pattern",
    [
        ("aarch64-unknown-linux-gnu", "generic", r"fmla\s+v"),
        ("arm64-apple-darwin23.0.0", "apple-m1", r"fmla\.4s"),
        ("x86_64-pc-windows-msvc", "haswell", "vfm"),
    ],
)
def test_code_for_other_platforms(triple, cpu, pattern):
    assert re.search(pattern, assembly(FMA.format(lanes=8), Target(cpu, "", 16, triple)))


MODULES = [f"define i64 @f{n}() {{ ret i64 {n} }}" for n in range(20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_several_modules_are_compiled_at_the_same_time(threads):
    with config.override(threads=threads):
        codes = object_codes([Part(ir, host_target()) for ir in MODULES])
    for number, code in enumerate(codes):
        loaded = load(code, [f"f{number}"])
        assert function(loaded.addresses[f"f{number}"], ctypes.c_int64)() == number


@pytest.mark.parametrize("threads", [1, 3])
def test_a_wrong_module_among_several_is_an_error(threads):
    with config.override(threads=threads), pytest.raises(RuntimeError):
        object_codes([Part(ir, host_target()) for ir in [*MODULES, "define i64 @wrong() { ret i32 0 }"]])


def test_modules_are_compiled_where_no_thread_can_be_started(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with config.override(threads=3):
        assert len(object_codes([Part(ir, host_target()) for ir in MODULES])) == len(MODULES)


def returning(number: int, ir: str = "define i64 @f() {{ ret i64 {} }}") -> Code:
    return Code(code_key(f"meanwhile {number}", host_target()), lambda: [Part(ir.format(number), host_target())], ["f"])


def result_of(code: Code, along: Sequence[Code] = ()) -> int:
    loaded = kept(code, along)
    return function(loaded.addresses["f"], ctypes.c_int64)()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("folder", ["empty", "none", "read-only"])
def test_code_is_made_along_with_other_code(threads, folder, tmp_path):
    path = tmp_path / "cache"
    if folder == "read-only":
        path.touch()
    with config.override(threads=threads, cache_folder=None if folder == "none" else str(path)):
        with pytest.warns(RuntimeWarning) if folder == "read-only" else nullcontext():
            assert result_of(returning(1), along=[returning(2), returning(3)]) == 1
        assert [result_of(returning(number)) for number in (2, 3, 1)] == [2, 3, 1]
        assert result_of(returning(4), along=[returning(2)]) == 4


def test_code_that_is_wrong_is_told(tmp_path):
    with config.override(threads=2, cache_folder=str(tmp_path)):
        wrong = returning(5, "define i64 @f() {{ ret i32 {} }}")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="value doesn't match function result type"):
                kept(wrong, along=[returning(6)])
        assert result_of(returning(6)) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_llvm_is_loaded():
    code = (
        "import os\n"
        "from funcgrad.compiler.machine import load_llvm_meanwhile, object_code\n"
        "from funcgrad.compiler.target import host_target\n"
        "load_llvm_meanwhile()\n"
        "child = os.fork()\n"
        "assert object_code('define void @f() { ret void }', host_target())\n"
        "if child == 0:\n"
        "    os._exit(0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_without_llvm_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(llvm_library, "llvm_files", list)
    with pytest.raises(ModuleNotFoundError, match="pip install llvmlite"):
        llvm_library.Functions()
