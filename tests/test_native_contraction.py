"""Products of matrices as native code, against NumPy, for the widest vectors of this CPU and for narrower ones."""

import ctypes
import re
from functools import cache

import ml_dtypes
import numpy
import pytest

from funcgrad.compiler.contraction import ContractionSpec, contraction_ir, plan_contraction, write_contraction
from funcgrad.compiler.machine import load, object_code
from funcgrad.compiler.module import Module
from funcgrad.compiler.target import host_target

FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
BITS = (512, 256, 128, 0)


def target_of(bits):
    return host_target().without_vectors_above(bits)


@cache
def compiled(spec, target):
    names = [spec.name] + ([f"{spec.name}_pack"] if spec.scheme == "packed" else [])
    loaded = load(object_code(contraction_ir(spec, target), target), names)
    return loaded, [FUNCTION(loaded.addresses[name]) for name in names]


def element_strides(x):
    return tuple(step // x.itemsize for step in x.strides)


def multiply(a, b, target, out=None, backwards=False, epilogue=None):
    """a @ b by a native function; `backwards` computes the tasks one by one, from the last to the first."""
    (*batch, m, k), n = a.shape, b.shape[-1]
    if out is None:
        out = numpy.full((*batch, m, n), 1, a.dtype)
    plan = plan_contraction(
        tuple(batch) if len(batch) == 2 else (batch or [1])[0],
        *(m, n, k),
        *(element_strides(x) for x in (a, b, out)),
        a.dtype,
        target,
        b.dtype,
    )
    first, second = (b, a) if plan.swapped else (a, b)
    spec = ContractionSpec(first.dtype, second.dtype, out.dtype, plan.scheme)
    _, functions = compiled(spec, target)
    scratch = numpy.empty(plan.scratch_bytes + 64, numpy.uint8)
    addresses = [x.ctypes.data for x in (a, b, out)] + [(scratch.ctypes.data + 63) // 64 * 64]
    context = numpy.array(plan.context(*addresses, epilogue or 0), numpy.int64)
    if plan.pack_tasks:
        functions[1](context.ctypes.data, 0, plan.pack_tasks)
    if backwards:
        for task in reversed(range(plan.tasks)):
            functions[0](context.ctypes.data, task, task + 1)
    else:
        functions[0](context.ctypes.data, 0, plan.tasks)
    return out, plan


def numbers(random, shape, dtype):
    dtype = numpy.dtype(dtype)
    if dtype.kind == "b":
        return random.random(shape) < 0.1
    if dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    x = random.standard_normal(shape)
    return (x + 1j * random.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def matrix(random, rows, columns, dtype, layout):
    if layout == "transposed":
        return numbers(random, (columns, rows), dtype).T
    if layout == "apart":
        return numbers(random, (2 * rows, 3 * columns), dtype)[::2, ::3]
    return numbers(random, (rows, columns), dtype)


def check(result, a, b):
    kind = result.dtype.kind
    if kind in "biu":
        numpy.testing.assert_array_equal(result, numpy.matmul(a, b))
        return
    wide = numpy.complex128 if kind == "c" else numpy.float64
    expected = numpy.matmul(a.astype(wide), b.astype(wide))
    size = numpy.matmul(abs(a).astype(float), abs(b).astype(float))
    precision = ml_dtypes.finfo(result.dtype).eps * (1 if result.itemsize == 2 else 4)
    error = abs(result.astype(wide) - expected)
    assert (error <= precision * size + 1e-30).all(), (error / (size + 1e-30)).max()


SIZES = [
    (1, 1, 1),
    (3, 5, 7),
    (0, 3, 4),
    (4, 0, 3),
    (5, 6, 0),
    (1, 70, 33),
    (37, 1, 50),
    (65, 33, 17),
    (64, 64, 64),
    (2, 2, 600),
    (30, 200, 700),
    (15, 17, 40),
    (7, 3, 100),
]
LAYOUTS = ("rows", "transposed", "apart")
DTYPES = [
    *("float32", "float64", ml_dtypes.bfloat16, "float16", "complex64", "complex128"),
    *("bool", "int8", "uint16", "int32", "uint64"),
]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda x: numpy.dtype(x).name)
def test_products_of_all_sizes_and_layouts_are_right_and_do_not_depend_on_the_split(dtype, bits):
    random = numpy.random.default_rng(0)
    target = target_of(bits)
    layouts = LAYOUTS if bits == 512 else LAYOUTS[:2]
    for m, n, k in SIZES:
        for layout_a in layouts:
            for layout_b in layouts:
                a, b = matrix(random, m, k, dtype, layout_a), matrix(random, k, n, dtype, layout_b)
                result, _ = multiply(a, b, target)
                check(result, a, b)
                again, _ = multiply(a, b, target, backwards=True)
                assert result.tobytes() == again.tobytes()


@pytest.mark.parametrize("bits", BITS)
def test_large_products_in_many_tasks(bits):
    random = numpy.random.default_rng(1)
    for layout_a in LAYOUTS[:2]:
        for layout_b in LAYOUTS[:2]:
            a, b = matrix(random, 211, 1100, "float32", layout_a), matrix(random, 1100, 300, "float32", layout_b)
            result, plan = multiply(a, b, target_of(bits))
            assert plan.tasks > 1
            check(result, a, b)
            again, _ = multiply(a, b, target_of(bits), backwards=True)
            assert result.tobytes() == again.tobytes()


@pytest.mark.parametrize("bits", [512, 0])
def test_batches_with_any_strides(bits):
    random = numpy.random.default_rng(2)
    target = target_of(bits)
    shared = numbers(random, (9, 13), "float32")
    a = numbers(random, (4, 3, 20, 9), "float32")
    cases = [
        (a[0], numbers(random, (3, 9, 13), "float32")),  # one axis
        (a[0], numpy.broadcast_to(shared, (3, 9, 13))),  # the same b for all
        (a[0, :, :1], numpy.broadcast_to(shared, (3, 9, 13))),  # rows of one
        (a, numbers(random, (4, 3, 9, 13), "float32")),  # two axes
        (a.transpose(1, 0, 2, 3), numpy.broadcast_to(shared, (3, 4, 9, 13))),
        # heads of attention: axes (batch, place, head, feature)
        (
            numbers(random, (2, 17, 3, 8), "float32").transpose(0, 2, 1, 3),
            numbers(random, (2, 19, 3, 8), "float32").transpose(0, 2, 3, 1),
        ),
    ]
    for a, b in cases:
        result, _ = multiply(a, b, target)
        check(result, a, b)
    heads = numpy.empty((2, 17, 3, 19), "float32").transpose(0, 2, 1, 3)
    result, _ = multiply(*cases[-1], target, out=heads)
    check(result, *cases[-1])


@pytest.mark.skipif(not host_target().has_bfloat16_dot, reason="this CPU has no products of pairs of bfloat16")
@pytest.mark.parametrize("vector_bytes", [64, 32, 16])
def test_products_of_pairs_of_bfloat16(vector_bytes):
    """In vectors of any width; those of 16 and 32 bytes are used without leaving lanes out."""
    random = numpy.random.default_rng(8)
    target = host_target()._replace(vector_bytes=vector_bytes)
    dtype = ml_dtypes.bfloat16
    for m, n, k in [*SIZES, (70, 70, 1030), (40, 70, 2051), (3, 200, 101), (130, 300, 7)]:
        for layout_a in LAYOUTS:
            for layout_b in LAYOUTS:
                a, b = matrix(random, m, k, dtype, layout_a), matrix(random, k, n, dtype, layout_b)
                result, plan = multiply(a, b, target, out=numpy.empty((m, n), "float32"))
                exact, size = a.astype(float) @ b.astype(float), abs(a).astype(float) @ abs(b).astype(float)
                assert (abs(result - exact) <= 1e-6 * size).all(), (plan.scheme, m, n, k, layout_a, layout_b)
    code = contraction_ir(ContractionSpec(*[numpy.dtype(dtype)] * 3, plan.scheme), target)
    assert f"avx512bf16.dpbf16ps.{8 * vector_bytes}" in code or target.architecture != "x86_64"


def test_one_product_for_all_where_b_is_the_same():
    rows = plan_contraction(32, 20, 13, 9, (180, 9, 1), (0, 13, 1), None, "float32", target_of(256))
    together = plan_contraction(1, 640, 13, 9, (9, 1), (13, 1), None, "float32", target_of(256))
    assert rows.numbers[:17] == together.numbers[:17] and rows.tasks == together.tasks


def test_all_products_of_a_kind_share_the_functions_of_tiles():
    module = Module(target_of(512))
    for number, scheme in enumerate(("packed", "panels", "in_place", "packed")):
        write_contraction(module, ContractionSpec(*[numpy.dtype("float32")] * 3, scheme, name=f"product{number}"))
    code = module.text()
    names = re.findall(r"define internal void @(contraction_tile_\w+)", code)
    assert len(names) == len(set(names))
    assert len([name for name in names if "panel" in name]) in (3, 4)  # narrow vectors have no tiles for few columns
    # What a product has for itself is short.
    assert all(len(x) < 12000 for x in module.functions if x.startswith("define void @product"))


def test_results_of_other_dtypes():
    random = numpy.random.default_rng(3)
    a, b = numbers(random, (20, 30), ml_dtypes.bfloat16), numbers(random, (30, 40), ml_dtypes.bfloat16)
    result, _ = multiply(a, b, target_of(512), out=numpy.empty((20, 40), "float32"))
    numpy.testing.assert_allclose(result, a.astype("float32") @ b.astype("float32"), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bits", BITS)
def test_every_float16_survives_a_product_with_one(bits):
    every = numpy.arange(1 << 16, dtype=numpy.uint16).view(numpy.float16).reshape(-1, 1)
    result, _ = multiply(every, numpy.ones((1, 1), "float16"), target_of(bits))
    # A sum begins with zero, which takes the sign from a negative zero.
    numpy.testing.assert_array_equal(result, every)


@pytest.mark.parametrize("bits", BITS)
def test_sums_are_rounded_to_the_nearest_float16(bits):
    random = numpy.random.default_rng(4)
    exponents = random.integers(-30, 18, (3000, 1))
    a = (random.standard_normal((3000, 1)) * 2.0**exponents).astype("float32")
    result, _ = multiply(a, numpy.ones((1, 1), "float32"), target_of(bits), out=numpy.empty((3000, 1), "float16"))
    with numpy.errstate(over="ignore"):
        numpy.testing.assert_array_equal(result, a.astype("float16"))


EPILOGUE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 7)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    "size", [(2, 64, 64, 64), (3, 33, 45, 17), (1, 70, 100, 1200), (1, 200, 300, 30), (1, 9, 7, 0)]
)
def test_an_epilogue_gets_each_sum_once(size, bits):
    batch, m, n, k = size
    random = numpy.random.default_rng(5)
    for dtype in ("float32", "float64", ml_dtypes.bfloat16):
        for layout in LAYOUTS[:2]:
            a = numbers(random, (batch, m, k), dtype)
            b = numpy.stack([matrix(random, k, n, dtype, layout) for _ in range(batch)])
            b = b if layout == "rows" else numpy.ascontiguousarray(b.transpose(0, 2, 1)).transpose(0, 2, 1)
            number = numpy.dtype("float64" if dtype == "float64" else "float32")
            found, times = numpy.zeros((batch, m, n), number), numpy.zeros((batch, m, n), int)

            def epilogue(context, sums, stride, outer, inner, r, rows, n0, n1, found=found, times=times):
                given = numpy.zeros((rows, stride), found.dtype)
                for i in range(rows):
                    ctypes.memmove(given[i].ctypes.data, sums + i * stride * found.itemsize, (n1 - n0) * found.itemsize)
                found[outer + inner, r : r + rows, n0:n1] = given[:, : n1 - n0]
                times[outer + inner, r : r + rows, n0:n1] += 1

            function = EPILOGUE(epilogue)
            address = ctypes.cast(function, ctypes.c_void_p).value
            _, plan = multiply(a, b, target_of(bits), epilogue=address)
            assert not plan.swapped and (times == 1).all()
            exact, sizes = (numpy.matmul(f(a).astype(float), f(b).astype(float)) for f in (numpy.asarray, abs))
            assert (abs(found - exact) <= 1e-6 * sizes).all()


@pytest.mark.parametrize("bits", [512, 0])
@pytest.mark.parametrize("scheme", ["panels", "packed"])
def test_operands_are_read_by_somebody_elses_code(scheme, bits):
    """a is a table whose rows are looked up, b is a number computed from its indices."""

    def look_up(text, outer, inner, m, k, extra):
        row = text.load("i64", text.at(extra[1], "i64", m), 8)
        return text.load("float", text.at(extra[0], "float", text.add(text.mul(row, 40), k)), 4)

    def compute(text, outer, inner, k, n, extra):
        return text.line(f"sitofp i64 {text.add(text.mul(k, 3), n)} to float")

    random = numpy.random.default_rng(7)
    m, n, k = (90, 50, 40) if scheme == "packed" else (20, 50, 40)
    table, rows = numbers(random, (100, k), "float32"), random.integers(0, 100, m)
    target = target_of(bits)
    plan = plan_contraction(1, m, n, k, (k, 1), (n, 1), None, "float32", target, reads_a=True, reads_b=True)
    dtype = numpy.dtype("float32")
    spec = ContractionSpec(dtype, dtype, dtype, plan.scheme, read_a=look_up, read_b=compute, extra=2)
    assert plan.scheme == scheme or bits == 0
    _, functions = compiled(spec, target)
    c, scratch = numpy.empty((m, n), "float32"), numpy.empty(plan.scratch_bytes + 64, numpy.uint8)
    at = (scratch.ctypes.data + 63) // 64 * 64
    slots = plan.context(0, 0, c.ctypes.data, at, 0, [table.ctypes.data, rows.ctypes.data])
    context = numpy.array(slots, numpy.int64)
    if plan.pack_tasks:
        functions[1](context.ctypes.data, 0, plan.pack_tasks)
    functions[0](context.ctypes.data, 0, plan.tasks)
    expected = table[rows] @ (3.0 * numpy.arange(k)[:, None] + numpy.arange(n))
    numpy.testing.assert_allclose(c, expected, rtol=1e-3, atol=1e-2)
