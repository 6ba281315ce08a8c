"""Writes convolution.json: what JAX computes for convolutions and windows of many configurations, and the gradients.

Run it with a Python that has jax. All numbers are whole, so that results are exact.
"""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy

jax.config.update("jax_enable_x64", True)

NHWC = ("NHWC", "HWIO", "NHWC")

# Shape of the array, shape of the kernel, and the arguments of conv_general_dilated.
CONVOLUTIONS = [
    ((2, 3, 5, 6), (4, 3, 3, 2), dict(window_strides=(1, 1), padding="SAME")),
    ((2, 3, 5, 6), (4, 3, 3, 2), dict(window_strides=(2, 3), padding="SAME_LOWER")),
    ((2, 3, 5, 6), (4, 3, 3, 2), dict(window_strides=(2, 1), padding="VALID")),
    ((2, 5, 6, 3), (3, 2, 3, 4), dict(window_strides=(2, 2), padding="SAME", dimension_numbers=NHWC)),
    (
        (5, 2, 3, 6),
        (3, 3, 2, 4),
        dict(window_strides=(1, 2), padding="SAME", dimension_numbers=("HNCW", "IHWO", "CWNH")),
    ),
    ((2, 2, 4, 5), (3, 2, 2, 3), dict(window_strides=(2, 1), padding=[(2, 1), (0, 3)], lhs_dilation=(3, 2))),
    ((2, 2, 7, 7), (3, 2, 2, 3), dict(window_strides=(1, 2), padding=[(1, 0), (2, 2)], rhs_dilation=(3, 2))),
    ((1, 2, 6, 5), (2, 2, 2, 2), dict(window_strides=(2, 2), padding=[(-1, 2), (1, -2)], lhs_dilation=(2, 2))),
    ((1, 2, 6, 5), (2, 2, 2, 2), dict(window_strides=(1, 1), padding=[(-2, -2), (-1, -1)], rhs_dilation=(1, 2))),
    ((2, 6, 5, 4), (4, 3, 3, 2), dict(window_strides=(2, 1), padding="SAME", feature_group_count=2)),
    (
        (2, 5, 4, 3),
        (2, 2, 1, 6),
        dict(window_strides=(1, 2), padding="SAME", feature_group_count=3, dimension_numbers=NHWC),
    ),
    ((4, 3, 5, 4), (6, 3, 3, 2), dict(window_strides=(2, 1), padding="SAME", batch_group_count=2)),
    (
        (3, 5, 4, 2),
        (2, 3, 2, 3),
        dict(window_strides=(1, 1), padding=[(1, 2), (0, 1)], batch_group_count=3, dimension_numbers=NHWC),
    ),
    ((2, 3, 7), (4, 3, 3), dict(window_strides=(2,), padding=[(2, 1)], lhs_dilation=(2,), rhs_dilation=(2,))),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 3), dict(window_strides=(1, 2, 1), padding="SAME")),
    ((3, 2), (4, 2), dict(window_strides=(), padding=[])),
    ((2, 2, 3), (1, 2, 5), dict(window_strides=(1,), padding=[(0, 1)])),  # no place where the kernel fits
]

TRANSPOSES = [
    ((1, 4, 2), (3, 2, 3), dict(strides=(2,), padding="SAME")),
    ((1, 4, 2), (3, 2, 3), dict(strides=(3,), padding="VALID")),
    ((1, 4, 2), (2, 2, 3), dict(strides=(4,), padding="SAME", rhs_dilation=(2,))),
    ((1, 4, 2), (3, 2, 3), dict(strides=(2,), padding=[(1, 2)])),
    ((1, 4, 2), (3, 2, 3), dict(strides=(2,), padding=[(1, 0)], use_consistent_padding=True)),
    ((1, 3, 4, 2), (2, 3, 3, 2), dict(strides=(2, 1), padding="SAME", transpose_kernel=True)),
    ((1, 3, 4, 2), (2, 2, 3, 3), dict(strides=(1, 2), padding="VALID", dimension_numbers=("NHWC", "IOHW", "NCHW"))),
]

WINDOWS = [
    ((6, 5), dict(window_dimensions=(2, 2), window_strides=(2, 2), padding="VALID")),
    ((6, 5), dict(window_dimensions=(3, 2), window_strides=(1, 2), padding="SAME")),
    ((6, 5), dict(window_dimensions=(2, 3), window_strides=(2, 1), padding="SAME_LOWER")),
    ((6, 5), dict(window_dimensions=(2, 2), padding=[(1, 0), (0, 2)], base_dilation=(2, 3))),
    ((6, 5), dict(window_dimensions=(3, 2), padding=[(1, 2), (-1, 1)], window_dilation=(2, 3))),
    ((2, 4, 5, 3), dict(window_dimensions=(1, 3, 3, 1), window_strides=(1, 2, 2, 1), padding="SAME")),
]


def pattern(shape, factor):
    """Whole numbers between -5 and 5 in no apparent order, some of them equal."""
    return ((numpy.arange(math.prod(shape)) * factor) % 11 - 5).astype(float).reshape(shape)


def value_and_gradients(function, *operands):
    result, pull = jax.vjp(function, *map(jnp.array, operands))
    cotangents = pull(jnp.array(pattern(result.shape, 3)))
    arrays = {"result": result} | {f"gradient {i}": x for i, x in enumerate(cotangents)}
    return {"shape": result.shape} | {name: flat(x) for name, x in arrays.items()}


def flat(x):
    return [int(n) for n in numpy.asarray(x).reshape(-1)]


def of_kernel(function, cases):
    return [
        {"x": x, "kernel": kernel, "arguments": arguments}
        | value_and_gradients(lambda x, k, a=arguments: function(x, k, **a), pattern(x, 7), pattern(kernel, 5))
        for x, kernel, arguments in cases
    ]


REDUCTIONS = {"add": (0.0, jax.lax.add), "max": (-math.inf, jax.lax.max), "min": (math.inf, jax.lax.min)}


def of_windows():
    found = []
    for x, arguments in WINDOWS:
        for name, (start, computation) in REDUCTIONS.items():

            def function(x, start=start, computation=computation, arguments=arguments):
                return jax.lax.reduce_window(x, start, computation, **arguments)

            if name != "add" and any(d != 1 for d in arguments.get("base_dilation", ())):
                continue  # has windows with nothing in them, whose maximum is no whole number
            if name != "add" and "window_dilation" in arguments:
                # JAX has no reverse mode for these.
                case = {"shape": function(pattern(x, 7)).shape, "result": flat(function(pattern(x, 7)))}
            else:
                case = value_and_gradients(function, pattern(x, 7))
            found.append({"computation": name, "x": x, "arguments": arguments} | case)
    return found


def main():
    values = {
        "conv_general_dilated": of_kernel(jax.lax.conv_general_dilated, CONVOLUTIONS),
        "conv_transpose": of_kernel(jax.lax.conv_transpose, TRANSPOSES),
        "reduce_window": of_windows(),
    }
    path = Path(__file__).with_name("convolution.json")
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n")
    print(f"wrote {path.name}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
