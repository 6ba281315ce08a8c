"""Worker processes: each has the dataset, is told the order of an epoch once, and then numbers of batches.

There is one connection for each process and no thread and no lock between them, so that a process that dies takes
nothing with it: its connection ends, which the loop that waits for a batch sees at once. The other way round, a worker
whose parent is gone ends too, whatever it does at the time. All is driven by the loop that takes the batches; the
messages to a worker are short enough never to fill its connection, so that no two sides wait for each other.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
import weakref
from multiprocessing.connection import Connection, wait
from typing import Any

from funcgrad.data.parcels import Parcel, receive, send
from funcgrad.data.plans import Collate, IndexedPlan, forget_worker_line
from funcgrad.data.workers import Failure, Outcome
from funcgrad.errors import ArgumentTypeError, WorkerError

TASKS_OF_WORKER = 64  # how many batches a worker may have before it: their messages fit into the connection's buffer


class Processes:
    """Makes batches in processes, which are started afresh ("spawn").

    Arguments:
        dataset: a dataset with an index, which can be pickled.
        collate: makes a batch of a list of examples; None for the default.
        count: how many processes.

    Raises:
        ArgumentTypeError: if the dataset or the function cannot be pickled.
        WorkerError: if a process dies as soon as it is started.
    """

    def __init__(self, dataset: Any, collate: Collate | None, count: int):
        parcel = _packed(dataset, collate)
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        self._finalizer = weakref.finalize(self, _end, self._processes, self._connections)
        self._waiting: list[dict[int, None]] = [{} for _ in range(count)]
        context = multiprocessing.get_context("spawn")
        self._current = context.RawValue("q", 0)  # the generation that is waited for, as all processes see it
        try:
            for number in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_work, args=(theirs, self._current), name=f"funcgrad-data-{number}", daemon=True
                )
                try:
                    process.start()
                finally:
                    theirs.close()  # so that the connection ends when the process does
                self._processes.append(process)
                self._connections.append(ours)
                self._send(number, parcel)
        except BaseException:
            self._finalizer()
            raise
        finally:
            parcel.close()

    @property
    def pids(self) -> list[int]:
        """The numbers under which the system knows the processes."""
        return [process.pid for process in self._processes]

    def begin(self, generation: int, plan: IndexedPlan, epoch: int) -> None:
        self._current.value = generation
        while any(self._waiting):  # what was asked for and is not wanted any more is answered quickly
            self.receive()
        parcel = Parcel((generation, epoch, plan.order, plan.batch_size))
        try:
            for worker in range(len(self._processes)):
                self._send(worker, parcel)
        finally:
            parcel.close()

    def submit(self, number: int) -> None:
        worker = min(range(len(self._processes)), key=lambda worker: len(self._waiting[worker]))
        self._waiting[worker][number] = None
        self._send(worker, Parcel(number))

    def receive(self) -> list[Outcome]:
        outcomes = []
        for connection in wait(self._connections):
            worker = self._connections.index(connection)  # type: ignore[arg-type]
            try:
                generation, number, outcome = receive(connection)  # type: ignore[arg-type]
            except (EOFError, OSError):
                raise self._death(worker) from None
            if isinstance(outcome, _Report):
                outcome = Failure(outcome.exception())
            if generation is None:  # the worker could not even begin
                raise outcome.error
            del self._waiting[worker][number]
            outcomes.append((generation, number, outcome))
        return outcomes

    def close(self, wait: bool) -> None:
        self._finalizer()

    def _send(self, worker: int, parcel: Parcel) -> None:
        try:
            parcel.send(self._connections[worker])
        except OSError:
            raise self._death(worker) from None

    def _death(self, worker: int) -> WorkerError:
        process = self._processes[worker]
        process.join(5)
        code = process.exitcode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}" + (", perhaps for lack of memory" if code == -9 else "")
        else:
            how = f"ended with exit code {code}"
        batch = next(iter(self._waiting[worker]), None)
        what = "" if batch is None else f" while it had to make batch {batch}"
        return WorkerError(
            f"worker process {worker} of a data loader {how}{what}; see what it printed last, begin programs with "
            "if __name__ == '__main__': so that processes can be started, or use worker_kind='thread'."
        )


def _packed(dataset: Any, collate: Collate | None) -> Parcel:
    try:
        return Parcel((dataset, collate))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ArgumentTypeError(
            f"the dataset or its functions cannot be sent to worker processes ({error}); define them at the top of a "
            "module instead of inside of a function or as a lambda, or use worker_kind='thread'."
        ) from error


def _end(processes: list[Any], connections: list[Connection]) -> None:
    """End the processes. They have nothing to save, so there is no need to ask them first."""
    for connection in connections:
        connection.close()
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(2)
        if process.is_alive():  # code of the user's that does not let itself be terminated
            process.kill()
            process.join()


class _Report:
    """An exception as it travels: its traceback as text, its notes, and itself if it can be pickled."""

    def __init__(self, error: BaseException):
        forget_worker_line(error)
        self.text = "".join(traceback.format_exception(error))
        self.notes = list(getattr(error, "__notes__", ()))
        self.summary = f"{type(error).__name__}: {error}"
        try:
            self.pickled = pickle.dumps(error)
            pickle.loads(self.pickled)
        except Exception:
            self.pickled = None

    def exception(self) -> BaseException:
        """The exception again, with the worker's traceback as its cause."""
        error: BaseException | None = None
        if self.pickled is not None:
            try:
                error = pickle.loads(self.pickled)
            except Exception:
                error = None
        if error is None:
            error = WorkerError(f"a worker process of a data loader raised {self.summary}; its traceback is above.")
        kept = getattr(error, "__notes__", [])
        for note in self.notes:
            if note not in kept:
                error.add_note(note)
        error.__cause__ = WorkerTraceback(self.text)
        return error


class WorkerTraceback(Exception):
    """The traceback of an exception in another process; printed as the cause of the exception."""

    def __str__(self) -> str:
        return f"in a worker process:\n\n{self.args[0]}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(connection: Connection, current: Any) -> None:
    """What a worker process does from its beginning to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        dataset, collate = receive(connection)
    except EOFError:
        return
    except BaseException as error:
        send(connection, (None, None, _Report(error)))
        return
    generation, plan = 0, None
    while True:
        try:
            message = receive(connection)
        except (EOFError, OSError):
            return
        number = None
        try:
            if isinstance(message, int):
                number = message
                wanted = current.value == generation
                parcel = Parcel((generation, number, plan.make(number) if wanted else None))  # type: ignore[union-attr]
            else:
                generation, epoch, order, batch_size = message
                plan = IndexedPlan(dataset, collate, epoch, order, batch_size)
                continue
        except BaseException as error:
            parcel = Parcel((generation if number is not None else None, number, _Report(error)))
        try:
            parcel.send(connection)
        except OSError:
            return
        finally:
            parcel.close()
