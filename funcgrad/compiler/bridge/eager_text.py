"""The text of the builtins that eager operations are, in the language of `builtin.py`.

From below: whether a transform is at work (`calm`), what the operands are (`number`, `same_shape`, `apply`), the array
of the result (`wrap`), and the builtins themselves: methods of arrays, functions, and the call of a primitive.

`apply` gives the result, null with an error, or one of two numbers that are no addresses: UNUSUAL for operands that it
leaves to Python, and MISSING for those of which it has no kernel yet.
"""

from __future__ import annotations

COMMON = """
@operations = global [METHODS x ptr] zeroinitializer, align 16

; Whether no transform concerns itself with plain values.
define internal i1 @calm(ptr %process) {
start:
  %slot = alloca ptr
  %get = field ptr %process EAGER.get_context
  %variable = field ptr %process EAGER.context
  %status = call i32 %get(ptr %variable, ptr null, ptr %slot)
  %here = load ptr, ptr %slot
  %nobody = icmp eq ptr %here, null
  br i1 %nobody, label %no, label %look
look:
  release %here ; the context has another reference
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

define internal i1 @same_shape(ptr %x, ptr %y) {
start:
  %same = icmp eq ptr %x, %y
  br i1 %same, label %yes, label %axes
axes:
  %ndim = field i32 %x ARRAY.ndim
  %other.ndim = field i32 %y ARRAY.ndim
  %same.ndim = icmp eq i32 %ndim, %other.ndim
  br i1 %same.ndim, label %lengths, label %no
lengths:
  %shape = field ptr %x ARRAY.shape
  %other.shape = field ptr %y ARRAY.shape
  %count = zext i32 %ndim to i64
  br label %compare
compare:
  for %axis below %count
  %length = item i64 %shape %axis
  %other.length = item i64 %other.shape %axis
  %same.length = icmp eq i64 %length, %other.length
  br i1 %same.length, label %next, label %no
next:
  end
  br label %yes
yes:
  ret i1 true
no:
  ret i1 false
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

; Runs a kernel that takes so long that other threads of Python should run meanwhile.
define internal void @run_unlocked(ptr %process, ptr %entry, ptr %kernel, ptr %context, i64 %size) {
start:
  %save = field ptr %process EAGER.save_thread
  %restore = field ptr %process EAGER.restore_thread
  %parallel = field ptr %process EAGER.parallel
  %chunk = field i64 %entry ENTRY.chunk
  %thread = call ptr %save()
  call void %parallel(ptr %kernel, ptr %context, i64 %size, i64 %chunk)
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
  %fits{k} = call i1 @same_shape(ptr %array{k}.is, ptr %shape.array{last})
  br i1 %fits{k}, label %{next}, label %unusual
"""


def apply_text(arity: int) -> str:
    """`apply` for so many operands."""
    operands = range(arity)
    lines = [f"define internal ptr @apply{arity}(ptr %operation, {', '.join(f'ptr %x{k}' for k in operands)}) {{"]
    lines += [
        "start:",
        f"  %numbers = alloca [{arity} x i64], align 8",
        f"  %context = alloca [{arity + 1} x ptr], align 8",
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
        lines.append(OPERAND.format(k=k, next=f"look{k + 1}" if k + 1 < arity else "choose"))
    # The array whose dtype chooses the entry is the last one; the one whose shape is that of the result, the last one
    # with axes.
    lines += ["choose:", "  %some0 = or i1 false, %strong0", "  %any.long0 = or i1 false, %long0"]
    lines += [f"  %some{k} = or i1 %some{k - 1}, %strong{k}" for k in operands[1:]]
    lines += [f"  %any.long{k} = or i1 %any.long{k - 1}, %long{k}" for k in operands[1:]]
    last = arity - 1
    lines += ["  %lead0 = select i1 true, ptr %array0.is, ptr null", "  %leader0 = select i1 true, ptr %x0, ptr null"]
    for k in operands[1:]:
        lines.append(f"  %lead{k} = select i1 %number{k}, ptr %lead{k - 1}, ptr %array{k}.is")
        lines.append(f"  %leader{k} = select i1 %number{k}, ptr %leader{k - 1}, ptr %x{k}")
    before_array, before_owner = f"%lead{last}", f"%leader{last}"
    for k in operands:
        lines.append(f"  %shape.array{k} = select i1 %long{k}, ptr %array{k}.is, ptr {before_array}")
        lines.append(f"  %shape.owner{k} = select i1 %long{k}, ptr %x{k}, ptr {before_owner}")
        before_array, before_owner = f"%shape.array{k}", f"%shape.owner{k}"
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
        "  %result = field ptr %y ARRAY.data",
        f"  put %context {arity} %result",
        "  %little = field i64 %entry ENTRY.little",
        "  %is.little = icmp sle i64 %size, %little",
        "  br i1 %is.little, label %locked, label %unlocked0",
        "locked:",
        "  call void %code(ptr %context, i64 0, i64 %size)",
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
        "  call void @run_unlocked(ptr %process, ptr %entry, ptr %code, ptr %context, i64 %size)",
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

# The call of a primitive, METH_FASTCALL | METH_KEYWORDS of its class. What has no kernel is computed by its `evaluate`.
PRIMITIVE = """
define ptr @primitive(ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %native = field ptr %self PRIMITIVE.native
  %no.params = icmp eq ptr %names, null
  %no.native = icmp eq ptr %native, null
  br i1 %no.native, label %evaluate, label %may.be.native
may.be.native:
  %native.type = field ptr %native OBJECT.type
  %ndarray = load ptr, ptr @ndarray
  %is.words = icmp eq ptr %native.type, %ndarray
  %fine = and i1 %is.words, %no.params
  br i1 %fine, label %apply, label %evaluate
apply:
  %operation = field ptr %native ARRAY.data
  %result = call ptr @apply(ptr %operation, ptr %arguments, i64 %count)
  %number = ptrtoint ptr %result to i64
  switch i64 %number, label %done [i64 UNUSUAL, label %evaluate  i64 MISSING, label %missing]
done:
  ret ptr %result
missing:
  %asking = field ptr %operation OPERATION.missing
  %found = call ptr @with_self(ptr %asking, ptr %self, ptr %arguments, i64 %count, ptr %names)
  ret ptr %found
evaluate:
  %value = call ptr @evaluate(ptr %self, ptr %arguments, i64 %count, ptr %names)
  %value.number = ptrtoint ptr %value to i64
  %usual = icmp eq i64 %value.number, UNUSUAL
  br i1 %usual, label %python, label %evaluated
evaluated:
  ret ptr %value
python:
  %process = load ptr, ptr @process
  %method = field ptr %process EAGER.call
  %given = call ptr @with_self(ptr %method, ptr %self, ptr %arguments, i64 %count, ptr %names)
  ret ptr %given
}

; How many arguments there are, those with names included.
define internal i64 @all_arguments(i64 %count, ptr %names) {
start:
  %none = icmp eq ptr %names, null
  br i1 %none, label %only, label %both
only:
  ret i64 %count
both:
  %named = field i64 %names TUPLE.size
  %all = add i64 %count, %named
  ret i64 %all
}

; function(self, *arguments), with names for the last of them.
define internal ptr @with_self(ptr %function, ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %all = call i64 @all_arguments(i64 %count, ptr %names)
  %size = add i64 %all, 1
  %table = alloca ptr, i64 %size
  store ptr %self, ptr %table
  %rest = getelementptr ptr, ptr %table, i64 1
  br label %copy
copy:
  for %i below %all
  %argument = item ptr %arguments %i
  put %rest %i %argument
  end
  %more = add i64 %count, 1
  %process = load ptr, ptr @process
  %vectorcall = field ptr %process EAGER.vectorcall
  %given = call ptr %vectorcall(ptr %function, ptr %table, i64 %more, ptr %names)
  ret ptr %given
}

; What the rule `evaluate` gives for the buffers of plain arrays, as an array; UNUSUAL if the usual way has to be gone.
define internal ptr @evaluate(ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %process = load ptr, ptr @process
  %rule = field ptr %self PRIMITIVE.evaluate
  %no = field ptr %process EAGER.false
  %carries = field ptr %self PRIMITIVE.carries_functions
  %effects = field ptr %self PRIMITIVE.has_effects
  %several = field ptr %self PRIMITIVE.multiple_results
  %no.rule = icmp eq ptr %rule, null
  %no.functions = icmp eq ptr %carries, %no
  %no.effects = icmp eq ptr %effects, %no
  %single = icmp eq ptr %several, %no
  %plain = and i1 %no.functions, %no.effects
  %plainer = and i1 %plain, %single
  %some = icmp sgt i64 %count, 0
  %plainest = and i1 %plainer, %some
  %with.rule = xor i1 %no.rule, true
  %fine = and i1 %plainest, %with.rule
  br i1 %fine, label %ask, label %unusual
ask:
  %is.calm = call i1 @calm(ptr %process)
  br i1 %is.calm, label %begin, label %unusual
begin:
  %all = call i64 @all_arguments(i64 %count, ptr %names)
  %table = alloca ptr, i64 %all
  %concrete = field ptr %process EAGER.concrete
  %ndarray = field ptr %process EAGER.ndarray
  %decrease = field ptr %process EAGER.decrease
  br label %operands
operands:
  for %i below %count
  %x = item ptr %arguments %i
  %type = field ptr %x OBJECT.type
  %ours = icmp eq ptr %type, %concrete
  br i1 %ours, label %look, label %unusual
look:
  %buffer = field ptr %x WRAPPER.data
  %empty = icmp eq ptr %buffer, null
  br i1 %empty, label %unusual, label %closer
closer:
  %buffer.type = field ptr %buffer OBJECT.type
  %is.ndarray = icmp eq ptr %buffer.type, %ndarray
  br i1 %is.ndarray, label %right, label %unusual
right:
  put %table %i %buffer
  end
  br label %params
params:
  for %j below %all
  %is.param = icmp sge i64 %j, %count
  br i1 %is.param, label %copy, label %keep
copy:
  %param = item ptr %arguments %j
  put %table %j %param
  br label %next
keep:
  %kept = item ptr %table %j
  hold %kept
  br label %next
next:
  end
  %first = load ptr, ptr %table
  %vectorcall = field ptr %process EAGER.vectorcall
  %value = call ptr %vectorcall(ptr %rule, ptr %table, i64 %count, ptr %names)
  %failed = icmp eq ptr %value, null
  br i1 %failed, label %clean, label %measure
measure:
  %value.type = field ptr %value OBJECT.type
  %is.array = icmp eq ptr %value.type, %ndarray
  br i1 %is.array, label %array, label %clean
array:
  ; Most results have the shape of the first operand, and may share it.
  %like.first = call i1 @same_shape(ptr %value, ptr %first)
  br label %clean
clean:
  %shares = phi i1 [false, %j.done], [false, %measure], [%like.first, %array]
  %wraps = phi i1 [false, %j.done], [false, %measure], [true, %array]
  br label %release
release:
  for %k below %count
  %held = item ptr %table %k
  call void %decrease(ptr %held)
  end
  br i1 %failed, label %error, label %made
made:
  br i1 %wraps, label %shape, label %scalar
shape:
  br i1 %shares, label %shared, label %own
shared:
  %owner = load ptr, ptr %arguments
  %owner.shape = field ptr %owner WRAPPER.shape
  %increase = field ptr %process EAGER.increase
  call void %increase(ptr %owner.shape)
  br label %finish
own:
  %attribute = field ptr %process EAGER.attribute
  %name = field ptr %process EAGER.shape
  %new.shape = call ptr %attribute(ptr %value, ptr %name)
  %no.shape = icmp eq ptr %new.shape, null
  br i1 %no.shape, label %lose, label %finish
finish:
  %known.shape = phi ptr [%owner.shape, %shared], [%new.shape, %own]
  %dtype = field ptr %value ARRAY.dtype
  %wrapped = call ptr @wrap(ptr %process, ptr %value, ptr %dtype, ptr %known.shape)
  call void %decrease(ptr %known.shape)
  ret ptr %wrapped
lose:
  call void %decrease(ptr %value)
  ret ptr null
scalar:
  ; A number of NumPy's, or a buffer of another module.
  %pair = alloca [2 x ptr], align 8
  put %pair 0 %value
  %wrapper = field ptr %process EAGER.wrap
  %given = call ptr %vectorcall(ptr %wrapper, ptr %pair, i64 1, ptr null)
  call void %decrease(ptr %value)
  ret ptr %given
error:
  ; Python's own way finds out why, by doing it again; but not where somebody interrupted it.
  %matches = field ptr %process EAGER.error_matches
  %exception = field ptr %process EAGER.exception
  %ordinary = call i32 %matches(ptr %exception)
  %is.ordinary = icmp ne i32 %ordinary, 0
  br i1 %is.ordinary, label %clear, label %interrupted
clear:
  %clear.error = field ptr %process EAGER.clear_error
  call void %clear.error()
  br label %unusual
interrupted:
  ret ptr null
unusual:
  ret ptr inttoptr (i64 UNUSUAL to ptr)
}

@process = global ptr null, align 8
@ndarray = global ptr null, align 8

define void @set_up(ptr %process, ptr %operations) {
start:
  store ptr %process, ptr @process
  %array = field ptr %process EAGER.ndarray
  store ptr %array, ptr @ndarray
  br label %copy
copy:
  for %i below METHODS
  %operation = item ptr %operations %i
  put @operations %i %operation
  end
  ret void
}
"""
