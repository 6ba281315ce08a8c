"""What a compiled Program does, step by step: which kernels run on which buffers, in which loops and branches.

A schedule is data, like the kernels. It says where every buffer is: handed in from outside, or at a place of its own
part of the arena. Loops and branches have schedules of their own inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from funcgrad.compiler.clusters import Cluster
from funcgrad.compiler.epilogues import epilogue_of
from funcgrad.compiler.expressions import Buffer
from funcgrad.compiler.fuse import Fuser, fuse
from funcgrad.compiler.in_place import Elements, Uses
from funcgrad.compiler.kernels import Buffers, LoopWriter, buffer_for
from funcgrad.compiler.loops import Kernel, Loop, loops_in
from funcgrad.compiler.memory import Lifetime, MemoryPlan, plan
from funcgrad.compiler.nests import copying
from funcgrad.compiler.prefetch import with_prefetches
from funcgrad.compiler.products import Convolution, Product
from funcgrad.compiler.scattering import filled
from funcgrad.compiler.simplify import simplified
from funcgrad.compiler.special import SPECIAL
from funcgrad.compiler.structures import STRUCTURES, Choice, Condition
from funcgrad.compiler.target import host_target
from funcgrad.dtypes import bool_
from funcgrad.primitives.contraction import dot_general
from funcgrad.primitives.convolution import conv_general_dilated
from funcgrad.program import Equation, Program, Variable

ENOUGH_TASKS = 8  # that any number of threads may share well
ELEMENTS_A_CHUNK = 1 << 15  # from so much work on another thread may take a part of it


class Run:
    """Run a kernel; `count` is the length of its parallel loop, of which `grain` steps or more go to one thread."""

    updates = ()

    def __init__(self, kernel: Kernel):
        self.kernel, self.symbol = kernel, ""
        loop = kernel.parallel
        self.count, self.grain = (1, 1) if loop is None else (loop.axis.extent, grain_of(loop))

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return self.kernel.arguments

    @cached_property
    def elements(self) -> Elements:
        return Elements(self.kernel)

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        """Whether it may write one buffer where another one is that it reads."""
        return self.elements.replaces(given, made)

    @property
    def nanoseconds(self) -> float:
        """About how long it takes, on one thread: a guess, good enough to decide who may run meanwhile."""
        return 10 + sum(map(work_of, loops_in(self.kernel.body)))

    def lines(self, indent: str) -> list[str]:
        return [indent + line for line in str(self.kernel).splitlines()]


class Multiply:
    """Compute a product of matrices or a convolution. With an `epilogue`, that kernel gets the result part by part."""

    updates = ()

    def __init__(self, product: Product | Convolution, epilogue: Kernel | None = None):
        self.product, self.symbol = product, ""
        self.epilogue, self.epilogue_symbol = epilogue, ""

    @property
    def results(self) -> tuple[Buffer, ...]:
        """What the results are written to, and what an epilogue reads."""
        return (self.product.c,) if self.epilogue is None else tuple(self.epilogue.arguments)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        product = self.product
        return (product.a, product.b, *self.results, product.scratch)

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        is_operand = given in (self.product.a, self.product.b)
        return self.epilogue is not None and not is_operand and Elements(self.epilogue).replaces(given, made)

    @property
    def nanoseconds(self) -> float:
        return 10 + self.product.cost / 30 + (Run(self.epilogue).nanoseconds if self.epilogue else 0)

    def lines(self, indent: str) -> list[str]:
        inside = [] if self.epilogue is None else str(self.epilogue).splitlines()[1:]
        with_sums = ", of whose sums" if inside else ""
        return [f"{indent}{self.product}{with_sums}", *(indent + line for line in inside)]


class Copy:
    """Copy one buffer to another one, unless both are in one place; a large one with the kernel of `run`."""

    def __init__(self, source: Buffer, target: Buffer):
        self.source, self.target = source, target
        self.buffers = (source, target)
        self.updates = (self.buffers,)
        self.nanoseconds = 10 + source.size / 10
        self.run = Run(copying(source, target)) if source.size > ELEMENTS_A_CHUNK else None

        self.is_there = False  # whether both are known to be in one place

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        return True

    def leave_out(self) -> None:
        """Note that there is nothing to do."""
        self.is_there, self.run = True, None

    def lines(self, indent: str) -> list[str]:
        if self.is_there:
            return [f"{indent}{self.target.name} is where {self.source.name} is"]
        return [f"{indent}copy {self.source.name} to {self.target.name}"]


class Carry:
    """A value that a loop hands on from step to step.

    A step reads `current` and writes `following`. If it may do that `in_place`, both are where `result` is, to which
    `initial` is copied before. Else they are two places in turn; the first step reads `initial`, and after the last one
    the value is copied to `result`.
    """

    def __init__(self, initial: Buffer, result: Buffer):
        self.initial, self.result = initial, result
        self.current, self.following = like(result, "current"), like(result, "next")
        self.places = like(result, "one"), like(result, "other")
        self.in_place = False

    @property
    def around(self) -> tuple[Buffer, ...]:
        """The buffers around a loop that it needs."""
        return (self.initial, self.result) if self.in_place else (self.initial, self.result, *self.places)


def settle(carries: Sequence[Carry], body: Schedule) -> None:
    """Find out which of the values that a loop hands on may be updated in place."""
    for carry in carries:
        carry.in_place = body.uses.may_share(carry.current, carry.following)
        if carry.in_place:
            body.leave_out_copies([carry.current, carry.following])


def updates_of(carries: Sequence[Carry]) -> list[tuple[Buffer, Buffer]]:
    """What a loop begins with and what it ends with, which may be in one place."""
    return [(carry.initial, carry.result) for carry in carries]


class Repeat:
    """Run a schedule `length` times; `slices` are pairs of a buffer and the part of it that belongs to one step."""

    def __init__(
        self,
        length: int,
        reverse: bool,
        body: Schedule,
        carries: Sequence[Carry],
        slices: Sequence[tuple[Buffer, Buffer]],
    ):
        self.length, self.reverse, self.body = length, reverse, body
        self.carries, self.slices = carries, slices
        self.updates = updates_of(carries)
        settle(carries, body)
        self.room = Buffer(body.memory_plan.size, bool_, "room")

    @property
    def buffers(self) -> list[Buffer]:
        own = {x for carry in self.carries for x in (carry.current, carry.following)} | {
            part for _, part in self.slices
        }
        outside = [x for x in self.body.outside if x not in own]
        return [*outside, *carried(self.carries), *(whole for whole, _ in self.slices), self.room]

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        return (given, made) in self.updates and self.buffers.count(given) == self.buffers.count(made) == 1

    @property
    def nanoseconds(self) -> float:
        return self.length * self.body.nanoseconds

    def lines(self, indent: str) -> list[str]:
        backward = " backward" if self.reverse else ""
        return [f"{indent}repeat {self.length} times{backward}", *self.body.lines(indent + "  ")]


class While:
    """Run a schedule as long as another one puts True into `flag`."""

    def __init__(self, condition: Schedule, flag: Buffer, body: Schedule, carries: Sequence[Carry]):
        self.condition, self.flag, self.body, self.carries = condition, flag, body, carries
        self.updates = updates_of(carries)
        settle(carries, body)
        self.room = Buffer(max(condition.memory_plan.size, body.memory_plan.size), bool_, "room")

    @property
    def buffers(self) -> list[Buffer]:
        own = {x for carry in self.carries for x in (carry.current, carry.following)}
        outside = [x for x in (*self.condition.outside, *self.body.outside) if x not in own]
        return [*outside, *carried(self.carries), self.flag, self.room]

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        return (given, made) in self.updates and self.buffers.count(given) == self.buffers.count(made) == 1

    @property
    def nanoseconds(self) -> float:
        return 100 * (self.condition.nanoseconds + self.body.nanoseconds)  # as if it took that many steps

    def lines(self, indent: str) -> list[str]:
        inner = indent + "  "
        return [f"{indent}while", *self.condition.lines(inner), f"{indent}do", *self.body.lines(inner)]


class Branch:
    """Run the schedule that `index` names."""

    def __init__(
        self, index: Buffer, branches: Sequence[Schedule], operands: Sequence[Buffer], results: Sequence[Buffer]
    ):
        self.index, self.branches = index, branches
        self.updates = [(x, y) for y in results for x in operands if (x.size, x.dtype) == (y.size, y.dtype)]
        self.room = Buffer(max(x.memory_plan.size for x in branches), bool_, "room")

    @property
    def buffers(self) -> list[Buffer]:
        return [self.index, *(x for branch in self.branches for x in branch.outside), self.room]

    def may_share(self, given: Buffer, made: Buffer) -> bool:
        return given is not self.index and all(branch.uses.may_share(given, made) for branch in self.branches)

    @property
    def nanoseconds(self) -> float:
        return max(branch.nanoseconds for branch in self.branches)

    def lines(self, indent: str) -> list[str]:
        found = []
        for number, branch in enumerate(self.branches):
            found += [f"{indent}if {self.index.name} is {number}", *branch.lines(indent + "  ")]
        return found


Step = Run | Multiply | Copy | Repeat | While | Branch


def like(buffer: Any, name: str) -> Buffer:
    """Another buffer of the same size and dtype."""
    return Buffer(buffer.size, buffer.dtype, f"{name}_{buffer.name}")


def carried(carries: Sequence[Carry]) -> list[Buffer]:
    """The buffers around a loop that its carries need."""
    return [x for carry in carries for x in carry.around]


class Schedule:
    """The steps of a Program.

    Attributes:
        steps: what is done, in order.
        outside: the buffers that it uses and that somebody else provides.
        uses: when each buffer is used, and which are in one place.
        memory_plan, offsets: the places of all others, in bytes from the beginning of its part of the arena.
    """

    def __init__(self, program: Program, inputs: Sequence[Buffer], outputs: Sequence[Buffer], buffers: Buffers):
        self.steps: list[Step] = []
        given = {*inputs, *outputs}
        buffers.of |= zip(program.inputs, inputs, strict=True)
        copies = []
        for x, target in zip(program.outputs, outputs, strict=True):
            if type(x) is Variable and x not in buffers.of:
                buffers.of[x] = target
            else:
                copies.append((x, target))
        for equations in in_clusters(program, buffers):
            self.steps += equations
        self.steps += [Copy(buffers[x], target) for x, target in copies]
        self.place(given, buffers)

    def place(self, given: set[Buffer], buffers: Buffers) -> None:
        fixed = given | buffers.constants.keys()
        self.uses = uses = Uses(self.steps)
        self.outside = {x: None for x in uses.first if x in fixed}
        uses.share(fixed)
        for place in {place for x, place in uses.place.items() if x is not place}:
            self.leave_out_copies([place])
        own = [x for x in uses.first if x not in fixed]
        lifetimes = [Lifetime(x.size * x.dtype.itemsize, uses.first[x], uses.last[x]) for x in own]
        self.memory_plan: MemoryPlan = plan(lifetimes)
        self.offsets = dict(zip(own, self.memory_plan.offsets, strict=True))

    def leave_out_copies(self, names: Sequence[Buffer]) -> None:
        """Note that nothing need be copied between the places of these, which are one."""
        places = {self.uses.place.get(x, x) for x in names}
        there = [x for x, place in self.uses.place.items() if place in places]
        for step in self.steps:
            if isinstance(step, Copy) and {step.source, step.target} <= {*there}:
                step.leave_out()
            elif isinstance(step, Branch):
                for branch in step.branches:
                    branch.leave_out_copies(there)

    @property
    def nanoseconds(self) -> float:
        return sum(step.nanoseconds for step in self.steps)

    def all_steps(self) -> Iterator[Step]:
        """All steps, those in loops and branches too."""
        for step in self.steps:
            yield step
            if isinstance(step, Copy) and step.run is not None:
                yield step.run
            inside = [step.body] if isinstance(step, Repeat) else []
            if isinstance(step, While):
                inside = [step.condition, step.body]
            elif isinstance(step, Branch):
                inside = list(step.branches)
            for schedule in inside:
                yield from schedule.all_steps()

    @property
    def has_loops(self) -> bool:
        """Whether any of its steps run more than once."""
        return any(isinstance(step, Repeat | While) for step in self.all_steps())

    def lines(self, indent: str = "") -> list[str]:
        return [line for step in self.steps for line in step.lines(indent)]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def in_clusters(program: Program, buffers: Buffers) -> Iterator[list[Step]]:
    """The steps of each cluster of a Program, in order."""
    fuser = fuse(program)
    stored = fuser.stored()
    for cluster in fuser.clusters:
        if cluster.product is not None:
            yield with_epilogue(cluster, cluster.product, fuser, buffers, stored)
            continue
        if not cluster.alone:
            yield [Run(with_prefetches(x)) for x in LoopWriter(cluster, fuser, buffers, stored).write()]
            continue
        (equation,) = cluster.level
        if equation.primitive in (dot_general, conv_general_dilated):
            product = product_of(equation, fuser, buffers)
            yield [*map(Run, product.copies), Multiply(product)]
        elif equation.primitive in STRUCTURES:
            yield structured(equation, buffers)
        else:
            kernels = SPECIAL[equation.primitive].kernels(filled(equation, fuser.follow), buffers)
            yield [Copy(*x.copies) if x.copies is not None else Run(x) for x in kernels]


def product_of(equation: Equation, fuser: Fuser, buffers: Buffers) -> Product | Convolution:
    """How a product or a convolution is computed."""
    if equation.primitive is dot_general:
        return Product(equation, fuser.follow, buffers, host_target())
    return Convolution(equation, buffers, host_target())


def with_epilogue(
    cluster: Cluster, equation: Equation, fuser: Fuser, buffers: Buffers, stored: set[Variable]
) -> list[Step]:
    """The steps of a cluster and of the product that it reads: one for both, if they suit each other."""
    product = product_of(equation, fuser, buffers)
    copies: list[Step] = [*map(Run, product.copies)]
    (result,) = equation.results
    if product.columns:
        kernel = epilogue_of(cluster, result, product.columns, product.dtype, fuser, buffers, stored)
        # A small product is no work to share out, and what is done to its elements may be.
        _, tasks, _ = product.steps[-1]
        if kernel is not None and tasks >= min(ENOUGH_TASKS, math.prod(result.shape) // ELEMENTS_A_CHUNK):
            return [*copies, Multiply(product, kernel)]
    kernels = LoopWriter(cluster, fuser, buffers, stored).write()
    return [*copies, Multiply(product), *map(Run, kernels)]


def structured(equation: Equation, buffers: Buffers) -> list[Step]:
    """The step of a loop or a branch."""
    form = STRUCTURES[equation.primitive](equation)
    operands = [buffers[x] for x in equation.operands]
    results = [buffers[x] for x in equation.results]
    if isinstance(form, Choice):
        index, *rest = operands
        branches = [Schedule(simplified(x), rest, results, buffers.inside()) for x in form.branches]
        return [Branch(index, branches, rest, results)]
    if isinstance(form, Condition):
        for_condition = operands[: form.condition_count]
        for_body = operands[form.condition_count : form.condition_count + form.body_count]
        initial = operands[form.condition_count + form.body_count :]
        carries = [Carry(*pair) for pair in zip(initial, results, strict=True)]
        current, following = [x.current for x in carries], [x.following for x in carries]
        flag = Buffer(1, bool_, "flag")
        given = [*for_condition, *current]
        condition = Schedule(simplified(form.condition), given, [flag], buffers.inside())
        given = [*for_body, *current]
        body = Schedule(simplified(form.body), given, following, buffers.inside())
        return [While(condition, flag, body, carries)]
    constants = operands[: form.constant_count]
    initial = operands[form.constant_count : form.constant_count + form.carry_count]
    carries = [Carry(*pair) for pair in zip(initial, results[: form.carry_count], strict=True)]
    wholes = [*operands[form.constant_count + form.carry_count :], *results[form.carry_count :]]
    program = simplified(form.program)
    atoms = [*program.inputs[form.constant_count + form.carry_count :], *program.outputs[form.carry_count :]]
    parts = [buffer_for(x, f"part_{whole.name}") for x, whole in zip(atoms, wholes, strict=True)]
    count = len(program.inputs) - form.constant_count - form.carry_count
    inputs = [*constants, *(x.current for x in carries), *parts[:count]]
    outputs = [*(x.following for x in carries), *parts[count:]]
    body = Schedule(program, inputs, outputs, buffers.inside())
    return [Repeat(form.length, form.reverse, body, carries, list(zip(wholes, parts, strict=True)))]


def grain_of(loop: Loop) -> int:
    """How many steps of a parallel loop make a chunk of work that is worth giving to another thread."""
    inside = max([work_of(x) for x in loops_in(loop.body)], default=1)
    grain = max(1, ELEMENTS_A_CHUNK // max(inside, 1))
    return -(-grain // 128) * 128 if loop.kind.endswith("vector") else grain


def work_of(loop: Loop) -> int:
    """How many elements a loop goes through."""
    inside = [work_of(x) for x in loops_in(loop.body)]
    return loop.axis.steps * max(1, sum(inside))
