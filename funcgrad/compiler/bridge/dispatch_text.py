"""The text of the call of primitives as a builtin, and of what it is under forward mode.

The call of a primitive with plain arrays goes to its kernel, or if there is none, to its rule `evaluate`. With tracers
of forward mode it goes to its rule `jvp` or `linearize`; the same is written in Python in `transforms.jvp`. Everything
else is left to Python.

References: what these functions get is held by their callers; what they give belongs to their callers.
"""

from __future__ import annotations

# The call of a primitive, METH_FASTCALL | METH_KEYWORDS of its class. What has no kernel is computed by its `evaluate`.
PRIMITIVE = """
define ptr @primitive(ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %value = call ptr @compute(ptr %self, ptr %arguments, i64 %count, ptr %names)
  %number = ptrtoint ptr %value to i64
  switch i64 %number, label %done [i64 UNUSUAL, label %python  i64 TRACED, label %interpret]
done:
  ret ptr %value
interpret:
  %meaning = call ptr @interpret(ptr %self, ptr %arguments, i64 %count, ptr %names)
  %meaning.number = ptrtoint ptr %meaning to i64
  %not.forward = icmp eq i64 %meaning.number, UNUSUAL
  br i1 %not.forward, label %python, label %interpreted
interpreted:
  ret ptr %meaning
python:
  %process = load ptr, ptr @process
  %method = field ptr %process EAGER.call
  %given = call ptr @with_self(ptr %method, ptr %self, ptr %arguments, i64 %count, ptr %names)
  ret ptr %given
}

; What a primitive is for plain arrays; TRACED if these are none, and UNUSUAL if it failed.
define internal ptr @compute(ptr %self, ptr %arguments, i64 %count, ptr %names) {
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
  ret ptr %value
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

; What the rule `evaluate` gives for the buffers of plain arrays, as an array; TRACED if these are none, and UNUSUAL if
; the rule failed.
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
  br i1 %fine, label %ask, label %traced
ask:
  %is.calm = call i1 @calm(ptr %process)
  br i1 %is.calm, label %begin, label %traced
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
  br i1 %ours, label %look, label %traced
look:
  %buffer = field ptr %x WRAPPER.data
  %empty = icmp eq ptr %buffer, null
  br i1 %empty, label %traced, label %closer
closer:
  %buffer.type = field ptr %buffer OBJECT.type
  %is.ndarray = icmp eq ptr %buffer.type, %ndarray
  br i1 %is.ndarray, label %right, label %traced
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
  %dtype = field ptr %value ARRAY.dtype
  %wrapped = call ptr @wrap(ptr %process, ptr %value, ptr %dtype, ptr %owner.shape)
  ret ptr %wrapped
own:
  %wrapped.anew = call ptr @wrap_anew(ptr %process, ptr %value)
  ret ptr %wrapped.anew
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
traced:
  ret ptr inttoptr (i64 TRACED to ptr)
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

# `Forward.interpret`: `jvp` and `linearize` rules of a primitive that meets a tracer of the current interpreter.
FORWARD = """
; Whether a value is a tracer of a kind that belongs to an interpreter.
define internal i1 @belongs(ptr %x, ptr %class, ptr %interpreter) {
start:
  %type = field ptr %x OBJECT.type
  %is.tracer = icmp eq ptr %type, %class
  br i1 %is.tracer, label %look, label %no
look:
  %owner = field ptr %x TRACER.interpreter
  %is.own = icmp eq ptr %owner, %interpreter
  ret i1 %is.own
no:
  ret i1 false
}

; Makes an interpreter the current one; false with an error.
define internal i1 @enter(ptr %process, ptr %interpreter) {
start:
  %set = field ptr %process EAGER.set_context
  %variable = field ptr %process EAGER.context
  %token = call ptr %set(ptr %variable, ptr %interpreter)
  %failed = icmp eq ptr %token, null
  br i1 %failed, label %no, label %yes
yes:
  %decrease = field ptr %process EAGER.decrease
  call void %decrease(ptr %token)
  ret i1 true
no:
  ret i1 false
}

; Lets go of an object, if there is one.
define internal void @drop(ptr %process, ptr %x) {
start:
  %nothing = icmp eq ptr %x, null
  br i1 %nothing, label %done, label %some
some:
  %decrease = field ptr %process EAGER.decrease
  call void %decrease(ptr %x)
  br label %done
done:
  ret void
}

define internal ptr @interpret(ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %process = load ptr, ptr @process
  %here = call ptr @current(ptr %process)
  %nobody = icmp eq ptr %here, null
  br i1 %nobody, label %unusual, label %mode
mode:
  %none = field ptr %process EAGER.none
  %here.type = field ptr %here OBJECT.type
  %linearize.type = field ptr %process EAGER.linearize
  %forward.type = field ptr %process EAGER.forward
  %is.linearize = icmp eq ptr %here.type, %linearize.type
  %is.forward = icmp eq ptr %here.type, %forward.type
  %is.one = or i1 %is.linearize, %is.forward
  %several = field ptr %self PRIMITIVE.multiple_results
  %false = field ptr %process EAGER.false
  %single = icmp eq ptr %several, %false
  %fine = and i1 %is.one, %single
  br i1 %fine, label %rules, label %unusual
rules:
  %jvp = field ptr %self PRIMITIVE.jvp
  %linearize = field ptr %self PRIMITIVE.linearize
  %own.rule = icmp ne ptr %linearize, %none
  %takes.own = and i1 %own.rule, %is.linearize
  %rule = select i1 %takes.own, ptr %linearize, ptr %jvp
  %no.rule = icmp eq ptr %rule, %none
  %unset = icmp eq ptr %rule, null
  %without = or i1 %no.rule, %unset
  %dual = field ptr %process EAGER.dual
  br i1 %without, label %unusual, label %search
search:
  for %i below %count
  %operand = item ptr %arguments %i
  %found = call i1 @belongs(ptr %operand, ptr %dual, ptr %here)
  br i1 %found, label %active, label %next
next:
  end
  br label %unusual
active:
  br i1 %is.linearize, label %try.linear, label %lists
try.linear:
  %linearized = call ptr @linearized(ptr %process, ptr %here, ptr %self, ptr %arguments, i64 %count, ptr %names)
  %linearized.number = ptrtoint ptr %linearized to i64
  %not.linear = icmp eq i64 %linearized.number, UNUSUAL
  br i1 %not.linear, label %lists, label %recorded
recorded:
  ret ptr %linearized
lists:
  %new.list = field ptr %process EAGER.new_list
  %primals = call ptr %new.list(i64 %count)
  %tangents = call ptr %new.list(i64 %count)
  %no.primals = icmp eq ptr %primals, null
  %no.tangents = icmp eq ptr %tangents, null
  %no.lists = or i1 %no.primals, %no.tangents
  br i1 %no.lists, label %lose, label %fill
fill:
  %in.primals = field ptr %primals LIST.items
  %in.tangents = field ptr %tangents LIST.items
  %increase = field ptr %process EAGER.increase
  br label %split
split:
  for %j below %count
  %x = item ptr %arguments %j
  %is.dual = call i1 @belongs(ptr %x, ptr %dual, ptr %here)
  br i1 %is.dual, label %pair, label %alone
pair:
  %x.primal = field ptr %x DUAL.primal
  %x.tangent = field ptr %x DUAL.tangent
  br label %both
alone:
  br label %both
both:
  %primal = phi ptr [%x.primal, %pair], [%x, %alone]
  %tangent = phi ptr [%x.tangent, %pair], [%none, %alone]
  call void %increase(ptr %primal)
  call void %increase(ptr %tangent)
  put %in.primals %j %primal
  put %in.tangents %j %tangent
  end
  %attribute = field ptr %process EAGER.attribute
  %parent.name = field ptr %process EAGER.parent
  %parent = call ptr %attribute(ptr %here, ptr %parent.name)
  %no.parent = icmp eq ptr %parent, null
  br i1 %no.parent, label %lose, label %outward
outward:
  call void %increase(ptr %here) ; the context lets go of it
  %left = call i1 @enter(ptr %process, ptr %parent)
  call void @drop(ptr %process, ptr %parent)
  br i1 %left, label %apply, label %fail
apply:
  %all = call i64 @all_arguments(i64 %count, ptr %names)
  %params = sub i64 %all, %count
  %size = add i64 %params, 2
  %table = alloca ptr, i64 %size
  put %table 0 %primals
  put %table 1 %tangents
  %rest = getelementptr ptr, ptr %table, i64 2
  %given.params = getelementptr ptr, ptr %arguments, i64 %count
  br label %copy
copy:
  for %k below %params
  %param = item ptr %given.params %k
  put %rest %k %param
  end
  %vectorcall = field ptr %process EAGER.vectorcall
  %given = call ptr %vectorcall(ptr %rule, ptr %table, i64 2, ptr %names)
  call void @drop(ptr %process, ptr %primals)
  call void @drop(ptr %process, ptr %tangents)
  %pair.found = call ptr @back(ptr %process, ptr %here, ptr %given)
  call void @drop(ptr %process, ptr %here)
  %no.pair = icmp eq ptr %pair.found, null
  br i1 %no.pair, label %error, label %result
result:
  %result.and.tangent = getelementptr i8, ptr %pair.found, i64 TUPLE.items
  %the.result = item ptr %result.and.tangent 0
  %the.tangent = item ptr %result.and.tangent 1
  %is.constant = icmp eq ptr %the.tangent, %none
  br i1 %is.constant, label %constant, label %moves
constant:
  call void %increase(ptr %the.result)
  call void @drop(ptr %process, ptr %pair.found)
  ret ptr %the.result
moves:
  %tracer = call ptr @new_dual(ptr %process, ptr %here, ptr %the.result, ptr %the.tangent)
  call void @drop(ptr %process, ptr %pair.found)
  ret ptr %tracer
fail:
  call void @drop(ptr %process, ptr %here)
  br label %lose
lose:
  call void @drop(ptr %process, ptr %primals)
  call void @drop(ptr %process, ptr %tangents)
  br label %error
error:
  ret ptr null
unusual:
  ret ptr inttoptr (i64 UNUSUAL to ptr)
}

; Makes `here` the current interpreter again after a rule, which has given a pair, or null with an error. Gives the pair
; as a tuple of two, whose reference it takes over.
define internal ptr @back(ptr %process, ptr %here, ptr %given) {
start:
  %error = alloca [3 x ptr], align 8
  %value = getelementptr ptr, ptr %error, i64 1
  %trace = getelementptr ptr, ptr %error, i64 2
  %failed = icmp eq ptr %given, null
  br i1 %failed, label %keep.error, label %enter
keep.error:
  %fetch = field ptr %process EAGER.fetch_error
  call void %fetch(ptr %error, ptr %value, ptr %trace)
  br label %enter
enter:
  %entered = call i1 @enter(ptr %process, ptr %here)
  br i1 %failed, label %restore, label %look
restore:
  %e0 = load ptr, ptr %error
  %e1 = load ptr, ptr %value
  %e2 = load ptr, ptr %trace
  %restore.error = field ptr %process EAGER.restore_error
  call void %restore.error(ptr %e0, ptr %e1, ptr %e2)
  ret ptr null
look:
  br i1 %entered, label %check, label %lose
check:
  %type = field ptr %given OBJECT.type
  %tuple.type = field ptr %process EAGER.tuple
  %is.tuple = icmp eq ptr %type, %tuple.type
  br i1 %is.tuple, label %measure, label %wrong
measure:
  %size = field i64 %given TUPLE.size
  %is.pair = icmp eq i64 %size, 2
  br i1 %is.pair, label %done, label %wrong
done:
  ret ptr %given
wrong:
  %set.error = field ptr %process EAGER.set_error
  %type.error = field ptr %process EAGER.type_error
  call void %set.error(ptr %type.error, ptr @no_pair)
  br label %lose
lose:
  call void @drop(ptr %process, ptr %given)
  ret ptr null
}

@no_pair = private constant [65 x i8] c"a jvp rule has to give a tuple of the result and of its tangent.\\00"

; An attribute of an array, as a new reference: of a plain one, where it lies in memory.
define internal ptr @described(ptr %process, ptr %x, i64 %place, ptr %name) {
start:
  %type = field ptr %x OBJECT.type
  %concrete = field ptr %process EAGER.concrete
  %plain = icmp eq ptr %type, %concrete
  br i1 %plain, label %direct, label %ask
direct:
  %slot = getelementptr i8, ptr %x, i64 %place
  %value = load ptr, ptr %slot
  %increase = field ptr %process EAGER.increase
  call void %increase(ptr %value)
  ret ptr %value
ask:
  %attribute = field ptr %process EAGER.attribute
  %found = call ptr %attribute(ptr %x, ptr %name)
  ret ptr %found
}

; A value and its tangent as one tracer; null with an error.
define internal ptr @new_dual(ptr %process, ptr %interpreter, ptr %primal, ptr %tangent) {
start:
  %shape.name = field ptr %process EAGER.shape
  %dtype.name = field ptr %process EAGER.dtype
  %shape = call ptr @described(ptr %process, ptr %primal, i64 WRAPPER.shape, ptr %shape.name)
  %dtype = call ptr @described(ptr %process, ptr %primal, i64 WRAPPER.dtype, ptr %dtype.name)
  %no.shape = icmp eq ptr %shape, null
  %no.dtype = icmp eq ptr %dtype, null
  %unknown = or i1 %no.shape, %no.dtype
  br i1 %unknown, label %lose, label %make
make:
  %new.object = field ptr %process EAGER.new_object
  %class = field ptr %process EAGER.dual
  %tracer = call ptr %new.object(ptr %class, i64 0)
  %no.tracer = icmp eq ptr %tracer, null
  br i1 %no.tracer, label %lose, label %fill
fill:
  %increase = field ptr %process EAGER.increase
  call void %increase(ptr %interpreter)
  call void %increase(ptr %primal)
  call void %increase(ptr %tangent)
  set %tracer TRACER.interpreter %interpreter
  set %tracer DUAL.primal %primal
  set %tracer DUAL.tangent %tangent
  set %tracer DUAL.shape %shape
  set %tracer DUAL.dtype %dtype
  ret ptr %tracer
lose:
  call void @drop(ptr %process, ptr %shape)
  call void @drop(ptr %process, ptr %dtype)
  ret ptr null
}
"""
