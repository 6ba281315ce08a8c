"""Writes random.json: what JAX gives for a list of calls, as the bytes of the results.

Run by hand with a Python that has JAX; the tests only read the file:

    python tests/known_values/make_random.py
"""

import contextlib
import hashlib
import json
from pathlib import Path

import jax
import numpy

SHAPES = [[], [1], [7], [0], [2, 3], [3, 0, 2], [5, 1, 3], [33, 17]]
UNSIGNED = ["uint8", "uint16", "uint32", "uint64"]
FLOATING = ["float16", "bfloat16", "float32", "float64"]
SEEDS = [0, 1, 42, -1, -7, 2**31 - 1, -(2**31), 2**31, 2**32 - 1]
WIDE_SEEDS = [2**32, 2**40 + 5, 2**63 - 1, -(2**31) - 1, -(2**33), -(2**63)]
LARGE = [1000, 77]


def array(values, dtype):
    return {"array": values, "dtype": dtype}


def calls():
    """Each call as (name, seed, arguments); functions of a key get the key of the seed first."""
    for seed in SEEDS + WIDE_SEEDS:
        yield "key", seed, {}
    for seed in (0, 42, -7):
        for num in (2, 1, 5, 0, [2, 3], [], 100):
            yield "split", seed, {"num": num}
        for data in (0, 1, 7, 2**32 - 1):
            yield "fold_in", seed, {"data": data}
    for dtype in UNSIGNED:
        for shape in [*SHAPES, LARGE]:
            yield "bits", 3, {"shape": shape, "dtype": dtype}
    for dtype in FLOATING:
        for shape in [*SHAPES, LARGE]:
            yield "uniform", 5, {"shape": shape, "dtype": dtype}
        for low, high in [(-1.0, 1.0), (0.0, 2.5), (-0.3, 0.7123), (3.0, 3.5), (1e-3, 1e3), (2.0, 1.0)]:
            yield "uniform", 6, {"shape": [4, 50], "dtype": dtype, "minval": low, "maxval": high}
        bounds = array([0.1, 0.7, 5.0], dtype), array([[1.3], [2.9]], dtype)
        yield "uniform", 7, {"shape": [2, 3], "dtype": dtype, "minval": bounds[0], "maxval": bounds[1]}
        for name in ("normal", "exponential", "gumbel", "laplace", "logistic", "cauchy"):
            yield name, 8, {"shape": [40], "dtype": dtype}
        yield "truncated_normal", 9, {"shape": [40], "dtype": dtype, "lower": -2.0, "upper": 1.5}
        low, high = array([-1.0, 0.5], dtype), array([0.25, 2.0], dtype)
        yield "truncated_normal", 9, {"lower": low, "upper": high, "shape": [20, 2], "dtype": dtype}
        probabilities = array([[0.1], [0.5], [0.9]], dtype)
        yield "bernoulli", 10, {"p": probabilities, "shape": [3, 20]}
    yield "normal", 8, {"shape": [40], "dtype": "complex64"}
    yield "normal", 8, {"shape": [40], "dtype": "complex128"}
    yield "bernoulli", 11, {"shape": [30]}
    yield "bernoulli", 11, {"p": 0.3, "shape": [6, 5]}
    for dtype in ("int32", "float32"):
        yield "rademacher", 12, {"shape": [30], "dtype": dtype}
    for dtype, low, high in [
        *(("int8", -128, 128), ("int8", 3, 17), ("uint8", 0, 256), ("uint8", 0, 10), ("int16", -5, 300)),
        *(("int16", -32768, 32767), ("uint16", 0, 65536), ("int32", 0, 10), ("int32", 0, 65536), ("int32", -7, 70000)),
        *(("int32", -(2**31), 2**31 - 1), ("int32", 5, 5), ("int32", 5, 3), ("int32", 0, 2**30 + 7)),
        *(("uint32", 0, 10), ("uint32", 0, 2**31 - 1), ("int64", 0, 10), ("int64", -5, 2**40 + 3)),
        *(("int64", -(2**63), 2**63 - 1), ("uint64", 0, 1000), ("int64", 0, 2**32)),
    ]:
        yield "randint", 13, {"shape": [6, 11], "minval": low, "maxval": high, "dtype": dtype}
    low, high = array([0, -10, 2**31 - 5], "int32"), array([[100], [2**31 - 1]], "int32")
    for dtype in ("int32", "int16", "uint32", "uint8"):
        yield "randint", 14, {"shape": [2, 3], "minval": low, "maxval": high, "dtype": dtype}
    wide = array([-(2**63), 0, 7], "int64"), array([2**63 - 1, 2**40, 3], "int64")
    yield "randint", 14, {"shape": [4, 3], "minval": wide[0], "maxval": wide[1], "dtype": "int64"}
    for x in (0, 1, 2, 10, 1000, 40000):
        yield "permutation", 15, {"x": x}
    for axis in (0, 1, -1):
        for independent in (False, True):
            values = array([[10 * i + j for j in range(6)] for i in range(5)], "int32")
            yield "permutation", 16, {"x": values, "axis": axis, "independent": independent}
    yield "permutation", 16, {"x": array([0.5, 1.5, 2.5, 3.5], "float32")}
    logits = array([[0.0, 1.0, 2.0], [3.0, 0.0, -1.0]], "float32")
    yield "categorical", 17, {"logits": logits}
    yield "categorical", 17, {"logits": logits, "axis": 0}
    yield "categorical", 17, {"logits": logits, "axis": 0, "shape": [4, 3]}
    yield "categorical", 17, {"logits": logits, "shape": [50, 2]}
    yield "categorical", 17, {"logits": logits, "axis": -2, "shape": [5, 7, 3]}
    yield "categorical", 17, {"logits": array([0.0, 1.0, 2.0, 3.0], "float32"), "shape": []}
    yield "categorical", 18, {"logits": logits, "shape": [3, 2], "replace": False}
    yield "categorical", 18, {"logits": logits, "axis": 0, "shape": [2, 3], "replace": False}
    values = array([[10 * i + j for j in range(6)] for i in range(5)], "int32")
    probabilities = array([0.1, 0.2, 0.0, 0.5, 0.2], "float32")
    yield "choice", 19, {"a": 7, "shape": [3, 4]}
    yield "choice", 19, {"a": 7, "shape": []}
    yield "choice", 19, {"a": 7, "shape": [5], "replace": False}
    yield "choice", 19, {"a": values, "shape": [3]}
    yield "choice", 19, {"a": values, "shape": [2, 2], "axis": 1}
    yield "choice", 19, {"a": values, "shape": [4], "axis": 1, "replace": False}
    yield "choice", 19, {"a": 5, "shape": [30], "p": probabilities}
    yield "choice", 19, {"a": values, "shape": [3, 2], "p": probabilities}
    yield "choice", 19, {"a": 5, "shape": [4], "p": probabilities, "replace": False}
    yield "choice", 19, {"a": values, "shape": [2, 2], "p": probabilities, "replace": False}


def read(value):
    if isinstance(value, dict):
        return numpy.asarray(value["array"], value["dtype"])
    return tuple(value) if isinstance(value, list) else value


def is_wide(seed, arguments):
    """Whether JAX needs its 64-bit mode for the call."""
    named = [arguments.get("dtype"), *(v["dtype"] for v in arguments.values() if isinstance(v, dict))]
    return seed in WIDE_SEEDS or any(name in ("int64", "uint64", "float64", "complex128") for name in named)


def call(name, seed, arguments):
    with jax.enable_x64(True) if is_wide(seed, arguments) else contextlib.nullcontext():
        if name == "key":
            result = jax.random.PRNGKey(seed)
        else:
            result = getattr(jax.random, name)(jax.random.PRNGKey(seed), **{k: read(v) for k, v in arguments.items()})
        result = numpy.asarray(result)
    if result.dtype == numpy.int64 and arguments.get("dtype") != "int64":
        result = result.astype(numpy.int32)  # an index, which 64-bit mode widens
    data = result.tobytes()
    stored = {"sha256": hashlib.sha256(data).hexdigest()} if len(data) > 3000 else {"bytes": data.hex()}
    return {
        "function": name,
        "seed": seed,
        "arguments": arguments,
        "dtype": str(result.dtype),
        "shape": list(result.shape),
        **stored,
    }


def main():
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_threefry_partitionable", True)
    cases = [call(*one) for one in calls()]
    text = ",\n".join(json.dumps(case) for case in cases)
    path = Path(__file__).with_name("random.json")
    path.write_text(f'{{"jax": "{jax.__version__}", "cases": [\n{text}\n]}}\n')
    print(f"{len(cases)} calls written to {path}")


if __name__ == "__main__":
    main()
