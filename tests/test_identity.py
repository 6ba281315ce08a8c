"""What a Program is, as bytes, and the recipes kept by it: `compiler/identity.py` and `compiler/whole.py`."""

import os
import re
import subprocess
import sys

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad.compiler import cache, machine
from funcgrad.compiler.identity import LARGEST_CONSTANTS, identity
from funcgrad.config import config
from funcgrad.core import Primitive


def of(function, *args):
    return identity(fg.jit(function).lower(*args).program)


def affine(x):
    return x * 2.0 + 1.0


X = np.ones(4)

SEVERAL = {
    "another shape": (affine, np.ones(5)),
    "another dtype": (affine, np.ones(4, "float64")),
    "a weak argument": (affine, 1.0),
    "an array of one number": (affine, np.array(1.0, "float32")),
    "another constant": (lambda x: x * 3.0 + 1.0, X),
    "a constant of another dtype": (lambda x: (x > 0) * numpy.int16(2), X),
    "another primitive": (lambda x: x * 2.0 - 1.0, X),
    "operands in another order": (lambda x: 1.0 + x * 2.0, X),
    "one more result": (lambda x: (x * 2.0 + 1.0, x), X),
    "results in another order": (lambda x: (x, x * 2.0 + 1.0), X),
    "a parameter": (lambda x: np.sum(x), X),
    "another parameter": (lambda x: np.sum(x, keepdims=True), X),
    "a loop": (lambda x: fg.lax.fori_loop(0, 3, lambda i, y: y + 1, x), X),
    "a loop of another length": (lambda x: fg.lax.fori_loop(0, 4, lambda i, y: y + 1, x), X),
    "a loop with another body": (lambda x: fg.lax.fori_loop(0, 3, lambda i, y: y + 2, x), X),
}


def test_programs_that_differ_have_different_identities():
    found = {name: of(function, *args) for name, (function, *args) in SEVERAL.items()}
    found["the first"] = of(affine, X)
    assert None not in found.values()
    assert len({*found.values()}) == len(found)


def test_names_and_places_do_not_matter():
    def renamed(y):
        doubled = y * 2.0
        return doubled + 1.0

    assert of(renamed, X) == of(affine, X)


def test_calls_count_by_what_they_call():
    @fg.custom_jvp
    def square(x):
        return x * x

    square.defjvp(lambda primals, tangents: (square(*primals), 2 * primals[0] * tangents[0]))
    other = fg.custom_jvp(lambda x: x + x)
    other.defjvp(lambda primals, tangents: (other(*primals), 2 * tangents[0]))
    assert of(square, X) is not None
    assert of(square, X) == of(square, X) != of(other, X)


def test_another_process_finds_the_same():
    code = (
        "import funcgrad as fg; from funcgrad.compiler.identity import identity\n"
        "p = fg.jit(lambda x: fg.numpy.tanh(x @ x.T) * 2.0).lower(fg.numpy.ones((4, 3))).program\n"
        "print(identity(p).hex())"
    )
    known = [
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True)
        for seed in "12"
    ]
    assert known[0].stdout and known[0].stdout == known[1].stdout


def test_what_means_something_in_this_process_only_has_none():
    def callback(x):
        return fg.pure_callback(lambda y: y, fg.ShapeDtypeStruct(x.shape, x.dtype), x)

    own = Primitive("sin", abstract=lambda x: x.aval, evaluate=numpy.sin)
    large = np.ones(LARGEST_CONSTANTS // 4 + 1)
    assert of(callback, X) is None
    assert of(lambda x: own(x), X) is None
    assert of(lambda x: x + large, np.ones(large.shape)) is None


@pytest.mark.native
def test_a_program_compiled_before_needs_no_compiler(tmp_path):
    code = (
        "import funcgrad as fg, funcgrad.numpy as np\n"
        "from funcgrad.compiler.llvm_library import is_loaded\n"
        "weights = np.arange(3.0)\n"
        "f = fg.jit(lambda x, y: (np.tanh(x * weights) @ y, y))\n"
        "x, y = np.ones((2, 3)), np.full((3, 2), 2.0)\n"
        "results = [r.tolist() for r in f(x, y)]\n"
        "turned = [r.tolist() for r in f(fg.array(x.T.copy()).T, y)]\n"
        "print(results, is_loaded())"
    )
    environment = os.environ | {"FUNCGRAD_CACHE": str(tmp_path / "cache")}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True) for _ in range(2)
    ]
    assert [x.stderr for x in runs] == ["", ""]
    first, second = (x.stdout.strip().rsplit(" ", 1) for x in runs)
    assert first[0] == second[0]
    assert first[1] == "True"
    assert second[1] == "False" or sys.platform != "linux"


@pytest.mark.native
def test_a_program_of_several_steps_needs_no_llvm_the_second_time(tmp_path):
    code = (
        "import funcgrad as fg, funcgrad.numpy as np\n"
        "from funcgrad.compiler.llvm_library import is_loaded\n"
        "f = fg.jit(lambda x: np.tanh(np.sort(x * 2.0)) + 1.0)\n"
        "x = np.linspace(1.0, -1.0, 20000)\n"
        "print(f(x).sum().item(), is_loaded())"
    )
    environment = os.environ | {"FUNCGRAD_CACHE": str(tmp_path / "cache")}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True) for _ in range(2)
    ]
    assert [x.stderr for x in runs] == ["", ""]
    first, second = (x.stdout.split() for x in runs)
    assert (first[1], second[1]) == ("True", "False") and first[0] == second[0]


def test_a_large_constant_that_occurs_often_is_read_once():
    large = np.arange(LARGEST_CONSTANTS // 8, dtype=np.float32)
    program = fg.make_program(lambda x: (x + large) * large + large)(large)
    known = identity(program)
    assert known is not None and known == identity(fg.make_program(lambda y: (y + large) * large + large)(large))
    other = np.arange(LARGEST_CONSTANTS // 8, dtype=np.float32) + 1
    assert known != identity(fg.make_program(lambda x: (x + large) * other + large)(large))


@pytest.mark.native
def test_a_recipe_without_its_code_is_not_used(tmp_path):
    with config.override(cache_folder=str(tmp_path / "cache")):
        assert fg.jit(affine)(X).tolist() == [3.0] * 4
        for file in (tmp_path / "cache").glob(f"*{cache.SUFFIX}"):
            if file.stat().st_size > 2000:
                file.unlink()
        assert fg.jit(affine)(X).tolist() == [3.0] * 4


@pytest.mark.native
def test_another_program_finds_the_functions_that_it_shares(tmp_path, monkeypatch):
    compiled = []

    def recorded(parts):
        compiled.extend(part.ir for part in parts)
        return original(parts)

    original = machine.object_codes
    monkeypatch.setattr(machine, "object_codes", recorded)
    x = np.ones((200, 200))
    with config.override(cache_folder=str(tmp_path / "cache")):
        fg.jit(lambda x: x @ x)(x)
        first = {*compiled}
        compiled.clear()
        result = fg.jit(lambda x: np.exp(x @ x - 200.0))(x)
    assert result.tolist() == [[1.0] * 200] * 200
    large = [text for text in first if re.search(r"define void @product\.[0-9a-f]+\(", text)]
    assert len(large) == 1 and compiled
    assert not any(re.search(r"define void @product\.[0-9a-f]+\(", text) for text in compiled)
