"""The text of the builtins that eager operations are, in the language of `builtin.py`.

From below: whether a transform is at work (`calm`), what the operands are (`number`, `fit`, `apply`), the array
of the result (`wrap`), and the builtins themselves: methods of arrays, and functions.

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

; Writes a Python number as an element of the entry's dtype; false if that is left to Python.
define internal i1 @number(ptr %process, ptr %entry, ptr %x, ptr %slot, i1 %integers) {
start:
  %type = field ptr %x OBJECT.type
  %form = field i64 %entry ENTRY.form
  %float.type = field ptr %process EAGER.float
  %is.float = icmp eq ptr %type, %float.type
  br i1 %is.float, label %float, label %other
float:
  %number = field double %x FLOAT.value
  br label %floating
other:
  %int.type = field ptr %process EAGER.int
  %is.int = icmp eq ptr %type, %int.type
  %takes.it = and i1 %is.int, %integers
  br i1 %takes.it, label %integer, label %no
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
  ret i1 %within
to.float:
  %rounded = sitofp i64 %whole to double
  br label %floating
floating:
  %value = phi double [%number, %float], [%rounded, %to.float]
  switch i64 %form, label %no [i64 FORM_FLOAT32, label %single  i64 FORM_FLOAT64, label %double]
single:
  %short = fptrunc double %value to float
  store float %short, ptr %slot
  ret i1 true
double:
  store double %value, ptr %slot
  ret i1 true
no:
  ret i1 false
}

; How the shape of an array fits that of another one: 0 if it does not, 1 if they are the same, 2 if the other one has
; more axes, of which the last ones are the same.
define internal i64 @fit(ptr %x, ptr %y) {
start:
  %same = icmp eq ptr %x, %y
  br i1 %same, label %yes, label %axes
axes:
  %ndim = field i32 %x ARRAY.ndim
  %other.ndim = field i32 %y ARRAY.ndim
  %fewer = icmp sle i32 %ndim, %other.ndim
  br i1 %fewer, label %lengths, label %no
lengths:
  %shape = field ptr %x ARRAY.shape
  %whole.shape = field ptr %y ARRAY.shape
  %count = zext i32 %ndim to i64
  %missing.axes = sub i32 %other.ndim, %ndim
  %skipped = zext i32 %missing.axes to i64
  %other.shape = getelementptr i64, ptr %whole.shape, i64 %skipped
  br label %compare
compare:
  for %axis below %count
  %length = item i64 %shape %axis
  %other.length = item i64 %other.shape %axis
  %same.length = icmp eq i64 %length, %other.length
  br i1 %same.length, label %next, label %no
next:
  end
  %all = icmp eq i64 %skipped, 0
  %fit = select i1 %all, i64 1, i64 2
  ret i64 %fit
yes:
  ret i64 1
no:
  ret i64 0
}

define internal i64 @size(ptr %x) {
start:
  %ndim = field i32 %x ARRAY.ndim
  %shape = field ptr %x ARRAY.shape
  %count = zext i32 %ndim to i64
  %total = alloca i64
  store i64 1, ptr %total
  br label %multiply
multiply:
  for %axis below %count
  %length = item i64 %shape %axis
  %before = load i64, ptr %total
  %more = mul i64 %before, %length
  store i64 %more, ptr %total
  end
  %size = load i64, ptr %total
  ret i64 %size
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

; Runs a kernel for each row of `inner` elements. In `steps` is the size of an element for each pointer in the context
; that moves on from row to row, and 0 for others.
define internal void @run_rows(ptr %kernel, ptr %context, ptr %steps, i64 %pointers, i64 %size, i64 %inner) {
start:
  %rows = udiv i64 %size, %inner
  br label %each
each:
  for %row below %rows
  call void %kernel(ptr %context, i64 0, i64 %inner)
  br label %move
move:
  for %i below %pointers
  %pointer = item ptr %context %i
  %bytes = item i64 %steps %i
  %step = mul i64 %bytes, %inner
  %moved = getelementptr i8, ptr %pointer, i64 %step
  put %context %i %moved
  end
  br label %moved.all
moved.all:
  end
  ret void
}

; Runs a kernel that takes so long that other threads of Python should run meanwhile.
define internal void @run_unlocked(ptr %process, ptr %entry, ptr %kernel, ptr %context, ptr %steps, i64 %pointers,
                                   i64 %size, i64 %inner) {
start:
  %save = field ptr %process EAGER.save_thread
  %restore = field ptr %process EAGER.restore_thread
  %parallel = field ptr %process EAGER.parallel
  %chunk = field i64 %entry ENTRY.chunk
  %thread = call ptr %save()
  %whole = icmp eq i64 %inner, 0
  br i1 %whole, label %one, label %rows
one:
  call void %parallel(ptr %kernel, ptr %context, i64 %size, i64 %chunk)
  br label %done
rows:
  call void @run_rows(ptr %kernel, ptr %context, ptr %steps, i64 %pointers, i64 %size, i64 %inner)
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

# Whether the operand has the dtype that the entry wants, and the shape of the result if it has axes.
CHECK = """
check{k}:
  br i1 %number{k}, label %convert{k}, label %compare{k}
convert{k}:
  %converted{k} = call i1 @number(ptr %process, ptr %entry, ptr %x{k}, ptr %slot{k}, i1 %integers)
  br i1 %converted{k}, label %{next}, label %unusual
compare{k}:
  %dtype{k} = field ptr %array{k}.is ARRAY.dtype
  %wanted{k} = field ptr %entry ENTRY.dtype{k}
  %right.dtype{k} = icmp eq ptr %dtype{k}, %wanted{k}
  br i1 %right.dtype{k}, label %shape{k}, label %unusual
shape{k}:
  br i1 %long{k}, label %shaped{k}, label %{next}
shaped{k}:
  %fit{k} = call i64 @fit(ptr %array{k}.is, ptr %shape.array{last})
  switch i64 %fit{k}, label %rows{k} [i64 0, label %unusual  i64 1, label %full{k}]
full{k}:
  %item{k} = field i64 %entry ENTRY.item{k}
  store i64 %item{k}, ptr %step{k}
  br label %{next}
rows{k}:
  ; The operand is the same for each row of the result.
  %length{k} = call i64 @size(ptr %array{k}.is)
  %other{k} = load i64, ptr %inner
  %only{k} = icmp eq i64 %other{k}, 0
  %alike{k} = icmp eq i64 %other{k}, %length{k}
  %fine{k} = or i1 %only{k}, %alike{k}
  store i64 %length{k}, ptr %inner
  br i1 %fine{k}, label %{next}, label %unusual
"""


def apply_text(arity: int) -> str:
    """`apply` for so many operands."""
    operands = range(arity)
    lines = [f"define internal ptr @apply{arity}(ptr %operation, {', '.join(f'ptr %x{k}' for k in operands)}) {{"]
    lines += [
        "start:",
        f"  %numbers = alloca [{arity} x i64], align 8",
        f"  %context = alloca [{arity + 1} x ptr], align 8",
        f"  %steps = alloca [{arity + 1} x i64], align 8",
        "  %inner = alloca i64, align 8",
        "  store i64 0, ptr %inner",
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
        lines.insert(-1, f"  %step{k} = getelementptr i64, ptr %steps, i64 {k}")
        lines.insert(-1, f"  store i64 0, ptr %step{k}")
    for k in operands:
        lines.append(OPERAND.format(k=k, next=f"look{k + 1}" if k + 1 < arity else "choose"))
    # The array whose dtype chooses the entry is the last one; the one whose shape is that of the result has most axes.
    lines += ["choose:", "  %some0 = or i1 false, %strong0", "  %any.long0 = or i1 false, %long0"]
    lines += [f"  %some{k} = or i1 %some{k - 1}, %strong{k}" for k in operands[1:]]
    lines += [f"  %any.long{k} = or i1 %any.long{k - 1}, %long{k}" for k in operands[1:]]
    last = arity - 1
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
        "  %entries = getelementptr i8, ptr %operation, i64 OPERATION.entries",
        "  %entry = item ptr %entries %place",
        "  %no.entry = icmp eq ptr %entry, null",
        "  %integers.wanted = field i64 %operation OPERATION.integers",
        "  %integers = icmp ne i64 %integers.wanted, 0",
        "  br i1 %no.entry, label %missing, label %check0",
    ]
    for k in operands:
        following = f"check{k + 1}" if k + 1 < arity else "kernel"
        lines.append(CHECK.format(k=k, last=last, next=following))
    lines += ["kernel:", "  %mask0 = select i1 %long0, i64 0, i64 1"]
    for k in operands[1:]:
        lines.append(f"  %bit{k} = select i1 %long{k}, i64 0, i64 {1 << k}")
        lines.append(f"  %mask{k} = or i64 %mask{k - 1}, %bit{k}")
    lines += [
        f"  %mask = select i1 %any.long{last}, i64 %mask{last}, i64 0",
        "  %kernels = getelementptr i8, ptr %entry, i64 ENTRY.kernels",
        "  %code = item ptr %kernels %mask",
        "  %code.number = ptrtoint ptr %code to i64",
        "  switch i64 %code.number, label %make [i64 0, label %missing  i64 NEVER, label %unusual]",
        "make:",
        f"  %size = call i64 @size(ptr %shape.array{last})",
        "  %little = field i64 %entry ENTRY.little",
        "  %is.little = icmp sle i64 %size, %little",
        "  %parallel = field ptr %process EAGER.parallel",
        "  %has.pool = icmp ne ptr %parallel, null",
        "  %can.run = or i1 %is.little, %has.pool",
        "  br i1 %can.run, label %allocate, label %missing",
        "allocate:",
        f"  %ndim = field i32 %shape.array{last} ARRAY.ndim",
        f"  %lengths = field ptr %shape.array{last} ARRAY.shape",
        "  %new.array = field ptr %process EAGER.new_array",
        "  %dtype = field ptr %entry ENTRY.result",
        "  hold %dtype ; which the array takes from us",
        "  %y = call ptr %new.array(ptr %ndarray, ptr %dtype, i32 %ndim, ptr %lengths, ptr null, ptr null, i32 0, "
        "ptr null)",
        "  %no.array = icmp eq ptr %y, null",
        "  br i1 %no.array, label %error, label %table",
        "table:",
    ]
    lines += [f"  put %context {k} %data{k}" for k in operands]
    lines += [
        f"  %step = getelementptr i64, ptr %steps, i64 {arity}",
        "  %result.item = field i64 %entry ENTRY.item",
        "  store i64 %result.item, ptr %step",
        "  %result = field ptr %y ARRAY.data",
        f"  put %context {arity} %result",
        "  %length = load i64, ptr %inner",
        "  %whole = icmp eq i64 %length, 0",
        "  br i1 %is.little, label %locked, label %unlocked0",
        "locked:",
        "  br i1 %whole, label %at.once, label %in.rows",
        "at.once:",
        "  call void %code(ptr %context, i64 0, i64 %size)",
        "  br label %finish",
        "in.rows:",
        f"  call void @run_rows(ptr %code, ptr %context, ptr %steps, i64 {arity + 1}, i64 %size, i64 %length)",
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
        "  call void @run_unlocked(ptr %process, ptr %entry, ptr %code, ptr %context, ptr %steps, "
        f"i64 {arity + 1}, i64 %size, i64 %length)",
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
        f"  %shape = field ptr %shape.owner{last} WRAPPER.shape",
        "  %wrapped = call ptr @wrap(ptr %process, ptr %y, ptr %dtype, ptr %shape)",
        "  ret ptr %wrapped",
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
