"""Transforms compose: three things that take one line each, checked against formulas.

    python examples/compose.py

A transform takes a function and gives a function. So the result of one can be the argument of another.
"""

import funcgrad as fg
import funcgrad.numpy as np


def compare(what, found, formula):
    """Print the largest difference between a result and its formula, and insist that it is small."""
    difference = float(np.max(np.abs(found - formula)))
    print(f"  largest difference from {what}: {difference:.1e}")
    assert found.shape == formula.shape
    assert difference < 1e-5


def per_example_gradients():
    """vmap(grad(f)): the gradient of every example's loss, not only that of their sum."""
    key_x, key_y, key_w = fg.random.split(fg.random.key(0), 3)
    x, y = fg.random.normal(key_x, (4, 3)), fg.random.normal(key_y, (4,))
    w = fg.random.normal(key_w, (3,))

    def loss(w, x, y):  # of one example
        return (w @ x - y) ** 2

    gradients = fg.vmap(fg.grad(loss), in_axes=(None, 0, 0))(w, x, y)

    print("1. Gradients of (w.x - y)^2, one row an example:  vmap(grad(loss), in_axes=(None, 0, 0))(w, x, y)\n")
    print(np.round(gradients, 3), "\n")
    compare("2 (w.x - y) x", gradients, 2 * (x @ w - y)[:, None] * x)


def hessian():
    """jacfwd(jacrev(f)): the matrix of second derivatives, forward mode over reverse mode."""
    key_x, key_y, key_w = fg.random.split(fg.random.key(1), 3)
    x = fg.random.normal(key_x, (100, 3))
    y = fg.random.bernoulli(key_y, 0.5, (100,))
    w = fg.random.normal(key_w, (3,))

    def loss(w):  # logistic regression
        return np.mean(np.where(y, fg.nn.softplus(-(x @ w)), fg.nn.softplus(x @ w)))

    matrix = fg.jacfwd(fg.jacrev(loss))(w)

    print("\n2. The Hessian of logistic regression:  jacfwd(jacrev(loss))(w)\n")
    print(np.round(matrix, 3), "\n")
    p = fg.nn.sigmoid(x @ w)
    compare("X' diag(p (1 - p)) X / n", matrix, x.T @ ((p * (1 - p))[:, None] * x) / len(x))


def hessian_vector_product():
    """jvp of grad(f): the Hessian times a vector, for as many variables as you like, without the matrix."""
    size = 100_000
    key_x, key_v = fg.random.split(fg.random.key(2))
    x, v = fg.random.normal(key_x, (size,)), fg.random.normal(key_v, (size,))

    gradient, product = fg.jvp(fg.grad(fg.nn.logsumexp), (x,), (v,))

    print(f"\n3. The Hessian of logsumexp in {size:,} variables, times a vector:  jvp(grad(logsumexp), (x,), (v,))\n")
    print(f"  the matrix has {4 * size**2 / 1e9:.0f} GB, its product with a vector {product.nbytes / 1e6} MB\n")
    p = fg.nn.softmax(x)
    compare("softmax(x), the gradient", gradient * size, p * size)
    compare("p v - p (p.v), the product", product * size, (p * v - p * (p @ v)) * size)


def main():
    per_example_gradients()
    hessian()
    hessian_vector_product()


if __name__ == "__main__":
    main()
