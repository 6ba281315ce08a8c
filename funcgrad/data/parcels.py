"""Parcels: objects on their way from one process to another.

A small object goes through the connection. The arrays of a large one are written into an anonymous file in memory, of
which the connection carries only the descriptor, and the receiver maps that file: nothing is copied there, nothing has
a name that could be left behind, and the memory is free when the last array that uses it is. One parcel can be sent to
many processes, which then share its memory.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

INLINE = 16 * 1024  # bytes; so short a message fits into the buffer of a connection, and sending it never waits
ALIGNMENT = 64


class Parcel:
    """An object, packed.

    Arguments:
        value: what can be pickled.
    """

    def __init__(self, value: Any):
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        pieces = [buffer.raw() for buffer in buffers]
        self._file = None
        if len(body) + sum(piece.nbytes for piece in pieces) <= INLINE or not hasattr(os, "memfd_create"):
            self._head: Any = (body, [bytearray(piece) for piece in pieces])  # so that arrays can be written into
            return
        spans, position = [], 0
        self._file = os.fdopen(os.memfd_create("funcgrad-data"), "wb")
        for piece in [memoryview(body), *pieces]:
            self._file.seek(position)
            self._file.write(piece)
            spans.append((position, position + piece.nbytes))
            position += -(-piece.nbytes // ALIGNMENT) * ALIGNMENT
        self._file.flush()
        self._file.truncate(max(position, 1))
        self._head = spans

    def send(self, connection: Connection) -> None:
        """Send the object. It can be sent again, too."""
        connection.send(self._head)
        if self._file is not None:
            reduction.send_handle(connection, self._file.fileno(), None)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Let go of the memory; what was received keeps it as long as it needs it."""
        if self._file is not None:
            self._file.close()


def send(connection: Connection, value: Any) -> None:
    """Send an object through a connection."""
    parcel = Parcel(value)
    try:
        parcel.send(connection)
    finally:
        parcel.close()


def receive(connection: Connection) -> Any:
    """Wait for an object.

    Raises:
        EOFError: if the other side is gone.
    """
    head = connection.recv()
    if isinstance(head, tuple):
        body, pieces = head
        return pickle.loads(body, buffers=pieces)
    descriptor = reduction.recv_handle(connection)  # type: ignore[attr-defined]
    try:
        # Private, so that who writes into an array changes nobody else's.
        memory = memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    finally:
        os.close(descriptor)
    body, *pieces = (memory[start:stop] for start, stop in head)
    return pickle.loads(body, buffers=pieces)
