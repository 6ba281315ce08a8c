"""The smallest network that learns something: one input, ten hidden units, one output, and the identity as its task.

    python examples/first_network.py

Everything that happens is visible: a network is a value, its gradient is a value of the same shape, and a step of
training gives a new network.
"""

import funcgrad as fg
import funcgrad.numpy as np

STEPS = 1000
BATCH_SIZE = 32

optimizer = fg.optim.sgd(learning_rate=0.1)


def loss(network, x):
    return fg.losses.mean_squared_error(network(x), x)  # the right answer for x is x itself


@fg.jit
def step(network, state, x):
    value, gradient = fg.value_and_grad(loss)(network, x)
    updates, state = optimizer.update(gradient, state, network)
    return fg.optim.apply_updates(network, updates), state, value


def train(seed):
    network_key, data_key = fg.random.split(fg.random.key(seed))
    network = fg.nn.MLP(in_size=1, out_size=1, width=10, depth=1, activation=fg.nn.relu, key=network_key)
    state = optimizer.init(network)
    for count in range(STEPS):
        x = fg.random.uniform(fg.random.fold_in(data_key, count), (BATCH_SIZE, 1))
        network, state, value = step(network, state, x)
        if count + 1 in (1, 10, 100, STEPS):
            print(f"  step {count + 1:4d}  loss {float(value):.6f}")
    return network


def main(seed=0):
    print("Learning the identity:")
    network = train(seed)
    prediction = float(network(np.array([0.9]))[0])
    print(f"The network's answer for 0.9 is {prediction:.3f}")
    assert abs(prediction - 0.9) < 0.02
    return prediction


if __name__ == "__main__":
    main()
