"""Branches, loops, rematerialisation and callbacks under every transform, held to the same thing written in Python."""

import numpy
import pytest

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import errors, lax
from funcgrad.core import Primitive
from funcgrad.program import Program, programs_in
from funcgrad.testing import check_grads

random = numpy.random.default_rng(0)


def close(actual, expected, rtol=1e-9):
    if isinstance(expected, list):  # the elements of one array
        expected = numpy.array([numpy.asarray(x) for x in expected])
    for a, b in zip(fg.tree.leaves(actual), fg.tree.leaves(expected), strict=True):
        numpy.testing.assert_allclose(numpy.asarray(a), numpy.asarray(b), rtol=rtol, atol=1e-10)


def array(*shape):
    return fg.array(random.uniform(-1.0, 1.0, shape))


def check_transforms(f, same, *args):
    """`f` does what `same`, which has no control flow of ours, does: itself, and under every transform."""
    numbers = tuple(range(len(args)))

    def total(function):
        return lambda *xs: sum(fnp.sum(x * x + fnp.sin(x)) for x in fg.tree.leaves(function(*xs)))

    def same_total(*xs):
        return total(same)(*xs)

    f_total = total(f)
    close(f(*args), same(*args))
    close(fg.jit(f)(*args), same(*args))
    tangents = tuple(array(*x.shape) for x in args)
    close(fg.jvp(f, args, tangents), fg.jvp(same, args, tangents))
    close(fg.jvp(fg.jit(f), args, tangents), fg.jvp(same, args, tangents))
    close(fg.linearize(f, *args)[1](*tangents), fg.jvp(same, args, tangents)[1])
    gradient = fg.grad(same_total, numbers)(*args)
    close(fg.grad(f_total, numbers)(*args), gradient)
    close(fg.jit(fg.grad(f_total, numbers))(*args), gradient)
    close(fg.grad(fg.jit(f_total), numbers)(*args), gradient)
    for jacobian in (fg.jacfwd, fg.jacrev):
        close(jacobian(f, numbers)(*args), fg.jacfwd(same, numbers)(*args))
    hessian = fg.jacfwd(fg.jacfwd(same_total))(*args)
    close(fg.hessian(f_total)(*args), hessian)
    close(fg.jacrev(fg.jacrev(f_total))(*args), hessian)
    close(fg.jacrev(fg.jacfwd(f_total))(*args), hessian)

    batches = [fnp.stack([x, x * 0.5, x * -0.7]) for x in args]
    rows = [[x[i] for x in batches] for i in range(3)]
    check_batch(f, same, batches, rows)
    check_batch(fg.grad(f_total, numbers), fg.grad(same_total, numbers), batches, rows)
    close(
        fg.grad(lambda *xs: fg.vmap(f_total)(*xs).sum(), numbers)(*batches),
        fg.grad(lambda *xs: fg.vmap(same_total)(*xs).sum(), numbers)(*batches),
    )
    # One argument batched, along another axis than the first; the others the same for all.
    in_axes = [None] * len(args)
    in_axes[-1] = batches[-1].ndim - 1
    moved = [*args[:-1], fnp.moveaxis(batches[-1], 0, -1)]
    expected = stacked([same(*args[:-1], batches[-1][i]) for i in range(3)])
    close(fg.vmap(f, in_axes=tuple(in_axes))(*moved), expected)
    # Inside of the loop's own function: closing over tracers of two transforms.
    close(
        fg.vmap(lambda x: fg.grad(lambda y: f_total(*args[:-1], y * x))(x))(batches[-1]),
        fg.vmap(lambda x: fg.grad(lambda y: same_total(*args[:-1], y * x))(x))(batches[-1]),
    )


def check_batch(f, same, batches, rows):
    expected = stacked([same(*row) for row in rows])
    close(fg.vmap(f)(*batches), expected)
    close(fg.jit(fg.vmap(f))(*batches), expected)
    close(fg.vmap(fg.jit(f))(*batches), expected)


def stacked(rows):
    return fg.tree.map(lambda *xs: fnp.stack(xs), *rows)


def equations_of(program: Program):
    for equation in program.equations:
        yield equation
        for inner in programs_in(equation.params):
            yield from equations_of(inner)


# scan


def rnn(w, h, xs):
    def step(carry, x):
        h, count = carry["h"], carry["count"]
        h = fnp.tanh(w @ h + x)
        return {"h": h, "count": count + 1}, (h * x, count * 1.0)

    carry, (ys, counts) = lax.scan(step, {"h": h, "count": 0}, xs)
    return carry["h"], ys, counts.astype(fg.float64)


def rnn_in_python(w, h, xs):
    ys = []
    for i in range(xs.shape[0]):
        h = fnp.tanh(w @ h + xs[i])
        ys.append(h * xs[i])
    return h, fnp.stack(ys), fnp.arange(xs.shape[0]).astype(fg.float64)


def test_scan_does_what_a_python_loop_does_under_every_transform():
    check_transforms(rnn, rnn_in_python, array(2, 2), array(2), array(4, 2))


def test_a_reversed_scan_begins_at_the_end_and_keeps_the_places_of_outputs():
    def f(c, xs):
        return lax.scan(lambda c, x: (c * x + fnp.sin(c), c), c, xs, reverse=True)

    def same(c, xs):
        ys = []
        for i in range(3)[::-1]:
            ys.append(c)
            c = c * xs[i] + fnp.sin(c)
        return c, fnp.stack(ys[::-1])

    check_transforms(f, same, array(2), array(3, 2))


def test_gradients_of_scan_agree_with_finite_differences():
    check_grads(rnn, (array(2, 2), array(2), array(3, 2)), order=3)


def test_scan_inside_scan_inside_scan():
    def f(x, ys):
        def outer(c, y):
            def middle(d, z):
                return lax.scan(lambda e, _: (e * z + y, e), d, None, length=2)

            return lax.scan(middle, c, ys)

        return lax.scan(outer, x, ys)

    def same(x, ys):
        outer = []
        for i in range(2):
            middle = []
            for j in range(2):
                inner = []
                for _ in range(2):
                    inner.append(x)
                    x = x * ys[j] + ys[i]
                middle.append(fnp.stack(inner))
            outer.append(fnp.stack(middle))
        return x, fnp.stack(outer)

    check_transforms(f, same, array(), array(2))


def test_a_scan_of_no_steps_gives_what_it_was_given():
    def f(c, w):
        carry, ys = lax.scan(lambda c, x: (c * w + x.sum(), c * w), c, fnp.zeros((0, 3), fg.float64))
        return carry, ys

    c, w = array(2), array()
    carry, ys = f(c, w)
    close(carry, c)
    assert ys.shape == (0, 2) and ys.dtype == fg.float64
    close(fg.grad(lambda c, w: f(c, w)[0].sum(), (0, 1))(c, w), (fnp.ones(2), 0.0))
    assert fg.jit(fg.vmap(f, in_axes=(None, 0)))(c, fnp.ones(3))[1].shape == (3, 0, 2)
    assert lax.fori_loop(3, 0, lambda i, x: x + 1, fg.array(5)).item() == 5


def test_scan_takes_and_gives_any_pytrees_also_empty_ones():
    carry, ys = lax.scan(lambda c, x: ((), {"a": x["b"], "c": None}), (), {"b": fg.array([1, 2])})
    assert carry == () and ys["c"] is None and ys["a"].tolist() == [1, 2]
    carry, ys = lax.scan(lambda c, _: (c + 1, None), 0, length=3)
    assert carry.item() == 3 and ys is None


def test_python_scalars_that_are_carried_take_the_dtype_that_a_step_gives_them():
    x = fg.array([1.0, 2.0], dtype=fg.float64)
    for scan in (lax.scan, fg.jit(lax.scan, static_argnums=0)):
        total, _ = scan(lambda c, x: (c + x, None), 0, x)
        assert total.dtype == fg.float64 and not total.weak_type
        count, _ = scan(lambda c, x: (c + 1, None), 0, x)
        assert count.dtype == fg.int32 and count.weak_type
        reset, _ = scan(lambda c, x: (0, None), x[0], x)
        assert reset.dtype == fg.float64


def test_what_does_not_change_from_step_to_step_is_neither_stacked_nor_computed_again():
    def f(w, x):
        return lax.scan(lambda c, _: (c * fnp.exp(w), None), x, None, length=5)[0].sum()

    program = fg.make_program(fg.grad(f, argnums=(0, 1)))(array(3), array(3))
    names = [e.primitive.name for e in program.equations]
    assert names.count("exp") == 1 and names.index("exp") < names.index("scan")
    forward = next(e for e in program.equations if e.primitive.name == "scan")
    assert [x.shape for x in forward.results] == [(3,), (5, 3)]  # the carried value, and what it was before each step
    assert "exp" not in {e.primitive.name for e in forward.params["program"].equations}


def test_a_scan_is_transposed_though_it_carries_a_counter():
    def linear(x):
        def step(carry, y):
            i, total = carry
            return (i + 1, total + y * i), y * (i + 1)

        (_, total), ys = lax.scan(step, (0, fg.array(0.0, dtype=fg.float64)), x)
        return total, ys

    x = array(4)
    (pulled,) = fg.linear_transpose(linear, x)((fg.array(2.0, dtype=fg.float64), fnp.ones(4, fg.float64)))
    close(pulled, 2.0 * numpy.arange(4) + numpy.arange(1, 5))
    close(fg.linear_transpose(lambda x: lax.fori_loop(0, 3, lambda i, c: c * (i + 1), x), x)(x)[0], 6 * x)


def test_random_numbers_and_integers_are_carried_beside_differentiable_values():
    def f(x):
        def step(carry, _):
            key, x = carry
            key, sub = fg.random.split(key)
            return (key, x * fg.random.uniform(sub)), None

        return lax.scan(step, (fg.random.key(0), x), None, length=3)[0][1]

    close(fg.grad(f)(fg.array(2.0)), f(fg.array(1.0)), rtol=1e-6)


def test_a_custom_vjp_inside_of_a_scan_is_followed():
    @fg.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, cotangent: (fnp.clip(cotangent, -1.0, 1.0),))

    def f(x):
        return 5.0 * lax.scan(lambda c, _: (clipped(c) * 2.0, None), x, None, length=2)[0]

    assert fg.grad(f)(fg.array(3.0)).item() == 1.0
    assert fg.jit(fg.grad(f))(fg.array(3.0)).item() == 1.0


def test_collectives_inside_of_loops_and_branches_see_the_batch():
    def f(x):
        x, _ = lax.scan(lambda c, _: (c - lax.pmean(c, "i"), None), x, None, length=2)
        x = lax.while_loop(lambda c: lax.pmax(c, "i") < 10.0, lambda c: c + lax.psum(1.0, "i"), x)
        return lax.cond(lax.psum(x, "i") > 0.0, lambda: x, lambda: -x)

    def same(x):
        x = x - x.mean()
        x = x - x.mean()
        while x.max() < 10.0:
            x = x + 3.0
        return x

    x = array(3)
    close(fg.vmap(f, axis_name="i")(x), same(x))
    close(fg.jit(fg.vmap(f, axis_name="i"))(x), same(x))


def test_map_is_vmap_one_after_the_other_or_in_batches():
    x = array(7, 2)

    def f(x):
        return {"sum": x.sum(), "square": x * x}

    expected = fg.vmap(f)(x)
    for size in (None, 1, 3, 7, 100):
        close(lax.map(f, x, batch_size=size), expected)
        close(fg.jit(lambda x, size=size: lax.map(f, x, batch_size=size))(x), expected)
    close(fg.grad(lambda x: lax.map(lambda y: (y**3).sum(), x, batch_size=2).sum())(x), 3 * x**2)
    assert lax.map(f, fnp.zeros((0, 2)), batch_size=2)["square"].shape == (0, 2)
    assert lax.map(lambda x, _=None: x, fnp.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lax.scan(lambda c, x: c, 0.0, fnp.ones(3)), errors.ArgumentError, "returns a pair"),
        (lambda: lax.scan(lambda c, x: (c, x), 0.0), errors.ArgumentError, "how many steps"),
        (lambda: lax.scan(lambda c, x: (c, x), 0.0, length=-1), errors.ArgumentError, "length=-1"),
        (
            lambda: lax.scan(lambda c, x: (c, x), 0.0, {"a": fnp.ones(3), "b": fnp.ones(2)}),
            errors.ShapeError,
            r"3 steps from xs\['a'\], but xs\['b'\] has shape \(2,\)",
        ),
        (lambda: lax.scan(lambda c, x: (c, x), 0.0, fnp.ones(3), length=4), errors.ShapeError, "4 steps from length"),
        (lambda: lax.scan(lambda c, x: (c, x), 0.0, 1.0), errors.ShapeError, "xs is a scalar"),
        (
            lambda: lax.scan(lambda c, x: ({"a": c["a"][:1]}, x), {"a": fnp.ones(3)}, fnp.ones(3)),
            errors.ShapeError,
            r"scan carries at \['a'\] is float32\[3\] before .* and float32\[1\] after",
        ),
        (
            lambda: lax.scan(lambda c, x: (c * 1.5, x), fg.array(1), fnp.ones(3)),
            errors.DtypeError,
            r"int32\[\] before .* float32\[\] after",
        ),
        (
            lambda: lax.scan(lambda c, x: ((c, c), x), 1.0, fnp.ones(3)),
            errors.TreeError,
            "carried value that <?lambda>? returned",
        ),
        (lambda: lax.scan(None, 1.0, fnp.ones(3)), errors.ArgumentTypeError, "NoneType"),
        (lambda: lax.scan(lambda c, x: (c, x), "text", fnp.ones(3)), errors.ArgumentTypeError, "`init` of type str"),
        (
            lambda: lax.scan(lambda c, x: (c + 1 if x > 0 else c, x), 0, fnp.ones(3)),
            errors.TracedValueError,
            "while scan traces",
        ),
        (lambda: lax.map(lambda x: x, ()), errors.ArgumentError, "how many steps"),
        (lambda: lax.map(lambda x: x, fnp.ones(3), batch_size=0), errors.ArgumentError, "batch_size=0"),
        (
            lambda: lax.while_loop(lambda x: x, lambda x: x, fg.array(1)),
            errors.DtypeError,
            "must return a bool",
        ),
        (
            lambda: lax.while_loop(lambda x: x > 0, lambda x: x, fnp.ones(2)),
            errors.ShapeError,
            r"returned bool\[2\]",
        ),
        (
            lambda: lax.while_loop(lambda x: True, lambda x: (x, x), fg.array(1)),
            errors.TreeError,
            "returned to while_loop",
        ),
        (
            lambda: lax.while_loop(lambda x: x[0] > 0, lambda x: x * 0.5, fnp.ones(2, fg.int32)),
            errors.DtypeError,
            "while_loop carries is int32",
        ),
        (lambda: lax.fori_loop(0.0, 3, lambda i, x: x, 0), errors.ArgumentTypeError, "lower of fori_loop"),
        (
            lambda: lax.fori_loop(0, 3, lambda i, x: x[None], fg.array(1)),
            errors.ShapeError,
            "fori_loop carries is int32",
        ),
    ],
)
def test_mistakes_in_loops_are_explained_and_name_the_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert caught.value.source.file == __file__
    if error is not errors.TracedValueError:
        with pytest.raises(error, match=message):
            fg.jit(call)()


# while_loop and fori_loop


def collatz(n):
    """The number of steps to 1, carried as a pytree."""
    return lax.while_loop(
        lambda c: c["n"] != 1,
        lambda c: {"n": fnp.where(c["n"] % 2 == 0, c["n"] // 2, 3 * c["n"] + 1), "steps": c["steps"] + 1},
        {"n": n, "steps": 0},
    )["steps"]


def test_while_loop_runs_until_the_condition_is_false_under_jit_and_for_batches():
    expected = [0, 1, 7, 2, 5, 8, 16, 3]
    assert [collatz(fg.array(n)).item() for n in range(1, 9)] == expected
    assert fg.jit(collatz)(fg.array(7)).item() == 16
    for f in (fg.vmap(collatz), fg.jit(fg.vmap(collatz)), fg.vmap(fg.jit(collatz))):
        assert f(fnp.arange(1, 9)).tolist() == expected
    grid = fnp.arange(1, 9).reshape(2, 4)
    assert fg.vmap(fg.vmap(collatz))(grid).tolist() == [expected[:4], expected[4:]]
    assert fg.vmap(fg.vmap(collatz), in_axes=1)(grid).T.tolist() == [expected[:4], expected[4:]]
    assert fg.vmap(collatz)(fnp.zeros(0, fg.int32)).shape == (0,)


def newton(a):
    """The square root, by as many steps as it takes."""
    return lax.while_loop(lambda x: fnp.abs(x * x - a) > 1e-10 * a, lambda x: 0.5 * (x + a / x), a + 1.0)


def newton_in_python(a):
    x = a + 1.0
    while abs(float(x * x - a)) > 1e-10 * float(a):
        x = 0.5 * (x + a / x)
    return x


def test_while_loop_has_forward_derivatives_of_every_order():
    a = fg.array(2.0, dtype=fg.float64)
    for f in (newton, fg.jit(newton)):
        close(fg.jvp(f, (a,), (a,)), fg.jvp(newton_in_python, (a,), (a,)), rtol=1e-6)
        close(fg.jacfwd(f)(a), 0.5 / numpy.sqrt(2), rtol=1e-6)
        check_grads(f, (a,), order=2, modes=["fwd"])
    batch = fg.array([1.0, 2.0, 100.0], dtype=fg.float64)
    close(fg.vmap(fg.jacfwd(newton))(batch), 0.5 / numpy.sqrt(batch), rtol=1e-6)
    close(fg.jit(fg.vmap(fg.jacfwd(newton)))(batch), 0.5 / numpy.sqrt(batch), rtol=1e-6)
    close(fg.jvp(fg.vmap(newton), (batch,), (batch,))[1], 0.5 * numpy.sqrt(batch), rtol=1e-6)
    close(fg.linearize(newton, a)[1](a), 0.5 * numpy.sqrt(2), rtol=1e-6)


def test_tangents_may_reach_a_while_loop_through_its_constants_and_spread_step_by_step():
    def f(w, limit):
        def body(c):
            i, x, y, z = c
            return i + 1, x * 1.5, y + x + w, z * y

        start = (0, fg.array(1.0, dtype=fg.float64), fg.array(0.5, dtype=fg.float64), fg.array(1.0, dtype=fg.float64))
        return lax.while_loop(lambda c: c[2] < limit, body, start)[1:]

    def same(w, limit):
        x, y, z = fnp.ones((), fg.float64), fg.array(0.5, dtype=fg.float64), fnp.ones((), fg.float64)
        for _ in range(3):
            x, y, z = x * 1.5, y + x + w, z * y
        return x, y, z

    w, limit = fg.array(0.5, dtype=fg.float64), fg.array(5.0, dtype=fg.float64)
    close(f(w, limit), same(w, limit))
    close(fg.jvp(f, (w, limit), (w, limit)), fg.jvp(same, (w, limit), (w, limit)))
    close(fg.jacfwd(fg.jacfwd(f))(w, limit), fg.jacfwd(fg.jacfwd(same))(w, limit))
    limits = fg.array([0.1, 5.0, 3.0], dtype=fg.float64)
    close(fg.vmap(f, in_axes=(None, 0))(w, limits), stacked([f(w, x) for x in limits]))


def test_reverse_mode_through_a_while_loop_says_what_to_do_and_where():
    for f in (newton, fg.jit(newton)):
        with pytest.raises(errors.ArgumentTypeError, match=r"use fg\.lax\.scan, or fori_loop") as caught:
            fg.grad(f)(fg.array(2.0, dtype=fg.float64))
        assert "lax.while_loop(lambda x: fnp.abs" in str(caught.value)
    with pytest.raises(errors.ArgumentTypeError, match="backwards"):
        fg.grad(fg.jit(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * x, x)))(2.0, 3)


def test_reverse_mode_passes_a_while_loop_whose_result_it_does_not_need():
    def f(x):
        steps = lax.while_loop(lambda c: c[1] < 10.0, lambda c: (c[0] + 1, c[1] * x), (0, x))[0]
        return x * x * steps

    assert fg.grad(f)(fg.array(2.0)).item() == 2 * 2.0 * 3
    assert fg.jit(fg.grad(f))(fg.array(2.0)).item() == 2 * 2.0 * 3


def test_fori_loop_with_known_bounds_has_every_derivative():
    def f(x, w):
        return lax.fori_loop(1, 4, lambda i, c: (fnp.sin(c[0]) * i, c[1] + w * c[0]), (x, x))

    def same(x, w):
        y = x
        for i in range(1, 4):
            x, y = fnp.sin(x) * i, y + w * x
        return x, y

    check_transforms(f, same, array(2), array())
    assert lax.fori_loop(numpy.int64(2), fg.array(5), lambda i, c: c + i, 0).item() == 9


def test_fori_loop_with_traced_bounds_is_a_while_loop():
    f = fg.jit(lambda n, x: lax.fori_loop(0, n, lambda i, c: c * x + i, x))
    assert f(3, 2.0).item() == ((2.0 * 2 + 0) * 2 + 1) * 2 + 2
    bounds = fnp.arange(4)
    assert fg.vmap(lambda n: lax.fori_loop(0, n, lambda i, c: c + i, 0))(bounds).tolist() == [0, 0, 1, 3]
    assert fg.vmap(lambda n: lax.fori_loop(n, 4, lambda i, c: c + i, 0))(bounds).tolist() == [6, 6, 5, 3]
    close(fg.jvp(lambda x: f(3, x), (2.0,), (1.0,))[1], fg.grad(lambda x: ((x * x + 0) * x + 1) * x + 2)(2.0))


def test_loops_and_branches_nest_in_each_other():
    def f(x):
        def step(c, i):
            c = lax.cond(c.sum() > 0.0, lambda c: c - lax.fori_loop(0, 2, lambda j, d: d * c * 0.5, c), fnp.cos, c)
            return c, lax.switch(i, [fnp.sin, lambda c: c * c, lambda c: c * 0.0], c)

        return lax.scan(step, x, fnp.arange(3))

    def same(x):
        ys = []
        for i in range(3):
            x = fnp.where(x.sum() > 0.0, x - x * x * x * 0.25, fnp.cos(x))
            ys.append([fnp.sin, lambda c: c * c, lambda c: c * 0.0][i](x))
        return x, fnp.stack(ys)

    check_transforms(f, same, array(2))


# cond and switch


def branching(x, y):
    return lax.cond(
        x.sum() > 0.2,
        lambda x, y: {"a": fnp.sin(x) * y, "b": y},
        lambda x, y: {"a": x * x * fnp.exp(y) + x, "b": y * y},
        x,
        y,
    )


def branching_in_python(x, y):
    positive = x.sum() > 0.2
    return {
        "a": fnp.where(positive, fnp.sin(x) * y, x * x * fnp.exp(y) + x),
        "b": fnp.where(positive, y, y * y),
    }


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cond_does_what_if_does_under_every_transform(sign):
    check_transforms(branching, branching_in_python, sign * fg.array([0.3, 0.4], dtype=fg.float64), array(2))


def test_gradients_of_a_traced_cond_agree_with_finite_differences():
    for x in ([0.3, 0.4], [-0.3, -0.4]):
        check_grads(fg.jit(branching), (fg.array(x, dtype=fg.float64), array(2)), order=3)


def test_a_batched_predicate_under_every_order_of_transforms():
    def f(p, x):
        return lax.cond(p, lambda x: x**3, lambda x: fnp.sin(x) * 2.0, x)

    predicates = fg.array([True, False, True])
    x = array(3)
    expected = numpy.where(predicates, 3 * x**2, 2 * numpy.cos(x))
    second = numpy.where(predicates, 6 * x, -2 * numpy.sin(x))
    g = fg.grad(f, argnums=1)
    for h in (fg.vmap(g), fg.jit(fg.vmap(g)), fg.vmap(fg.jit(g)), fg.grad(lambda p, x: fg.vmap(f)(p, x).sum(), 1)):
        close(h(predicates, x), expected)
    close(fg.vmap(fg.grad(g, argnums=1))(predicates, x), second)
    close(fg.jit(fg.vmap(fg.jacfwd(g, argnums=1)))(predicates, x), second)
    close(fg.vmap(f, in_axes=(0, None))(predicates, x[0]), [f(p, x[0]) for p in predicates])
    close(fg.vmap(f, in_axes=(None, 0))(predicates[0], x), x**3)
    grid = fg.vmap(fg.vmap(f, in_axes=(None, 0)), in_axes=(0, None))(predicates, x)
    close(grid, stacked([fnp.where(p, x**3, fnp.sin(x) * 2.0) for p in predicates]))


def test_branches_close_over_different_tracers():
    def f(x, y, p):
        return lax.cond(p, lambda: x * x, lambda: y * x + fnp.exp(y))

    for p in (True, False):
        value = [x.item() for x in fg.grad(f, argnums=(0, 1))(2.0, 0.0, p)]
        assert value == ([4.0, 0.0] if p else [0.0, 3.0])
        for g in (fg.jit(fg.grad(f, argnums=(0, 1))), fg.grad(fg.jit(f), argnums=(0, 1))):
            assert [x.item() for x in g(2.0, 0.0, p)] == value


def test_with_a_known_predicate_only_the_chosen_branch_is_called():
    def never():
        raise AssertionError

    assert lax.cond(True, lambda: 1.0, never).item() == 1.0
    assert lax.cond(fg.array(0), never, lambda: 2.0).item() == 2.0
    assert lax.switch(1, [never, lambda: 3.0]).item() == 3.0
    assert fg.grad(lambda x: lax.cond(x > 0, lambda: x * x, never))(3.0).item() == 6.0
    assert fg.jit(lambda x: lax.cond(False, never, lambda: x))(3.0).item() == 3.0


def test_under_jit_one_branch_runs():
    ran = []

    def noting(name):
        def branch(x):
            fg.debug.callback(lambda _: ran.append(name), x)
            return x

        return branch

    f = fg.jit(lambda p, x: lax.cond(p, noting("yes"), noting("no"), x))
    f(True, 1.0), f(False, 1.0)
    assert ran == ["yes", "no"]


def test_switch_moves_an_index_from_outside_to_the_nearest_branch():
    branches = [lambda x: x, lambda x: x * 10.0, lambda x: -x]
    for f in (lax.switch, fg.jit(lambda i, bs, x: lax.switch(i, bs, x), static_argnums=1)):
        assert [f(i, tuple(branches), 2.0).item() for i in (-3, 0, 1, 2, 7)] == [2.0, 2.0, 20.0, -2.0, -2.0]
    assert fg.vmap(lambda i: lax.switch(i, branches, 2.0))(fnp.arange(-1, 4)).tolist() == [2.0, 2.0, 20.0, -2.0, -2.0]
    assert fg.jit(lambda i: lax.switch(i, [lambda: 4.0]))(9).item() == 4.0
    close(
        fg.vmap(fg.grad(lambda x, i: lax.switch(i, branches, x)), in_axes=(None, 0))(2.0, fnp.arange(3)),
        [1.0, 10.0, -1.0],
    )


def test_python_scalars_of_branches_take_the_dtype_of_the_other_branch():
    f = fg.jit(lambda p, x: lax.cond(p, lambda: 0, lambda: x))
    assert f(True, fg.array(2.0, dtype=fg.float64)).dtype == fg.float64
    assert f(False, fg.array(2.0, dtype=fg.float64)).item() == 2.0
    assert fg.jit(lambda p: lax.cond(p, lambda: 1, lambda: 2))(True).weak_type


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: lax.cond(fg.array([True, p]), int, int), errors.ShapeError, r"shape \(2,\)"),
        (lambda p: lax.cond(p, 1.0, lambda x: x), errors.ArgumentTypeError, "float as true_fun"),
        (
            lambda p: lax.cond(p, lambda: {"a": fnp.ones(2)}, lambda: {"a": fnp.ones(3)}),
            errors.ShapeError,
            r"result \['a'\]: float32\[3\] and float32\[2\]",
        ),
        (
            lambda p: lax.cond(p, lambda: fnp.ones(2), lambda: fnp.ones(2, fg.int32)),
            errors.DtypeError,
            r"int32\[2\] and float32\[2\]",
        ),
        (lambda p: lax.cond(p, lambda: (1, 2), lambda: 1), errors.TreeError, "branch"),
        (lambda p: lax.switch(p, [lambda: 1]), errors.DtypeError, "must be an integer"),
        (lambda p: lax.switch(fnp.arange(2), [lambda: 1]), errors.ShapeError, r"\(2,\)"),
        (lambda p: lax.switch(0, []), errors.ArgumentError, "at least one branch"),
        (lambda p: lax.cond(p, lambda x: x, lambda x: x, "text"), errors.ArgumentTypeError, "cond got .* of type str"),
    ],
)
def test_mistakes_in_branches_are_explained_and_name_the_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        fg.jit(call)(True)
    assert caught.value.source.file == __file__


# checkpoint


def counted():
    """An operation like sin that counts how often it is computed."""
    count = [0]

    def evaluate(x):
        count[0] += 1
        return numpy.sin(x)

    primitive = Primitive("counted", abstract=lambda x: x.aval, evaluate=evaluate)
    primitive.jvp = lambda primals, tangents: (primitive(*primals), tangents[0] * fnp.cos(primals[0]))
    primitive.batch = lambda size, operands, axes: (primitive(*operands), axes[0])
    return primitive, count


def layers(x, w):
    return fnp.sin(fnp.exp(fnp.tanh(x @ w)) * x)


def test_a_checkpointed_function_has_the_same_results_and_derivatives():
    for f in (
        fg.checkpoint(layers),
        fg.remat(fg.jit(layers)),
        fg.checkpoint(layers, policy=fg.checkpoint_policies.dots_saveable),
        fg.checkpoint(fg.jit(layers), policy=fg.checkpoint_policies.dots_with_no_batch_dims_saveable),
        fg.checkpoint(layers, policy=fg.checkpoint_policies.everything_saveable),
        fg.checkpoint(layers, policy=fg.checkpoint_policies.nothing_saveable, prevent_cse=False),
    ):
        check_transforms(f, layers, array(2), array(2, 2))
    check_grads(fg.checkpoint(layers), (array(2), array(2, 2)), order=3)


def test_the_gradient_of_a_checkpointed_function_computes_again():
    sin, count = counted()
    x = array(3)

    def f(x):
        return sin(sin(sin(x)))

    def evaluations(function):
        count[0] = 0
        fg.grad(lambda x: function(x).sum())(x)
        return count[0]

    assert evaluations(f) == 3
    # The derivative of the last one needs its argument only.
    assert evaluations(fg.checkpoint(f)) == 3 + 2
    assert evaluations(fg.checkpoint(f, policy=fg.checkpoint_policies.everything_saveable)) == 3
    count[0] = 0
    fg.checkpoint(f)(x)
    assert count[0] == 3


def kept(f, *args):
    """The number of elements that the derivative of `f` keeps from the forward pass."""
    sizes = {}
    for equation in fg.linearize(f, *args)[1].program.equations:
        for x in equation.operands:
            if isinstance(x, fg.Array) and x.ndim:
                sizes[id(x)] = x.size
    return sum(sizes.values())


def test_policies_choose_what_is_kept():
    x, w = array(10), array(10, 10)
    policies = fg.checkpoint_policies

    def f(x, w):
        y = fg.checkpoint_name(fnp.tanh(fnp.dot(x, w)), "hidden")
        return fnp.sin(fnp.exp(fg.checkpoint_name(fnp.cos(y * y), "late")))

    def size(policy):
        return kept(fg.checkpoint(f, policy=policy), x, w)

    everything, nothing = kept(f, x, w), size(None)
    assert nothing == size(policies.nothing_saveable) == x.size + w.size < everything
    assert size(policies.dots_saveable) == size(policies.checkpoint_dots) == nothing + 10
    assert size(policies.dots_with_no_batch_dims_saveable) == nothing + 10
    assert size(policies.save_only_these_names("hidden")) == nothing + 10
    assert size(policies.save_only_these_names("hidden", "late")) == nothing + 20
    assert size(policies.save_any_names_but_these("late")) == nothing + 10
    assert size(policies.save_from_both_policies(policies.dots_saveable, policies.save_only_these_names("late"))) == (
        nothing + 20
    )
    assert size(policies.save_anything_except_these_names("late")) > nothing + 20
    assert nothing < size(policies.everything_saveable) <= everything + nothing


def test_a_checkpointed_step_lets_scan_keep_what_it_carries_and_no_more():
    w = array(3, 3)

    def step(c, x):
        c = fnp.tanh(fnp.sin(fnp.exp(w @ c)) + x)
        return c, None

    def loss(step):
        return lambda c, xs: lax.scan(step, c, xs)[0].sum()

    c, xs = array(3), array(50, 3)
    close(fg.grad(loss(fg.checkpoint(step)), (0, 1))(c, xs), fg.grad(loss(step), (0, 1))(c, xs))
    assert kept(loss(fg.checkpoint(step)), c, xs) <= 2 * 150 + 20 < kept(loss(step), c, xs)


def test_checkpoint_takes_static_and_keyword_arguments_and_decorates():
    @fg.checkpoint(static_argnums=1)
    def f(x, n, *, scale):
        return fg.tree.map(lambda y: scale * y**n, x)

    assert fg.grad(lambda x: f({"a": x}, 3, scale=2.0)["a"])(2.0).item() == 24.0
    assert f({"a": fg.array(2.0)}, 2, scale=1.0)["a"].item() == 4.0
    with pytest.raises(errors.ArgumentError, match="needs functions"):
        fg.checkpoint(3)


def test_effects_in_a_checkpointed_function_happen_once():
    seen = []

    @fg.checkpoint
    def f(x):
        y = fnp.sin(x)
        fg.debug.callback(lambda value: seen.append("debug"), y)
        noise = fg.io_callback(lambda: (seen.append("io"), numpy.float32(2.0))[1], fg.ShapeDtypeStruct((), fg.float32))
        return fnp.sin(y * noise)

    fg.grad(f)(1.0)
    fg.jit(fg.grad(f))(1.0)
    assert seen == ["debug", "io"] * 2


# callbacks


def host_sin(x):
    assert isinstance(x, numpy.ndarray) and not x.flags.writeable
    return numpy.sin(x)


def on_host(x, vmap_method="sequential"):
    return fg.pure_callback(host_sin, fg.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method=vmap_method)


def test_pure_callback_calls_a_numpy_function_under_jit_vmap_and_loops():
    x = array(3, 2)
    close(on_host(x), numpy.sin(x))
    close(fg.jit(on_host)(x), numpy.sin(x))
    for method in ("sequential", "expand_dims", "broadcast_all"):

        def f(x, method=method):
            return on_host(x, method)

        for g in (fg.vmap(f), fg.jit(fg.vmap(f)), fg.vmap(fg.vmap(f)), fg.vmap(f, in_axes=1, out_axes=1)):
            close(g(x), numpy.sin(x))
    close(lax.map(on_host, x), numpy.sin(x))
    close(lax.while_loop(lambda x: x[0, 0] < -2.0, on_host, x), x)


def test_the_methods_of_pure_callback_for_batches_differ_in_what_the_function_gets():
    shapes = []

    def add(x, y):
        shapes.append((x.shape, y.shape))
        return numpy.add(x, y)

    def f(x, y, method):
        return fg.pure_callback(add, fg.ShapeDtypeStruct((), fg.float32), x, y, vmap_method=method)

    for method in ("expand_dims", "broadcast_all", "sequential"):
        result = fg.vmap(lambda x, method=method: f(x, 1.0, method))(fnp.arange(3.0))
        assert result.tolist() == [1.0, 2.0, 3.0]
    assert shapes == [((3,), (1,)), ((3,), (3,)), *[((), ())] * 3]


def test_pure_callback_is_differentiated_by_a_rule_of_the_users():
    with pytest.raises(errors.MissingRuleError, match=r"host_sin is not known; .* fg\.custom_jvp") as caught:
        fg.grad(on_host)(fg.array(1.0))
    assert caught.value.source.file == __file__

    @fg.custom_jvp
    def sin(x):
        return on_host(x)

    sin.defjvp(lambda primals, tangents: (sin(*primals), tangents[0] * fnp.cos(primals[0])))
    close(fg.grad(sin)(fg.array(1.0)), numpy.cos(1.0), rtol=1e-6)
    close(fg.jit(fg.vmap(fg.grad(sin)))(fnp.ones(3)), numpy.cos(numpy.ones(3)), rtol=1e-6)

    def ranked(x):  # an integer result has no derivative, and needs none
        order = fg.pure_callback(lambda x: numpy.argsort(x), fg.ShapeDtypeStruct(x.shape, fg.int32), x)
        return x[order] * fnp.arange(3)

    close(fg.grad(lambda x: ranked(x).sum())(fg.array([3.0, 1.0, 2.0])), [2.0, 0.0, 1.0])


def test_callbacks_give_and_take_pytrees_and_keep_their_results():
    buffer = numpy.zeros(2)

    def fill(*, x):
        buffer[:] = x["a"]
        return {"b": buffer, "c": (1, True)}

    shapes = {
        "b": fg.ShapeDtypeStruct((2,), fg.float32),
        "c": (fg.ShapeDtypeStruct((), fg.int32), fg.ShapeDtypeStruct((), bool)),
    }
    first = fg.pure_callback(fill, shapes, x={"a": fg.array(1.0)})
    fg.pure_callback(fill, shapes, x={"a": fg.array(2.0)})
    assert first["b"].tolist() == [1.0, 1.0] and first["c"][0].item() == 1 and first["b"].dtype == fg.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f(lambda: 1.0, fg.ShapeDtypeStruct((2,), fg.float32)), errors.ShapeError, r"float32\[2\] was decl"),
        (lambda f: f(lambda: 1.5, fg.ShapeDtypeStruct((), fg.int32)), errors.DtypeError, r"int32\[\] was declared"),
        (lambda f: f(lambda: (1, 2), fg.ShapeDtypeStruct((), fg.int32)), errors.TreeError, "callback"),
        (lambda f: f(lambda: 1.0, 2.0), errors.ArgumentTypeError, "shapes and dtypes"),
        (lambda f: f(3, None), errors.ArgumentTypeError, "needs a function"),
        (lambda f: f(lambda x: x, None, "text"), errors.ArgumentTypeError, "of type str"),
    ],
)
def test_mistakes_with_callbacks_are_explained(call, error, message):
    for f in (fg.pure_callback, fg.io_callback):
        with pytest.raises(error, match=message):
            call(f)
        with pytest.raises(error, match=message):
            fg.jit(lambda f=f: call(f))()


def test_other_mistakes_with_callbacks():
    with pytest.raises(errors.ArgumentError, match="choose one of sequential"):
        on_host(fg.array(1.0), vmap_method="magic")
    with pytest.raises(ZeroDivisionError):
        fg.jit(lambda x: fg.pure_callback(lambda x: 1 / 0, fg.ShapeDtypeStruct((), fg.float32), x))(1.0)
    with pytest.raises(errors.ArgumentTypeError, match=r"debug\.callback needs a function"):
        fg.debug.callback("text")


def test_io_callback_runs_in_order_once_for_each_example_and_step():
    seen = []

    def note(x):
        seen.append(float(x))
        return numpy.float32(len(seen))

    def f(x):
        count = fg.io_callback(note, fg.ShapeDtypeStruct((), fg.float32), x, ordered=True)
        fg.io_callback(note, fg.ShapeDtypeStruct((), fg.float32), x + 0.5)
        return count

    assert f(fg.array(1.0)).item() == 1.0
    assert fg.jit(f)(2.0).item() == 3.0
    assert seen == [1.0, 1.5, 2.0, 2.5]
    seen.clear()
    assert lax.scan(lambda c, x: (c, f(x)), 0, fnp.arange(3.0))[1].tolist() == [1.0, 3.0, 5.0]
    assert seen == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    seen.clear()
    fg.vmap(f)(fnp.arange(2.0))
    assert seen == [0.0, 1.0, 0.5, 1.5]  # each of the two operations for all examples
    with pytest.raises(errors.MissingRuleError, match="io_callback cannot be differentiated"):
        fg.grad(f)(1.0)
    assert fg.grad(lambda x: (fg.io_callback(lambda x: None, None, x), x * x)[1])(3.0).item() == 6.0


def test_callbacks_in_loops_happen_in_every_step_though_nothing_changes():
    seen = []

    def f(w, x):
        def step(c, _):
            fg.debug.callback(lambda w: seen.append(float(w)), w)
            return c * fnp.exp(w), None

        return lax.scan(step, x, None, length=3)[0]

    fg.grad(f, argnums=(0, 1))(2.0, 1.0)
    assert seen == [2.0] * 3
    fg.jit(fg.grad(f))(2.0, 1.0)
    assert seen == [2.0] * 6


def test_debug_print_shows_values_under_every_transform(capsys):
    def f(x):
        fg.debug.print("x = {x}, {} {:.2f}", "text", x, x=x)
        return x * x

    for run, expected in [
        (lambda: f(fg.array(2.0)), "x = 2.0, text 2.00\n"),
        (lambda: fg.jit(f)(2.0), "x = 2.0, text 2.00\n"),
        (lambda: fg.grad(f)(2.0), "x = 2.0, text 2.00\n"),
        (lambda: fg.jit(fg.grad(f))(2.0), "x = 2.0, text 2.00\n"),
        (lambda: fg.grad(fg.jit(f))(2.0), "x = 2.0, text 2.00\n"),
        (lambda: fg.jvp(f, (2.0,), (1.0,)), "x = 2.0, text 2.00\n"),
        (lambda: fg.vmap(f)(fnp.arange(2.0)), "x = 0.0, text 0.00\nx = 1.0, text 1.00\n"),
        (lambda: fg.jit(fg.vmap(fg.grad(f)))(fnp.arange(2.0)), "x = 0.0, text 0.00\nx = 1.0, text 1.00\n"),
    ]:
        run()
        assert capsys.readouterr().out == expected
    fg.debug.print("{0} {0} {a[1]} {b:{width}d}|", fg.array([1, 2]), a=(1, fg.array(2)), b=fg.array(3), width=4)
    assert capsys.readouterr().out == "[1 2] [1 2] 2    3|\n"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.debug.print("x =", 1), "no place for the argument 0"),
        (lambda: fg.debug.print("{x}", y=1, x=1), "no place for the argument y"),
        (lambda: fg.debug.print("{x} {}", x=1), "no argument for its place 0"),
    ],
)
def test_debug_print_says_what_does_not_fit(call, message):
    with pytest.raises(errors.ArgumentError, match=message):
        call()


# How programs with control flow look and check


def test_programs_inside_of_programs_are_printed_and_well_typed():
    def f(x):
        x = lax.cond(x > 0, lambda: x, lambda: -x)
        x = lax.while_loop(lambda c: c < 10, lambda c: c * 2, x)
        return lax.scan(lambda c, y: (c * y, c), x, fnp.ones(3))

    program = fg.make_program(f)(fg.array(1.0))
    text = str(program)
    assert text.count("where lambda(") == 5 and "branches=(lambda,lambda)" in text
    for transformed in (f, fg.vmap(f), lambda x: fg.jvp(f, (x,), (x,))):
        argument = fnp.ones(2) if transformed is not f and transformed.__name__ == "f" else fg.array(1.0)
        fg.make_program(transformed)(argument).check()
    reverse = fg.make_program(fg.grad(lambda x: lax.scan(lambda c, y: (c * y, c), x, fnp.ones(3))[0]))(2.0)
    reverse.check()
    assert [e.primitive.name for e in equations_of(reverse)].count("scan") == 2


def test_an_equation_knows_whether_something_inside_of_it_has_effects():
    def quiet(x):
        return lax.scan(lambda c, _: (c * 2, None), x, None, length=2)[0]

    def loud(x):
        return lax.scan(lambda c, _: (c * 2, fg.debug.print("{}", c)), x, None, length=2)[0]

    assert [fg.make_program(f)(1.0).equations[-1].has_effects for f in (quiet, loud)] == [False, True]
