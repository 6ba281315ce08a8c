"""The pool of threads that kernels run on, written in LLVM's language.

A kernel `void kernel(ptr context, i64 low, i64 high)` does a part of its work. The pool does all of it, in chunks:

    void funcgrad_parallel(ptr kernel, ptr context, i64 count, i64 grain)

Chunk number i is [i * grain, min((i + 1) * grain, count)). The bounds do not depend on how many threads there are, so
neither do results. Whoever is free takes the next chunk: the caller, and every worker that is awake. The caller never
waits for a worker to wake up, only for chunks that one has taken already. So a pool whose workers sleep, or whose
cores are busy with something else, is no slower than no pool.

How chunks are taken. `ticket` holds the number of the job in its upper half and of the next chunk in its lower half.
A worker reads the ticket, reads what the job is, and takes the chunk by putting a ticket with the next chunk in the
place of the one that it read. That fails if the job has changed meanwhile; so what it read of the job is right whenever
it does not fail, and a worker that slept through a job, or was interrupted half way, does no harm.

Who finds the pool busy, because it is called inside of a kernel or by a second thread, does its chunks alone.

Idle workers look for a job for a short time and then sleep until the word `signal` changes. How to sleep until a word
changes is what differs between platforms: Linux has it as the system call futex
(https://man7.org/linux/man-pages/man2/futex.2.html), Windows as WaitOnAddress, and others make it of a mutex and a
condition variable.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from funcgrad.compiler.locks import POOL
from funcgrad.compiler.machine import Code, Part, kept, library_key
from funcgrad.compiler.target import Target, host_target
from funcgrad.config import config

# For how long a worker looks for the next job before it sleeps, and a caller watches a worker finish before it sleeps:
# in pauses, which are 10 to 50 nanoseconds long. So jobs that follow each other within 100 microseconds or less find
# the workers awake, and a core that is needed elsewhere is free after that.
WORKER_PAUSES, CALLER_PAUSES = 2_000, 20_000
STACK_BYTES = 4 << 20
WOKEN_AT_ONCE = 2  # by the caller, and by each worker in turn: waking many takes long, so they share it

COMMON = f"""
; The job. It is written by whoever holds `busy`, after closing the ticket.
@ticket = internal global i64 {0x7FFFFFFF}, align 128
@chunks = internal global i64 0, align 8
@kernel = internal global ptr null, align 8
@context = internal global ptr null, align 8
@count = internal global i64 0, align 8
@grain = internal global i64 0, align 8

@busy = internal global i32 0, align 128        ; 1 while somebody's job has the pool
@started = internal global i32 0, align 4       ; workers there are
@limit = internal global i32 1, align 128       ; threads that may work, the caller included
@signal = internal global i32 0, align 128      ; changes with each job
@sleepers = internal global i32 0, align 4      ; workers that sleep until it does
@finished = internal global i32 0, align 128    ; chunks of the job that workers have done
@awaited = internal global i32 0, align 4       ; 1 while the caller sleeps until that changes

; Takes chunks and does them until there are none left. Gives their number.
define internal i32 @work() nounwind {{
entry:
  br label %look
look:
  %mine = phi i32 [0, %entry], [%mine, %take], [%more, %do]
  %old = load atomic i64, ptr @ticket acquire, align 8
  %i = and i64 %old, {0xFFFFFFFF}
  %chunks = load atomic i64, ptr @chunks acquire, align 8
  %any = icmp ult i64 %i, %chunks
  br i1 %any, label %take, label %none
take:
  %kernel = load atomic ptr, ptr @kernel acquire, align 8
  %context = load atomic ptr, ptr @context acquire, align 8
  %count = load atomic i64, ptr @count acquire, align 8
  %grain = load atomic i64, ptr @grain acquire, align 8
  %new = add i64 %old, 1
  %pair = cmpxchg ptr @ticket, i64 %old, i64 %new acq_rel acquire, align 8
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %do, label %look
do:
  call void @chunk(ptr %kernel, ptr %context, i64 %count, i64 %grain, i64 %i)
  %more = add i32 %mine, 1
  br label %look
none:
  ret i32 %mine
}}

define internal void @chunk(ptr %kernel, ptr %context, i64 %count, i64 %grain, i64 %i) nounwind {{
  %low = mul i64 %i, %grain
  %left = sub i64 %count, %low
  %whole = icmp slt i64 %grain, %left
  %size = select i1 %whole, i64 %grain, i64 %left
  %high = add i64 %low, %size
  call void %kernel(ptr %context, i64 %low, i64 %high)
  ret void
}}

; A worker, until the process ends.
define internal void @serve(i32 %me) nounwind {{
entry:
  br label %start
start:
  %limit = load atomic i32, ptr @limit acquire, align 4
  %others = sub i32 %limit, 1
  %wanted = icmp slt i32 %me, %others
  br i1 %wanted, label %look, label %unwanted
unwanted:
  call void @wait(ptr @limit, i32 %limit)
  br label %start
look:
  %seen = load atomic i32, ptr @signal acquire, align 4
  %mine = call i32 @work()
  %some = icmp ne i32 %mine, 0
  br i1 %some, label %report, label %idle
report:
  %f = atomicrmw add ptr @finished, i32 %mine seq_cst, align 4
  %awaited = load atomic i32, ptr @awaited seq_cst, align 4
  %sleeps = icmp ne i32 %awaited, 0
  br i1 %sleeps, label %tell, label %start
tell:
  call void @wake(ptr @finished, i32 1)
  br label %start
idle:
  %n = phi i32 [0, %look], [%n1, %pause]
  %now = load atomic i32, ptr @signal acquire, align 4
  %changed = icmp ne i32 %now, %seen
  br i1 %changed, label %start, label %still
still:
  %tired = icmp sge i32 %n, {WORKER_PAUSES}
  br i1 %tired, label %sleep, label %pause
pause:
  call void @pause()
  %n1 = add i32 %n, 1
  br label %idle
sleep:
  %s0 = atomicrmw add ptr @sleepers, i32 1 seq_cst, align 4
  call void @wait(ptr @signal, i32 %seen)
  %s1 = atomicrmw sub ptr @sleepers, i32 1 seq_cst, align 4
  ; Whoever was woken wakes others.
  %ticket = load atomic i64, ptr @ticket acquire, align 8
  %i = and i64 %ticket, {0xFFFFFFFF}
  %next = add i64 %i, 1
  %chunks = load atomic i64, ptr @chunks acquire, align 8
  %enough = icmp ult i64 %next, %chunks
  br i1 %enough, label %call, label %start
call:
  call void @rouse()
  br label %start
}}

define internal void @rouse() nounwind {{
  %asleep = load atomic i32, ptr @sleepers seq_cst, align 4
  %any = icmp sgt i32 %asleep, 0
  br i1 %any, label %yes, label %no
yes:
  call void @wake(ptr @signal, i32 {WOKEN_AT_ONCE})
  br label %no
no:
  ret void
}}

define internal void @alone(ptr %kernel, ptr %context, i64 %count, i64 %grain, i64 %chunks) nounwind {{
entry:
  br label %next
next:
  %i = phi i64 [0, %entry], [%i1, %next]
  call void @chunk(ptr %kernel, ptr %context, i64 %count, i64 %grain, i64 %i)
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %chunks
  br i1 %more, label %next, label %done
done:
  ret void
}}

define void @funcgrad_parallel(ptr %kernel, ptr %context, i64 %count, i64 %grain) nounwind {{
entry:
  %nothing = icmp slt i64 %count, 1
  br i1 %nothing, label %out, label %some
some:
  %less = sub i64 %count, 1
  %full = udiv i64 %less, %grain
  %chunks = add i64 %full, 1
  %limit = load atomic i32, ptr @limit acquire, align 4
  %others = sub i32 %limit, 1
  %helped = icmp sgt i32 %others, 0
  %many = icmp ne i64 %full, 0
  %countable = icmp ult i64 %chunks, {0x7FFFFFFF}
  %a = and i1 %helped, %many
  %b = and i1 %a, %countable
  br i1 %b, label %seize, label %alone
seize:
  %pair = cmpxchg ptr @busy, i32 0, i32 1 acq_rel monotonic, align 4
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %mine, label %ready, label %alone
alone:
  call void @alone(ptr %kernel, ptr %context, i64 %count, i64 %grain, i64 %chunks)
  br label %out
ready:
  %workers = load i32, ptr @started
  %few = icmp slt i32 %workers, %others
  br i1 %few, label %hire, label %publish
hire:
  call void @start(i32 %workers, i32 %others)
  br label %publish
publish:
  ; The ticket of the last job is closed before the job is changed, and the one of this job opened after that.
  %old = load atomic i64, ptr @ticket monotonic, align 8
  %job = and i64 %old, {-(1 << 32)}
  %opened = add i64 %job, {1 << 32}
  %closed = or i64 %opened, {0x7FFFFFFF}
  store atomic i64 %closed, ptr @ticket seq_cst, align 8
  store atomic i64 %chunks, ptr @chunks release, align 8
  store atomic ptr %kernel, ptr @kernel release, align 8
  store atomic ptr %context, ptr @context release, align 8
  store atomic i64 %count, ptr @count release, align 8
  store atomic i64 %grain, ptr @grain release, align 8
  store atomic i32 0, ptr @finished release, align 4
  store atomic i64 %opened, ptr @ticket release, align 8
  %s = atomicrmw add ptr @signal, i32 1 seq_cst, align 4
  call void @rouse()
  %own = call i32 @work()
  %all = trunc i64 %chunks to i32
  %others_chunks = sub i32 %all, %own
  br label %watch
watch:
  %n = phi i32 [0, %publish], [%n1, %hold]
  %f = load atomic i32, ptr @finished acquire, align 4
  %complete = icmp eq i32 %f, %others_chunks
  br i1 %complete, label %release, label %not_yet
not_yet:
  %tired = icmp sge i32 %n, {CALLER_PAUSES}
  br i1 %tired, label %tell, label %hold
hold:
  call void @pause()
  %n1 = add i32 %n, 1
  br label %watch
tell:
  store atomic i32 1, ptr @awaited seq_cst, align 4
  br label %check
check:
  %g = load atomic i32, ptr @finished seq_cst, align 4
  %now = icmp eq i32 %g, %others_chunks
  br i1 %now, label %told, label %sleep
sleep:
  call void @wait(ptr @finished, i32 %g)
  br label %check
told:
  store atomic i32 0, ptr @awaited seq_cst, align 4
  br label %release
release:
  store atomic i32 0, ptr @busy release, align 4
  br label %out
out:
  ret void
}}

; Starts the workers from number `from` up to, not including, number `to`. If the system has no more, there are fewer.
define internal void @start(i32 %from, i32 %to) nounwind {{
entry:
  br label %next
next:
  %i = phi i32 [%from, %entry], [%i1, %good]
  %there = icmp slt i32 %i, %to
  br i1 %there, label %try, label %done
try:
  %failed = call i32 @create(i32 %i)
  %ok = icmp eq i32 %failed, 0
  br i1 %ok, label %good, label %done
good:
  %i1 = add i32 %i, 1
  store i32 %i1, ptr @started
  br label %next
done:
  ret void
}}

define void @funcgrad_pool_limit(i32 %threads) nounwind {{
  store atomic i32 %threads, ptr @limit seq_cst, align 4
  call void @wake(ptr @limit, i32 {0x7FFFFFFF})
  ret void
}}

; In a process that was forked: there are no workers, and no job.
define void @funcgrad_pool_reset() nounwind {{
  store i32 0, ptr @started
  store i32 0, ptr @sleepers
  store i32 0, ptr @awaited
  store atomic i64 {0x7FFFFFFF}, ptr @ticket seq_cst, align 8
  call void @prepare_waiting()
  store atomic i32 0, ptr @busy seq_cst, align 4
  ret void
}}

define i32 @funcgrad_pool_workers() nounwind {{
  %n = load i32, ptr @started
  ret i32 %n
}}
"""

# Each of these defines
#     void wait(ptr word, i32 seen)    returns when the word is not `seen`, or was changed and someone called `wake`
#     void wake(ptr word, i32 number)  wakes at least so many of those that wait for the word, as far as there are
#     void prepare_waiting()           called once, before any of these
WAIT_BY_FUTEX = """
declare i64 @syscall(i64, ...)
define internal void @wait(ptr %word, i32 %seen) nounwind {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i32 %seen, ptr null, ptr null, i64 0)
  ret void
}}
define internal void @wake(ptr %word, i32 %number) nounwind {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 129, i32 %number, ptr null, ptr null, i64 0)
  ret void
}}
define internal void @prepare_waiting() nounwind {{
  ret void
}}
"""
FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98}

WAIT_BY_CONDITION = """
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
@mutex = internal global [128 x i8] zeroinitializer, align 16
@condition = internal global [128 x i8] zeroinitializer, align 16
define internal void @wait(ptr %word, i32 %seen) nounwind {
  %l = call i32 @pthread_mutex_lock(ptr @mutex)
  br label %check
check:
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %seen
  br i1 %same, label %sleep, label %done
sleep:
  %w = call i32 @pthread_cond_wait(ptr @condition, ptr @mutex)
  br label %check
done:
  %u = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
; The word was changed before. Whoever holds the mutex has either seen that, or sleeps already.
define internal void @wake(ptr %word, i32 %number) nounwind {
  %l = call i32 @pthread_mutex_lock(ptr @mutex)
  %u = call i32 @pthread_mutex_unlock(ptr @mutex)
  %b = call i32 @pthread_cond_broadcast(ptr @condition)
  ret void
}
define internal void @prepare_waiting() nounwind {
  %m = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %c = call i32 @pthread_cond_init(ptr @condition, ptr null)
  ret void
}
"""

WAIT_ON_WINDOWS = """
declare i32 @WaitOnAddress(ptr, ptr, i64, i32)
declare void @WakeByAddressAll(ptr)
define internal void @wait(ptr %word, i32 %seen) nounwind {
  %expected = alloca i32
  store i32 %seen, ptr %expected
  %r = call i32 @WaitOnAddress(ptr %word, ptr %expected, i64 4, i32 -1)
  ret void
}
define internal void @wake(ptr %word, i32 %number) nounwind {
  call void @WakeByAddressAll(ptr %word)
  ret void
}
define internal void @prepare_waiting() nounwind {
  ret void
}
"""

# Each of these defines
#     i32 create(i32 number)  starts a worker; gives 0 if there is one now
THREADS_OF_POSIX = """
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
; All signals but those that a fault of the thread itself causes: they are for the threads that Python knows of.
@signals = internal constant [16 x i64] [i64 {signals}{more_signals}], align 16
define internal i32 @create(i32 %number) nounwind {{
  %attributes = alloca [128 x i8], align 16
  %thread = alloca ptr
  %a = call i32 @pthread_attr_init(ptr %attributes)
  %b = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 {stack})
  %wide = zext i32 %number to i64
  %argument = inttoptr i64 %wide to ptr
  %failed = call i32 @pthread_create(ptr %thread, ptr %attributes, ptr @worker, ptr %argument)
  %c = call i32 @pthread_attr_destroy(ptr %attributes)
  %good = icmp eq i32 %failed, 0
  br i1 %good, label %leave, label %out
leave:
  %t = load ptr, ptr %thread
  %d = call i32 @pthread_detach(ptr %t)
  br label %out
out:
  ret i32 %failed
}}
define internal ptr @worker(ptr %argument) nounwind {{
  %m = call i32 @pthread_sigmask(i32 {block}, ptr @signals, ptr null)
  %wide = ptrtoint ptr %argument to i64
  %number = trunc i64 %wide to i32
  call void @serve(i32 %number)
  ret ptr null
}}
"""

THREADS_OF_WINDOWS = f"""
declare ptr @CreateThread(ptr, i64, ptr, ptr, i32, ptr)
declare i32 @CloseHandle(ptr)
define internal i32 @create(i32 %number) nounwind {{
  %wide = zext i32 %number to i64
  %argument = inttoptr i64 %wide to ptr
  %thread = call ptr @CreateThread(ptr null, i64 {STACK_BYTES}, ptr @worker, ptr %argument, i32 65536, ptr null)
  %bad = icmp eq ptr %thread, null
  br i1 %bad, label %failed, label %leave
leave:
  %c = call i32 @CloseHandle(ptr %thread)
  ret i32 0
failed:
  ret i32 1
}}
define internal i32 @worker(ptr %argument) nounwind {{
  %wide = ptrtoint ptr %argument to i64
  %number = trunc i64 %wide to i32
  call void @serve(i32 %number)
  ret i32 0
}}
"""

# void pause(): what a loop that waits for another core does meanwhile, to leave it and its own core's twin more room
PAUSES = {
    "x86_64": "declare void @llvm.x86.sse2.pause()\ndefine internal void @pause() alwaysinline nounwind {\n"
    "  call void @llvm.x86.sse2.pause()\n  ret void\n}\n",
    "aarch64": "declare void @llvm.aarch64.isb(i32)\ndefine internal void @pause() alwaysinline nounwind {\n"
    "  call void @llvm.aarch64.isb(i32 15)\n  ret void\n}\n",
}
NO_PAUSE = "define internal void @pause() nounwind {\n  ret void\n}\n"


def _posix_threads(darwin: bool) -> str:
    """Signals have other numbers on macOS: SIGBUS is 10 there and 7 on Linux, and SIG_BLOCK 1 and 0."""
    faults = (4, 5, 6, 8, 10 if darwin else 7, 11)
    signals = (1 << 64) - 1 - sum(1 << (number - 1) for number in faults)
    return THREADS_OF_POSIX.format(
        signals=signals - (1 << 64), more_signals=", i64 -1" * 15, stack=STACK_BYTES, block=1 if darwin else 0
    )


def pool_ir(target: Target, by_condition: bool = False) -> str:
    """The pool in LLVM's language.

    Arguments:
        target: the platform that it is for.
        by_condition: whether threads sleep by a condition variable even where the system has something better.
    """
    system = target.triple.split("-", 1)[1]
    windows = "windows" in system
    darwin = any(name in system for name in ("darwin", "macos", "ios"))
    if windows:
        waiting, threads = WAIT_ON_WINDOWS, THREADS_OF_WINDOWS
    else:
        number = FUTEX_NUMBERS.get(target.architecture) if "linux" in system and not by_condition else None
        waiting = WAIT_BY_CONDITION if number is None else WAIT_BY_FUTEX.format(number=number)
        threads = _posix_threads(darwin)
    return COMMON + waiting + threads + PAUSES.get(target.architecture, NO_PAUSE)


FUNCTIONS = ("funcgrad_parallel", "funcgrad_pool_limit", "funcgrad_pool_reset", "funcgrad_pool_workers")


def pool_code(by_condition: bool = False) -> Code:
    """The pool, as code that can be made; see `pool_ir`."""
    key = library_key("the pool, by condition" if by_condition else "the pool")
    # What takes time here is what the cores tell each other, so nothing is gained by a higher level.
    return Code(key, lambda: [Part(pool_ir(host_target(), by_condition), host_target(), 0)], FUNCTIONS)


class Pool:
    """The pool in memory.

    Arguments:
        threads: how many threads work, the calling one included.
        by_condition: see `pool_ir`.

    Attributes:
        address: where `funcgrad_parallel` is.
    """

    def __init__(self, threads: int, by_condition: bool = False):
        loaded = kept(pool_code(by_condition))
        loaded.keep()  # workers run in it until the process ends
        parallel, limit, reset, workers = (loaded.addresses[name] for name in FUNCTIONS)
        self.address = parallel
        self.run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(parallel)
        self.set_threads = ctypes.CFUNCTYPE(None, ctypes.c_int32)(limit)
        self.workers = ctypes.CFUNCTYPE(ctypes.c_int32)(workers)
        forget = ctypes.CFUNCTYPE(None)(reset)
        forget()
        self.set_threads(threads)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=forget)


@cache
def _the_pool() -> Pool:
    pool = Pool(config.threads)
    config.watch("threads", pool.set_threads)
    return pool


def pool() -> Pool:
    """The pool of this process, of `fg.config.threads` threads. They are started by the first job that wants them."""
    with POOL:
        return _the_pool()


def parallel_address() -> int:
    """The address of `void funcgrad_parallel(ptr kernel, ptr context, i64 count, i64 grain)`.

    It calls kernel(context, low, high) for chunks of `grain`, 1 or more, of the numbers from 0 to `count`, and returns
    when all are done. It may be called from any thread, and from within a kernel.
    """
    return pool().address
