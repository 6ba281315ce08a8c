"""Learn to balance a pole on a cart, by policy gradients.

    python examples/cart_pole.py

The environment is a pure function of its state and an action, so that `vmap` plays many games at once and `scan` plays
them to the end, all in one compiled step. The agent pushes the cart to the left or to the right, and gets a point for
each moment in which the pole stands and the cart is on its track. It learns by REINFORCE: what it did is made more
probable when more points followed than in the other games at that time. The learning curve, some games, a log and the
parameters are left in runs/cart_pole.

Source of the environment: A. Barto, R. Sutton and C. Anderson, https://doi.org/10.1109/TSMC.1983.6313077; of the
method: R. Williams, https://doi.org/10.1007/BF00992696.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy

import funcgrad as fg
import funcgrad.numpy as np
from funcgrad import nn

QUICK = os.environ.get("FUNCGRAD_EXAMPLES_QUICK") == "1"
UPDATES = 50 if QUICK else 150
GAMES, MOMENTS = 64, 200
DISCOUNT = 0.98
FLOOR = 150 if QUICK else 190  # moments in the mean, of 200; pushing at random gives about 22
FOLDER = Path("runs/cart_pole")

optimizer = fg.optim.chain(fg.optim.clip_by_global_norm(1.0), fg.optim.adam(2e-2 if QUICK else 1e-2))


# The environment: masses in kilograms, lengths in metres, times in seconds.

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH, FORCE, INTERVAL = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
LARGEST_POSITION, LARGEST_ANGLE = 2.4, 12 * math.pi / 180


class State(NamedTuple):
    """Where the cart is and how the pole leans, and how fast both change."""

    position: fg.Array
    velocity: fg.Array
    angle: fg.Array
    angular_velocity: fg.Array


def initial_state(key):
    return State(*fg.random.uniform(key, (4,), minval=-0.05, maxval=0.05))


def next_state(state, action):
    """The state after a push to the left (0) or right (1)."""
    force = np.where(action == 1, FORCE, -FORCE)
    sine, cosine = np.sin(state.angle), np.cos(state.angle)
    mass = CART_MASS + POLE_MASS
    push = (force + POLE_MASS * HALF_LENGTH * state.angular_velocity**2 * sine) / mass
    inertia = HALF_LENGTH * (4 / 3 - POLE_MASS * cosine**2 / mass)
    angular_acceleration = (GRAVITY * sine - cosine * push) / inertia
    acceleration = push - POLE_MASS * HALF_LENGTH * angular_acceleration * cosine / mass
    return State(
        state.position + INTERVAL * state.velocity,
        state.velocity + INTERVAL * acceleration,
        state.angle + INTERVAL * state.angular_velocity,
        state.angular_velocity + INTERVAL * angular_acceleration,
    )


def is_standing(state):
    return (abs(state.position) < LARGEST_POSITION) & (abs(state.angle) < LARGEST_ANGLE)


# The games


def play(policy, key):
    """One game: what the agent saw and did in each moment, and whether the game still went on."""
    start_key, key = fg.random.split(key)

    def moment(carry, key):
        state, goes_on = carry
        seen = np.stack(state)
        action = fg.random.categorical(key, policy(seen))
        after = next_state(state, action)
        # A game that is over stays where it is.
        after = fg.tree.map(lambda new, old: np.where(goes_on, new, old), after, state)
        return (after, goes_on & is_standing(after)), (seen, action, goes_on)

    start = initial_state(start_key), np.asarray(True)
    return fg.lax.scan(moment, start, fg.random.split(key, MOMENTS))[1]


def returns_of(goes_on):
    """The points that are still to come in each moment, those far away counting less; of shape (MOMENTS, GAMES)."""

    def moment(later, points):
        now = points + DISCOUNT * later
        return now, now

    points = goes_on.astype(np.float32)
    return fg.lax.scan(moment, np.zeros(points.shape[1:]), points, reverse=True)[1]


def loss(policy, seen, actions, goes_on, advantages):
    log_probabilities = nn.log_softmax(policy(seen))
    chosen = np.take_along_axis(log_probabilities, actions[..., None], axis=-1)[..., 0]
    return -(chosen * advantages * goes_on).sum() / goes_on.sum()


@fg.jit
def train_step(policy, state, key):
    """Plays many games, and makes the policy better; gives how long the games were, too."""
    seen, actions, goes_on = fg.vmap(play, in_axes=(None, 0), out_axes=1)(policy, fg.random.split(key, GAMES))
    returns = returns_of(goes_on)
    advantages = returns - returns.mean(axis=1, keepdims=True)
    advantages = advantages / (advantages.std() + 1e-6)
    gradient = fg.grad(loss)(policy, seen, actions, goes_on, advantages)
    updates, state = optimizer.update(gradient, state, policy)
    return fg.optim.apply_updates(policy, updates), state, goes_on.sum(axis=0)


@fg.jit
def replay(policy, key):
    """Games of the best action at each time: how long each was, and the angles of the pole."""
    best = lambda seen: 1e3 * policy(seen)
    seen, _, goes_on = fg.vmap(lambda key: play(best, key), out_axes=1)(fg.random.split(key, GAMES))
    return goes_on.sum(axis=0), np.where(goes_on, seen[..., 2], float("nan"))


def train(policy, key):
    state, history = optimizer.init(policy), []
    start = time.perf_counter()
    for update in range(1, UPDATES + 1):
        key, step_key = fg.random.split(key)
        policy, state, lengths = train_step(policy, state, step_key)
        history.append(float(lengths.mean()))
        if update % (UPDATES // 10) == 0:
            done = 24 * update // UPDATES
            bar, passed = "#" * done + "." * (24 - done), time.perf_counter() - start
            values = f"stands for {history[-1]:5.1f} moments in the mean"
            print(f"  update {update:3d}/{UPDATES} [{bar}]  {values}, {passed:.0f} s", flush=True)
    return policy, history


def save_results(policy, history, angles):
    import matplotlib

    matplotlib.use("agg")  # draws into a file; needs no screen
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(history)
    left.set(xlabel="update", ylabel="moments", title="How long the pole stands")
    left.grid(alpha=0.3)
    right.plot(numpy.degrees(numpy.asarray(angles)[:, :8]), alpha=0.7)
    right.set(xlabel="moment", ylabel="angle of the pole, degrees", title="Eight games after training")
    right.grid(alpha=0.3)
    figure.savefig(FOLDER / "cart_pole.png", dpi=120)
    pyplot.close(figure)
    with open(FOLDER / "log.csv", "w", newline="") as file:
        csv.writer(file).writerows([("update", "moments"), *enumerate(history, start=1)])
    fg.checkpoints.save(FOLDER / "policy.safetensors", policy, step=UPDATES)


def main(seed=0):
    FOLDER.mkdir(parents=True, exist_ok=True)
    policy_key, training_key, test_key = fg.random.split(fg.random.key(seed), 3)
    policy = nn.MLP(4, 2, width=32, depth=1, activation=nn.tanh, key=policy_key)
    print(f"Learning from {GAMES} games at a time, of at most {MOMENTS} moments:")
    policy, history = train(policy, training_key)

    lengths, angles = replay(policy, test_key)
    result = float(lengths.mean())
    print(f"\nIn {GAMES} new games the pole stands for {result:.1f} of {MOMENTS} moments in the mean.")
    save_results(policy, history, angles)
    print(f"The learning curve, some games, a log and the policy are in {FOLDER}")

    assert result >= FLOOR, f"expected at least {FLOOR} moments, and got {result:.1f}"
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Learn to balance a pole on a cart.")
    parser.add_argument("--seed", type=int, default=0, help="of the initial policy and the games")
    main(parser.parse_args().seed)
