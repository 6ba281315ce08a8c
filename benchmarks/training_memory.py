"""How much memory a training step takes: `python -m benchmarks.training_memory`, from the root of the repository.

Each way of taking the step of a transformer runs in a process of its own, after another one that compiled it. What is
printed is the most memory that the process held in three steps, beyond what it held with parameters, optimizer state
and data (`benchmarks/memory.py`; Linux), and what the compiler planned for the values between operations.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import funcgrad as fg
from benchmarks.memory import PeakMemory
from benchmarks.processes import REPOSITORY, clean_environment

BLOCKS, WIDTH, HEADS, TEXTS, LENGTH = 6, 128, 4, 16, 128

dots_saveable = fg.checkpoint_policies.dots_saveable


def rematerialized(policy: Any = None) -> Callable[[Any], Any]:
    """A transformer each of whose blocks keeps its inputs only, and what the policy allows."""
    wrap = lambda blocks: tuple(fg.nn.Remat(block, policy=policy) for block in blocks)
    return lambda network: fg.nn.tree_at(lambda network: network.blocks, network, replace_fn=wrap)


# For each way: what is made of the network, the dtype that is computed in, and whether the state is donated.
WAYS: dict[str, tuple[Callable[[Any], Any], str, bool]] = {
    "as it is": (lambda network: network, "float32", False),
    "with donated state": (lambda network: network, "float32", True),
    "in bfloat16": (lambda network: network, "bfloat16", False),
    "`Remat`, products kept": (rematerialized(dots_saveable), "float32", False),
    "`Remat`": (rematerialized(), "float32", False),
    "`Remat`, in bfloat16, with donated state": (rematerialized(), "bfloat16", True),
}


def measure(way: str) -> None:
    """Takes three steps in this process, and prints how much memory they took."""
    change, dtype, donated = WAYS[way]
    keys = fg.random.split(fg.random.key(0))
    network = change(fg.nn.TransformerEncoder(BLOCKS, WIDTH, num_heads=HEADS, causal=True, key=keys[0]))
    x = fg.random.normal(keys[1], (TEXTS, LENGTH, WIDTH))
    optimizer = fg.optim.adam(1e-3)
    policy = fg.nn.amp.Policy(compute_dtype=dtype)

    def loss(network: Any) -> Any:
        return (policy.apply(network, x) ** 2).mean()

    def step(network: Any, state: Any) -> Any:
        value, gradient = fg.value_and_grad(loss)(network)
        updates, state = optimizer.update(gradient, state, network)
        return fg.optim.apply_updates(network, updates), state, value

    compiled = fg.jit(step, donate_argnums=(0, 1) if donated else ())
    state = optimizer.init(network)
    # Tracing and compiling take memory for a moment, which is no part of a step.
    planned = compiled.lower(network, state).memory_plan.arena_bytes
    memory = PeakMemory()
    memory.start()
    for _ in range(3):
        network, state, value = compiled(network, state)
        float(value)
    print(f"{(memory.peak() or 0) / 2**20:5.0f} MiB, {planned / 2**20:5.0f} MiB planned between operations")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory(prefix="funcgrad-benchmark-") as folder:
            environment = clean_environment(folder)
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.training_memory", way]
                for _ in range(2):
                    process = subprocess.run(
                        command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True
                    )
                print(f"{way:42}{process.stdout.strip()}", flush=True)
