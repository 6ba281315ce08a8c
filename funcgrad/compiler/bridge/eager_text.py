"""The text of the builtins that eager operations are, in the language of `builtin.py`.

From below: whether a transform is at work (`calm`), what the operands are (`number`), the array of the result (`wrap`),
all of an operation (`apply`), and the builtins themselves: methods of arrays, and functions. How shapes broadcast is in
`broadcast_text`.

`apply` gives the result, null with an error, or one of two numbers that are no addresses: UNUSUAL for operands that it
leaves to Python, and MISSING for those of which it has no kernel yet, or no threads to run it on.
"""

from __future__ import annotations

COMMON = """
@operations = global [METHODS x ptr] zeroinitializer, align 16

; The current interpreter, which the context keeps alive; null if there is none.
define internal ptr @current(ptr %process) {
start:
  %slot = alloca ptr
  store ptr null, ptr %slot
  %get = field ptr %process EAGER.get_context
  %variable = field ptr %process EAGER.context
  %status = call i32 %get(ptr %variable, ptr null, ptr %slot)
  %here = load ptr, ptr %slot
  %nobody = icmp eq ptr %here, null
  br i1 %nobody, label %no, label %look
look:
  release %here ; the context has another reference
  br label %no
no:
  ret ptr %here
}

; Whether no transform concerns itself with plain values.
define internal i1 @calm(ptr %process) {
start:
  %here = call ptr @current(ptr %process)
  %nobody = icmp eq ptr %here, null
  br i1 %nobody, label %no, label %look
look:
  %ground = field ptr %process EAGER.ground
  %is.ground = icmp eq ptr %here, %ground
  br i1 %is.ground, label %yes, label %ask
ask:
  %attribute = field ptr %process EAGER.attribute
  %name = field ptr %process EAGER.name
  %flag = call ptr %attribute(ptr %here, ptr %name)
  %no.flag = icmp eq ptr %flag, null
  br i1 %no.flag, label %clear, label %compare
compare:
  %decrease = field ptr %process EAGER.decrease
  call void %decrease(ptr %flag)
  %true = field ptr %process EAGER.true
  %is.true = icmp eq ptr %flag, %true
  ret i1 %is.true
clear:
  %clear.error = field ptr %process EAGER.clear_error
  call void %clear.error()
  br label %no
yes:
  ret i1 true
no:
  ret i1 false
}

; Writes a Python number as an element of the dtype that the entry has for numbers: 1 if it did, 0 if the operation is
; left to Python, and 2 if the entry is not for such numbers.
define internal i64 @number(ptr %process, ptr %entry, ptr %x, ptr %slot, i1 %integers) {
start:
  %type = field ptr %x OBJECT.type
  %form = field i64 %entry ENTRY.form
  %numbers = field i64 %entry ENTRY.numbers
  %float.type = field ptr %process EAGER.float
  %is.float = icmp eq ptr %type, %float.type
  br i1 %is.float, label %float, label %other
float:
  %number = field double %x FLOAT.value
  %floats = and i64 %numbers, FLOATS
  %no.floats = icmp eq i64 %floats, 0
  br i1 %no.floats, label %another, label %floating
other:
  %int.type = field ptr %process EAGER.int
  %is.int = icmp eq ptr %type, %int.type
  %takes.it = and i1 %is.int, %integers
  br i1 %takes.it, label %ask, label %no
ask:
  %wholes = and i64 %numbers, INTEGERS
  %no.wholes = icmp eq i64 %wholes, 0
  br i1 %no.wholes, label %another, label %integer
integer:
  %overflow = alloca i32
  %as.integer = field ptr %process EAGER.as_integer
  %whole = call i64 %as.integer(ptr %x, ptr %overflow)
  %over = load i32, ptr %overflow
  %fits.word = icmp eq i32 %over, 0
  br i1 %fits.word, label %fit, label %no
fit:
  %is.whole = icmp eq i64 %form, FORM_INTEGER
  br i1 %is.whole, label %bounds, label %to.float
bounds:
  %least = field i64 %entry ENTRY.least
  %greatest = field i64 %entry ENTRY.greatest
  %above = icmp sge i64 %whole, %least
  %below = icmp sle i64 %whole, %greatest
  %within = and i1 %above, %below
  store i64 %whole, ptr %slot ; its lowest bytes come first
  %is.within = zext i1 %within to i64
  ret i64 %is.within
to.float:
  %rounded = sitofp i64 %whole to double
  br label %floating
floating:
  %value = phi double [%number, %float], [%rounded, %to.float]
  switch i64 %form, label %no [i64 FORM_FLOAT32, label %single  i64 FORM_FLOAT64, label %double]
single:
  %short = fptrunc double %value to float
  store float %short, ptr %slot
  ret i64 1
double:
  store double %value, ptr %slot
  ret i64 1
another:
  ret i64 2
no:
  ret i64 0
}

; An array of the library around a buffer, whose reference it takes over; null with an error.
define internal ptr @wrap(ptr %process, ptr %array, ptr %dtype, ptr %shape) {
start:
  %new.object = field ptr %process EAGER.new_object
  %class = field ptr %process EAGER.concrete
  %wrapped = call ptr %new.object(ptr %class, i64 0)
  %not.wrapped = icmp eq ptr %wrapped, null
  br i1 %not.wrapped, label %drop, label %fill
fill:
  %increase = field ptr %process EAGER.increase
  call void %increase(ptr %shape)
  hold %dtype
  set %wrapped WRAPPER.data %array
  set %wrapped WRAPPER.dtype %dtype
  set %wrapped WRAPPER.shape %shape
  %untrack = field ptr %process EAGER.untrack
  call void %untrack(ptr %wrapped) ; there is nothing in it that could refer to it
  ret ptr %wrapped
drop:
  %decrease = field ptr %process EAGER.decrease
  call void %decrease(ptr %array)
  ret ptr null
}

; The same for a buffer of which no operand has the shape.
define internal ptr @wrap_anew(ptr %process, ptr %array) {
start:
  %decrease = field ptr %process EAGER.decrease
  %attribute = field ptr %process EAGER.attribute
  %name = field ptr %process EAGER.shape
  %shape = call ptr %attribute(ptr %array, ptr %name)
  %no.shape = icmp eq ptr %shape, null
  br i1 %no.shape, label %lose, label %finish
finish:
  %dtype = field ptr %array ARRAY.dtype
  %wrapped = call ptr @wrap(ptr %process, ptr %array, ptr %dtype, ptr %shape)
  call void %decrease(ptr %shape)
  ret ptr %wrapped
lose:
  call void %decrease(ptr %array)
  ret ptr null
}

; Runs a kernel that takes so long that other threads of Python should run meanwhile.
define internal void @run_unlocked(ptr %process, ptr %entry, ptr %kernel, ptr %context, ptr %lengths, ptr %moves,
                                   i64 %pointers, i64 %size, i64 %outer) {
start:
  %save = field ptr %process EAGER.save_thread
  %restore = field ptr %process EAGER.restore_thread
  %parallel = field ptr %process EAGER.parallel
  %chunk = field i64 %entry ENTRY.chunk
  %thread = call ptr %save()
  %whole = icmp eq i64 %outer, 0
  br i1 %whole, label %one, label %several
one:
  call void %parallel(ptr %kernel, ptr %context, i64 %size, i64 %chunk)
  br label %done
several:
  call void @run_loops(ptr %kernel, ptr %context, ptr %lengths, ptr %moves, i64 %pointers, i64 %outer)
  br label %done
done:
  call void %restore(ptr %thread)
  ret void
}
"""

# For each operand {k}: it is a plain array of ours, or maybe a number, of which there is no array (null).
OPERAND = """
look{k}:
  %type{k} = field ptr %x{k} OBJECT.type
  %strong{k} = icmp eq ptr %type{k}, %concrete
  %weak{k} = icmp eq ptr %type{k}, %weak
  %ours{k} = or i1 %strong{k}, %weak{k}
  %slot{k} = getelementptr i64, ptr %numbers, i64 {k}
  br i1 %ours{k}, label %array{k}, label %known{k}
array{k}:
  %inner{k} = field ptr %x{k} WRAPPER.data
  %empty{k} = icmp eq ptr %inner{k}, null
  br i1 %empty{k}, label %unusual, label %kind{k}
kind{k}:
  %inner.type{k} = field ptr %inner{k} OBJECT.type
  %is.ndarray{k} = icmp eq ptr %inner.type{k}, %ndarray
  br i1 %is.ndarray{k}, label %order{k}, label %unusual
order{k}:
  %flags{k} = field i32 %inner{k} ARRAY.flags
  %set{k} = and i32 %flags{k}, IN_ORDER_AND_ALIGNED
  %right.flags{k} = icmp eq i32 %set{k}, IN_ORDER_AND_ALIGNED
  %own.ndim{k} = field i32 %inner{k} ARRAY.ndim
  %own.data{k} = field ptr %inner{k} ARRAY.data
  br i1 %right.flags{k}, label %known{k}, label %unusual
known{k}:
  %array{k}.is = phi ptr [null, %look{k}], [%inner{k}, %order{k}]
  %ndim{k} = phi i32 [0, %look{k}], [%own.ndim{k}, %order{k}]
  %data{k} = phi ptr [%slot{k}, %look{k}], [%own.data{k}, %order{k}]
  %number{k} = icmp eq ptr %array{k}.is, null
  %long{k} = icmp sgt i32 %ndim{k}, 0
  br label %{next}
"""

# Whether the operand has the dtype that the entry wants.
CHECK = """
check{k}:
  br i1 %number{k}, label %convert{k}, label %compare{k}
convert{k}:
  ; An entry for several dtypes has none where a number stands.
  %no.number{k} = field ptr %entry ENTRY.dtype{k}
  %is.array.place{k} = icmp ne ptr %no.number{k}, null
  %misplaced{k} = and i1 %mixed, %is.array.place{k}
  br i1 %misplaced{k}, label %next.entry, label %take{k}
take{k}:
  %converted{k} = call i64 @number(ptr %process, ptr %entry, ptr %x{k}, ptr %slot{k}, i1 %integers)
  switch i64 %converted{k}, label %{next} [i64 0, label %unusual  i64 2, label %next.entry]
compare{k}:
  %dtype{k} = field ptr %array{k}.is ARRAY.dtype
  %wanted{k} = field ptr %entry ENTRY.dtype{k}
  %right.dtype{k} = icmp eq ptr %dtype{k}, %wanted{k}
  br i1 %right.dtype{k}, label %right{k}, label %next.entry
right{k}:
  ; A weak operand has the dtype of the others where that can be, which `mixed` says is not so.
  %too.weak{k} = and i1 %weak{k}, %mixed
  br i1 %too.weak{k}, label %unusual, label %{next}
"""


def apply_text(arity: int) -> str:
    """`apply` for so many operands."""
    operands = range(arity)
    last = arity - 1
    lines = [f"define internal ptr @apply{arity}(ptr %operation, {', '.join(f'ptr %x{k}' for k in operands)}) {{"]
    lines += [
        "start:",
        f"  %numbers = alloca [{arity} x i64], align 8",
        f"  %arrays = alloca [{arity} x ptr], align 8",
        f"  %items = alloca [{arity + 1} x i64], align 8",
        f"  %context = alloca [{arity + 1} x ptr], align 8",
        "  %new.shape = alloca [MOST_AXES x i64], align 8",
        "  %lengths = alloca [MOST_AXES x i64], align 8",
        f"  %moves = alloca [MOST_AXES x [{arity + 1} x i64]], align 8",
        "  %process = field ptr %operation OPERATION.process",
        "  %enabled = field i64 %process EAGER.enabled",
        "  %is.enabled = icmp ne i64 %enabled, 0",
        "  br i1 %is.enabled, label %ask, label %unusual",
        "ask:",
        "  %is.calm = call i1 @calm(ptr %process)",
        "  br i1 %is.calm, label %begin, label %unusual",
        "begin:",
        "  %concrete = field ptr %process EAGER.concrete",
        "  %weak = field ptr %process EAGER.weak",
        "  %ndarray = field ptr %process EAGER.ndarray",
        "  br label %look0",
    ]
    for k in operands:
        lines.append(OPERAND.format(k=k, next=f"look{k + 1}" if k + 1 < arity else "lead"))
    # The last array says of which dtype the operation is, and the one with most axes of which shape the result is, if
    # all arrays with axes have that.
    lines += [
        "lead:",
        "  %some0 = xor i1 %number0, true",
        "  %any.long0 = or i1 %long0, false",
    ]
    for k in operands[1:]:
        lines.append(f"  %array{k}.there = xor i1 %number{k}, true")
        lines.append(f"  %some{k} = or i1 %some{k - 1}, %array{k}.there")
        lines.append(f"  %any.long{k} = or i1 %any.long{k - 1}, %long{k}")
    lines += ["  %lead0 = select i1 true, ptr %array0.is, ptr null", "  %leader0 = select i1 true, ptr %x0, ptr null"]
    for k in operands[1:]:
        lines.append(f"  %lead{k} = select i1 %number{k}, ptr %lead{k - 1}, ptr %array{k}.is")
        lines.append(f"  %leader{k} = select i1 %number{k}, ptr %leader{k - 1}, ptr %x{k}")
    before = f"%lead{last}", f"%leader{last}", "0"
    for k in operands:
        lines += [
            f"  %more{k} = icmp sgt i32 %ndim{k}, {before[2]}",
            f"  %shape.array{k} = select i1 %more{k}, ptr %array{k}.is, ptr {before[0]}",
            f"  %shape.owner{k} = select i1 %more{k}, ptr %x{k}, ptr {before[1]}",
            f"  %most{k} = select i1 %more{k}, i32 %ndim{k}, i32 {before[2]}",
        ]
        before = f"%shape.array{k}", f"%shape.owner{k}", f"%most{k}"
    lines += [
        f"  br i1 %some{last}, label %find, label %unusual",
        "find:",
        f"  %lead.dtype = field ptr %lead{last} ARRAY.dtype",
        "  %dtype.number = field i32 %lead.dtype DTYPE.number",
        "  %is.own = icmp ult i32 %dtype.number, OTHER_DTYPE",
        "  %place.small = select i1 %is.own, i32 %dtype.number, i32 OTHER_DTYPE",
        "  %place = zext i32 %place.small to i64",
        "  %all.entries = getelementptr i8, ptr %operation, i64 OPERATION.entries",
        "  %entries = item ptr %all.entries %place",
        "  %no.entries = icmp eq ptr %entries, null",
        "  %integers.wanted = field i64 %operation OPERATION.integers",
        "  %integers = icmp ne i64 %integers.wanted, 0",
        "  br i1 %no.entries, label %missing, label %look.up",
        "look.up:",
        "  %at.entry = phi i64 [0, %find], [%following, %next.entry]",
        "  %entry = item ptr %entries %at.entry",
        "  %no.entry = icmp eq ptr %entry, null",
        "  br i1 %no.entry, label %missing, label %known.entry",
        "next.entry:",
        "  %following = add i64 %at.entry, 1",
        "  br label %look.up",
        "known.entry:",
        "  %is.mixed = field i64 %entry ENTRY.mixed",
        "  %mixed = icmp ne i64 %is.mixed, 0",
        "  br label %check0",
    ]
    for k in operands:
        lines.append(CHECK.format(k=k, next=f"check{k + 1}" if k + 1 < arity else "shape0"))
    for k in operands:
        following = f"shape{k + 1}" if k + 1 < arity else "alike"
        lines += [
            f"shape{k}:",
            f"  br i1 %long{k}, label %shaped{k}, label %{following}",
            f"shaped{k}:",
            f"  %same.shape{k} = call i1 @same_shape(ptr %array{k}.is, ptr %shape.array{last})",
            f"  br i1 %same.shape{k}, label %{following}, label %broadcast",
        ]
    lines += ["alike:", "  %mask0 = select i1 %long0, i64 0, i64 1"]
    for k in operands[1:]:
        lines.append(f"  %bit{k} = select i1 %long{k}, i64 0, i64 {1 << k}")
        lines.append(f"  %mask{k} = or i64 %mask{k - 1}, %bit{k}")
    lines += [
        f"  %alike.mask = select i1 %any.long{last}, i64 %mask{last}, i64 0",
        f"  %alike.ndim = field i32 %shape.array{last} ARRAY.ndim",
        f"  %alike.lengths = field ptr %shape.array{last} ARRAY.shape",
        "  br label %kernel",
        "broadcast:",
        "  %few = icmp sle i32 " + before[2] + ", MOST_AXES",
        "  br i1 %few, label %spread, label %unusual",
        "spread:",
        "  %all.axes = zext i32 " + before[2] + " to i64",
    ]
    for k in operands:
        lines += [
            f"  put %arrays {k} %array{k}.is",
            f"  %item{k} = field i64 %entry ENTRY.item{k}",
            f"  %item.at{k} = getelementptr i64, ptr %items, i64 {k}",
            f"  store i64 %item{k}, ptr %item.at{k}",
        ]
    lines += [
        "  %result.item = field i64 %entry ENTRY.item",
        f"  %result.slot = getelementptr i64, ptr %items, i64 {arity}",
        "  store i64 %result.item, ptr %result.slot",
        f"  %loops = call i64 @spread(ptr %arrays, i64 {arity}, i64 %all.axes, ptr %items, ptr %new.shape, "
        "ptr %lengths, ptr %moves)",
        "  %broadcasts = icmp sgt i64 %loops, 0",
        "  br i1 %broadcasts, label %looped, label %odd",
        "odd:",
        "  %all.single = icmp eq i64 %loops, 0",
        "  br i1 %all.single, label %kernel, label %unusual",
        "looped:",
        "  %outer.loops = sub i64 %loops, 1",
    ]
    # In the innermost loop an operand is one number where its pointer stays.
    for k in operands:
        lines += [
            f"  %step{k} = item i64 %moves {k}",
            f"  %stays{k} = icmp eq i64 %step{k}, 0",
            f"  %inner.bit{k} = select i1 %stays{k}, i64 {1 << k}, i64 0",
        ]
        if k:
            lines.append(f"  %inner.mask{k} = or i64 {'%inner.mask' if k > 1 else '%inner.bit'}{k - 1}, %inner.bit{k}")
    looped_mask = f"%inner.mask{last}" if last else "%inner.bit0"
    lines += [
        "  br label %kernel",
        "kernel:",
        f"  %mask = phi i64 [%alike.mask, %alike], [{looped_mask}, %looped], [0, %odd]",
        "  %outer = phi i64 [0, %alike], [%outer.loops, %looped], [0, %odd]",
        f"  %ndim = phi i32 [%alike.ndim, %alike], [{before[2]}, %looped], [{before[2]}, %odd]",
        "  %shape.of.result = phi ptr [%alike.lengths, %alike], [%new.shape, %looped], [%new.shape, %odd]",
        "  %is.alike = phi i1 [true, %alike], [false, %looped], [false, %odd]",
        "  %kernels = getelementptr i8, ptr %entry, i64 ENTRY.kernels",
        "  %code = item ptr %kernels %mask",
        "  %code.number = ptrtoint ptr %code to i64",
        "  switch i64 %code.number, label %make [i64 0, label %missing  i64 NEVER, label %unusual]",
        "make:",
        "  %size = call i64 @size(i32 %ndim, ptr %shape.of.result)",
        "  %little = field i64 %entry ENTRY.little",
        "  %is.little = icmp sle i64 %size, %little",
        "  %parallel = field ptr %process EAGER.parallel",
        "  %has.pool = icmp ne ptr %parallel, null",
        "  %can.run = or i1 %is.little, %has.pool",
        "  br i1 %can.run, label %allocate, label %missing",
        "allocate:",
        "  %new.array = field ptr %process EAGER.new_array",
        "  %dtype = field ptr %entry ENTRY.result",
        "  hold %dtype ; which the array takes from us",
        "  %y = call ptr %new.array(ptr %ndarray, ptr %dtype, i32 %ndim, ptr %shape.of.result, ptr null, ptr null, "
        "i32 0, ptr null)",
        "  %no.array = icmp eq ptr %y, null",
        "  br i1 %no.array, label %error, label %table",
        "table:",
    ]
    lines += [f"  put %context {k} %data{k}" for k in operands]
    lines += [
        "  %result = field ptr %y ARRAY.data",
        f"  put %context {arity} %result",
        "  %whole = icmp eq i64 %outer, 0",
        "  br i1 %is.little, label %locked, label %unlocked0",
        "locked:",
        "  br i1 %whole, label %at.once, label %in.loops",
        "at.once:",
        "  call void %code(ptr %context, i64 0, i64 %size)",
        "  br label %finish",
        "in.loops:",
        f"  call void @run_loops(ptr %code, ptr %context, ptr %lengths, ptr %moves, i64 {arity + 1}, i64 %outer)",
        "  br label %finish",
    ]
    # While others run, the arrays must not go; nobody else may have a reference to them.
    for k in operands:
        following = f"unlocked{k + 1}" if k + 1 < arity else "work"
        lines += [
            f"unlocked{k}:",
            f"  br i1 %number{k}, label %{following}, label %hold{k}",
            f"hold{k}:",
            f"  hold %array{k}.is",
            f"  br label %{following}",
        ]
    lines += [
        "work:",
        "  call void @run_unlocked(ptr %process, ptr %entry, ptr %code, ptr %context, ptr %lengths, ptr %moves, "
        f"i64 {arity + 1}, i64 %size, i64 %outer)",
        "  %decrease = field ptr %process EAGER.decrease",
        "  br label %relocked0",
    ]
    for k in operands:
        following = f"relocked{k + 1}" if k + 1 < arity else "finish"
        lines += [
            f"relocked{k}:",
            f"  br i1 %number{k}, label %{following}, label %let.go{k}",
            f"let.go{k}:",
            f"  call void %decrease(ptr %array{k}.is)",
            f"  br label %{following}",
        ]
    lines += [
        "finish:",
        "  br i1 %is.alike, label %like.owner, label %own.shape",
        "like.owner:",
        f"  %shape = field ptr %shape.owner{last} WRAPPER.shape",
        "  %wrapped = call ptr @wrap(ptr %process, ptr %y, ptr %dtype, ptr %shape)",
        "  ret ptr %wrapped",
        "own.shape:",
        "  %wrapped.anew = call ptr @wrap_anew(ptr %process, ptr %y)",
        "  ret ptr %wrapped.anew",
        "error:",
        "  ret ptr null",
        "unusual:",
        "  ret ptr inttoptr (i64 UNUSUAL to ptr)",
        "missing:",
        "  ret ptr inttoptr (i64 MISSING to ptr)",
        "}",
    ]
    return "\n".join(lines)


# What Python is asked to do instead.
OTHERWISE = """
define internal ptr @answer(ptr %operation, ptr %result, ptr %arguments, i64 %count) {
start:
  %number = ptrtoint ptr %result to i64
  switch i64 %number, label %done [i64 UNUSUAL, label %usual  i64 MISSING, label %missing]
done:
  ret ptr %result
usual:
  %python = field ptr %operation OPERATION.usual
  br label %ask
missing:
  %asking = field ptr %operation OPERATION.missing
  br label %ask
ask:
  %function = phi ptr [%python, %usual], [%asking, %missing]
  %process = field ptr %operation OPERATION.process
  %vectorcall = field ptr %process EAGER.vectorcall
  %given = call ptr %vectorcall(ptr %function, ptr %arguments, i64 %count, ptr null)
  ret ptr %given
}
"""


def method_text(number: int, arity: int, reflected: bool) -> str:
    """A method of arrays, METH_O or METH_NOARGS: the operation in the place `number` of the table."""
    given = ["%self", "%other"][:arity]
    swapped = reversed(given) if reflected else given
    lines = [
        f"define ptr @method{number}(ptr %self, ptr %other) {{",
        "start:",
        f"  %arguments = alloca [{arity} x ptr], align 8",
        f"  %place = getelementptr ptr, ptr @operations, i64 {number}",
        "  %operation = load ptr, ptr %place",
        f"  %result = call ptr @apply{arity}(ptr %operation, {', '.join(f'ptr {x}' for x in swapped)})",
        "  %number = ptrtoint ptr %result to i64",
        "  %is.done = icmp ugt i64 %number, MISSING",
        "  br i1 %is.done, label %done, label %otherwise",
        "done:",
        "  ret ptr %result",
        "otherwise:",
        *[f"  put %arguments {place} {x}" for place, x in enumerate(given)],
        f"  %given = call ptr @answer(ptr %operation, ptr %result, ptr %arguments, i64 {arity})",
        "  ret ptr %given",
        "}",
    ]
    return "\n".join(lines)


# Functions: of one operand METH_O, of several METH_FASTCALL. `self` is a tuple with the words of the operation.
FUNCTIONS = """
define ptr @function1(ptr %self, ptr %x) {
start:
  %arguments = alloca [1 x ptr], align 8
  %words = field ptr %self TUPLE.items
  %operation = field ptr %words ARRAY.data
  %result = call ptr @apply1(ptr %operation, ptr %x)
  put %arguments 0 %x
  %given = call ptr @answer(ptr %operation, ptr %result, ptr %arguments, i64 1)
  ret ptr %given
}

define ptr @functions(ptr %self, ptr %arguments, i64 %count) {
start:
  %words = field ptr %self TUPLE.items
  %operation = field ptr %words ARRAY.data
  %result = call ptr @apply(ptr %operation, ptr %arguments, i64 %count)
  %given = call ptr @answer(ptr %operation, ptr %result, ptr %arguments, i64 %count)
  ret ptr %given
}

define internal ptr @apply(ptr %operation, ptr %arguments, i64 %count) {
start:
  %arity = field i64 %operation OPERATION.arity
  %right.count = icmp eq i64 %arity, %count
  br i1 %right.count, label %choose, label %unusual
choose:
  switch i64 %count, label %unusual [i64 1, label %one  i64 2, label %two  i64 3, label %three]
one:
  %x = item ptr %arguments 0
  %of.one = call ptr @apply1(ptr %operation, ptr %x)
  ret ptr %of.one
two:
  %x0 = item ptr %arguments 0
  %x1 = item ptr %arguments 1
  %of.two = call ptr @apply2(ptr %operation, ptr %x0, ptr %x1)
  ret ptr %of.two
three:
  %y0 = item ptr %arguments 0
  %y1 = item ptr %arguments 1
  %y2 = item ptr %arguments 2
  %of.three = call ptr @apply3(ptr %operation, ptr %y0, ptr %y1, ptr %y2)
  ret ptr %of.three
unusual:
  ret ptr inttoptr (i64 UNUSUAL to ptr)
}
"""
