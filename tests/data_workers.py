"""Datasets for the tests of worker processes, which import this module and so should not have to import pytest."""

from __future__ import annotations

import os
import signal
import time

import numpy

import funcgrad as fg


class Squares:
    def __init__(self, length=20):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {"x": index, "y": float(index) ** 2}


class Large(Squares):
    """Examples large enough for batches that do not go through the connection."""

    def __getitem__(self, index):
        return numpy.full((100, 100), index, numpy.float32)


class Failing(Squares):
    def __getitem__(self, index):
        if index == 5:
            return find(index)
        return index


def find(index):
    raise FileNotFoundError(f"no file {index}")


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


class FailingOddly(Squares):
    def __getitem__(self, index):
        raise Unpicklable("an odd exception", 2)


class Uneven(Squares):
    def __getitem__(self, index):
        return numpy.zeros(2 if index == 6 else 3)


class Dying(Squares):
    def __getitem__(self, index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Leaving(Squares):
    def __getitem__(self, index):
        os._exit(3)


class Slow(Squares):
    def __getitem__(self, index):
        time.sleep(0.05)
        return index


class Sleeping(Squares):
    def __getitem__(self, index):
        if index >= 2:
            time.sleep(600)
        return index


class NotInWorkers(Squares):
    def __setstate__(self, state):
        raise OSError("the disk is not there")


class Writing(Squares):
    """Its arrays are written into by whoever has them."""

    def __init__(self):
        super().__init__(4)
        self.values = numpy.zeros((4, 10_000))

    def __getitem__(self, index):
        self.values += 1
        return self.values[index, 0]


def add_noise(key, example):
    return {**example, "y": example["y"] + fg.random.normal(key)}


def times_ten(example):
    return {**example, "y": 10 * example["y"]}


def as_list(examples):
    return [example["x"] for example in examples]


def wait_for_ever(kind):
    """A program that waits for a batch for ever; it prints its worker processes before."""
    loader = fg.data.DataLoader(Sleeping(), 2, workers=2, worker_kind=kind)
    batches = iter(loader)
    next(batches)
    print(*(loader._pool.pids if kind == "process" else []), flush=True)
    next(batches)
