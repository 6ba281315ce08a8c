"""Transforms in threads and asyncio tasks side by side do not see each other."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.core import current_interpreter, ground


def nested(x):
    """Something that goes through several interpreters, and its value in closed form: 2 x cos(x^2)."""
    return fg.vmap(fg.grad(lambda y: fnp.sin(y * y)))(x)


def expected(x):
    return 2 * x * numpy.cos(x * x)


def test_different_transforms_run_in_threads_at_the_same_time():
    jitted = fg.jit(lambda x: fnp.tanh(x) ** 2)
    start = threading.Barrier(8)

    def work(number):
        x = numpy.linspace(0.1, 1.0, 5) + number / 10
        start.wait()
        for _ in range(30):
            kind = number % 4
            if kind == 0:
                numpy.testing.assert_allclose(numpy.asarray(nested(fg.array(x))), expected(x), rtol=1e-5)
            elif kind == 1:
                _, tangent = fg.jvp(fnp.sin, (fg.array(x),), (fg.array(x),))
                numpy.testing.assert_allclose(numpy.asarray(tangent), numpy.cos(x) * x, rtol=1e-5)
            elif kind == 2:
                numpy.testing.assert_allclose(numpy.asarray(jitted(fg.array(x))), numpy.tanh(x) ** 2, rtol=1e-5)
            else:
                found = fg.grad(lambda y: jitted(y).sum())(fg.array(x))
                numpy.testing.assert_allclose(
                    numpy.asarray(found), 2 * numpy.tanh(x) * (1 - numpy.tanh(x) ** 2), rtol=1e-5
                )
            assert current_interpreter() is ground
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


def test_a_thread_started_inside_a_transform_is_outside_of_it():
    found = []

    def f(x):
        thread = threading.Thread(target=lambda: found.append((current_interpreter() is ground, fnp.sin(0.5).item())))
        thread.start()
        thread.join()
        return x * 2.0

    assert fg.grad(f)(1.0).item() == 2.0
    ((outside, value),) = found
    assert outside
    assert value == pytest.approx(numpy.sin(0.5), rel=1e-6)


def test_one_jitted_function_may_be_called_first_by_many_threads_at_once():
    start = threading.Barrier(8)

    @fg.jit
    def f(x, y):
        return fnp.sum(x * y) + fnp.exp(x).sum()

    x = numpy.linspace(0.0, 1.0, 7)

    def work(number):
        start.wait()
        return f(fg.array(x + number), fg.array(x)).item()

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(work, range(8)))
    expected = [numpy.sum((x + n) * x) + numpy.exp(x + n).sum() for n in range(8)]
    numpy.testing.assert_allclose(values, expected, rtol=1e-5)


def test_the_pulled_back_function_of_one_thread_may_be_used_in_others():
    _, pull = fg.vjp(lambda x: fnp.sin(x) * x, fg.array([0.5, 1.0]))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda c: pull(fg.array([c, c]))[0].tolist(), [1.0, 2.0, 3.0, 4.0]))
    numpy.testing.assert_allclose([row[0] / results[0][0] for row in results], [1.0, 2.0, 3.0, 4.0], rtol=1e-6)


def test_asyncio_tasks_that_take_turns_inside_of_transforms_do_not_mix():
    async def differentiate(x, turns):
        # A transform is a plain call, so a task holds an interpreter across an await only by opening one itself.
        with Doubling() as doubling:
            for _ in range(turns):
                assert current_interpreter() is doubling
                y = fnp.sin(x)
                await asyncio.sleep(0)
                z = nested(x)
                await asyncio.sleep(0)
                assert current_interpreter() is doubling
        return y, z

    async def plain(x, turns):
        for _ in range(turns):
            assert current_interpreter() is ground
            y = fnp.sin(x)
            await asyncio.sleep(0)
        return y

    async def main():
        x = fg.array([0.3, 0.7])
        return await asyncio.gather(differentiate(x, 5), plain(x, 8), differentiate(x, 3), plain(x, 4))

    (doubled, _), single, (again, _), other = asyncio.run(main())
    numpy.testing.assert_allclose(numpy.asarray(doubled), 2 * numpy.asarray(single))
    numpy.testing.assert_allclose(numpy.asarray(again), 2 * numpy.asarray(other))


class Doubling(fg.Interpreter):
    """Gives twice the value of every sine."""

    def interpret(self, primitive, operands, params):
        result = primitive(*operands, **params)
        return result * 2.0 if primitive.name == "sin" else result
