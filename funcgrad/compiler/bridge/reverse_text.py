"""The text of the two steps of reverse mode as builtins, which are the same as in Python.

`linear_step`, in Python in `program`, records a step of the linear part. `backward`, in Python in `transforms.grad`,
goes through what was recorded from the end to the beginning.
"""

from __future__ import annotations

# `linear_step`, METH_FASTCALL | METH_KEYWORDS of its class: (like, primitive, *operands, **params).
LINEAR_STEP = """
define ptr @linear_step(ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %process = load ptr, ptr @process
  %enough = icmp sgt i64 %count, 2
  br i1 %enough, label %mode, label %python
mode:
  %here = call ptr @current(ptr %process)
  %nobody = icmp eq ptr %here, null
  br i1 %nobody, label %python, label %which
which:
  %here.type = field ptr %here OBJECT.type
  %record.type = field ptr %process EAGER.record
  %records = icmp eq ptr %here.type, %record.type
  %like = item ptr %arguments 0
  %like.type = field ptr %like OBJECT.type
  %concrete = field ptr %process EAGER.concrete
  %plain = icmp eq ptr %like.type, %concrete
  %fine = and i1 %records, %plain
  br i1 %fine, label %look, label %python
look:
  %stage = field ptr %process EAGER.stage
  %operands = getelementptr ptr, ptr %arguments, i64 2
  %number = sub i64 %count, 2
  br label %search
search:
  for %i below %number
  %operand = item ptr %operands %i
  %found = call i1 @belongs(ptr %operand, ptr %stage, ptr %here)
  br i1 %found, label %make, label %next
next:
  end
  br label %python
make:
  %primitive = item ptr %arguments 1
  %step = call ptr @step(ptr %process, ptr %here, ptr %like, ptr %primitive, ptr %operands, i64 %number, ptr %names)
  ret ptr %step
python:
  %method = field ptr %process EAGER.step
  %given = call ptr @with_self(ptr %method, ptr %self, ptr %arguments, i64 %count, ptr %names)
  ret ptr %given
}

; Records a step whose result looks like a plain array, and gives its tracer; null with an error.
define internal ptr @step(ptr %process, ptr %record, ptr %like, ptr %primitive, ptr %operands, i64 %count, ptr %names) {
start:
  %stage = field ptr %process EAGER.stage
  %increase = field ptr %process EAGER.increase
  %new.list = field ptr %process EAGER.new_list
  %new.tuple = field ptr %process EAGER.new_tuple
  %new.object = field ptr %process EAGER.new_object
  %attribute = field ptr %process EAGER.attribute
  %equations.name = field ptr %process EAGER.equations
  %variable.class = field ptr %process EAGER.variable
  %equation.class = field ptr %process EAGER.equation
  %atoms = call ptr %new.list(i64 %count)
  %params.found = call ptr @params(ptr %process, ptr %operands, i64 %count, ptr %names)
  %results = call ptr %new.tuple(i64 1)
  %variable = call ptr %new.object(ptr %variable.class, i64 0)
  %equation = call ptr %new.object(ptr %equation.class, i64 0)
  %tracer = call ptr %new.object(ptr %stage, i64 0)
  %equations = call ptr %attribute(ptr %record, ptr %equations.name)
  %m0 = icmp eq ptr %atoms, null
  %m1 = icmp eq ptr %params.found, null
  %m2 = icmp eq ptr %results, null
  %m3 = icmp eq ptr %variable, null
  %m4 = icmp eq ptr %equation, null
  %m5 = icmp eq ptr %tracer, null
  %m6 = icmp eq ptr %equations, null
  %n0 = or i1 %m0, %m1
  %n1 = or i1 %n0, %m2
  %n2 = or i1 %n1, %m3
  %n3 = or i1 %n2, %m4
  %n4 = or i1 %n3, %m5
  %some.missing = or i1 %n4, %m6
  br i1 %some.missing, label %lose, label %fill
fill:
  %in.atoms = field ptr %atoms LIST.items
  br label %each
each:
  for %j below %count
  %x = item ptr %operands %j
  %is.linear = call i1 @belongs(ptr %x, ptr %stage, ptr %record)
  br i1 %is.linear, label %linear, label %known
linear:
  %x.variable = field ptr %x STAGE.variable
  br label %atom
known:
  br label %atom
atom:
  %the.atom = phi ptr [%x.variable, %linear], [%x, %known]
  call void %increase(ptr %the.atom)
  put %in.atoms %j %the.atom
  end
  %shape = field ptr %like WRAPPER.shape
  %dtype = field ptr %like WRAPPER.dtype
  %false = field ptr %process EAGER.false
  %none = field ptr %process EAGER.none
  call void %increase(ptr %shape)
  call void %increase(ptr %dtype)
  call void %increase(ptr %false)
  set %variable VARIABLE.shape %shape
  set %variable VARIABLE.dtype %dtype
  set %variable VARIABLE.weak_type %false
  %in.results = getelementptr i8, ptr %results, i64 TUPLE.items
  put %in.results 0 %variable ; whose reference it has now
  call void %increase(ptr %primitive)
  call void %increase(ptr %none)
  set %equation EQUATION.operands %atoms
  set %equation EQUATION.params %params.found
  set %equation EQUATION.primitive %primitive
  set %equation EQUATION.results %results
  set %equation EQUATION.source %none
  call void %increase(ptr %record)
  call void %increase(ptr %variable)
  call void %increase(ptr %shape)
  call void %increase(ptr %dtype)
  call void %increase(ptr %false)
  set %tracer TRACER.interpreter %record
  set %tracer STAGE.variable %variable
  set %tracer STAGE.shape %shape
  set %tracer STAGE.dtype %dtype
  set %tracer STAGE.weak_type %false
  %append = field ptr %process EAGER.append
  %status = call i32 %append(ptr %equations, ptr %equation)
  call void @drop(ptr %process, ptr %equations)
  call void @drop(ptr %process, ptr %equation)
  %failed = icmp slt i32 %status, 0
  br i1 %failed, label %lose.tracer, label %done
done:
  ret ptr %tracer
lose.tracer:
  call void @drop(ptr %process, ptr %tracer)
  ret ptr null
lose:
  call void @drop(ptr %process, ptr %atoms)
  call void @drop(ptr %process, ptr %params.found)
  call void @drop(ptr %process, ptr %results)
  call void @drop(ptr %process, ptr %variable)
  call void @drop(ptr %process, ptr %equation)
  call void @drop(ptr %process, ptr %tracer)
  call void @drop(ptr %process, ptr %equations)
  ret ptr null
}

; A dict of the arguments with names, which are the last ones; null with an error.
define internal ptr @params(ptr %process, ptr %arguments, i64 %count, ptr %names) {
start:
  %new.dict = field ptr %process EAGER.new_dict
  %dict = call ptr %new.dict()
  %no.dict = icmp eq ptr %dict, null
  br i1 %no.dict, label %done, label %measure
measure:
  %all = call i64 @all_arguments(i64 %count, ptr %names)
  %named = sub i64 %all, %count
  %keys = getelementptr i8, ptr %names, i64 TUPLE.items
  %values = getelementptr ptr, ptr %arguments, i64 %count
  %set.item = field ptr %process EAGER.set_item
  br label %each
each:
  for %i below %named
  %key = item ptr %keys %i
  %value = item ptr %values %i
  %status = call i32 %set.item(ptr %dict, ptr %key, ptr %value)
  %failed = icmp slt i32 %status, 0
  br i1 %failed, label %lose, label %next
next:
  end
  ret ptr %dict
lose:
  call void @drop(ptr %process, ptr %dict)
  ret ptr null
done:
  ret ptr null
}
"""

# `backward`, METH_FASTCALL | METH_KEYWORDS of its class: (equations, outputs, cotangents, inputs).
BACKWARD = """
define ptr @backward(ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %process = load ptr, ptr @process
  %right.count = icmp eq i64 %count, 4
  %no.names = icmp eq ptr %names, null
  %four = and i1 %right.count, %no.names
  br i1 %four, label %lists, label %python
lists:
  for %a below 4
  %argument = item ptr %arguments %a
  %argument.type = field ptr %argument OBJECT.type
  %list.type = field ptr %process EAGER.list
  %is.list = icmp eq ptr %argument.type, %list.type
  br i1 %is.list, label %next.list, label %python
next.list:
  end
  %given.equations = item ptr %arguments 0
  %outputs = item ptr %arguments 1
  %cotangents = item ptr %arguments 2
  %inputs = item ptr %arguments 3
  %length = field i64 %given.equations SIZED.size
  %output.count = field i64 %outputs SIZED.size
  %cotangent.count = field i64 %cotangents SIZED.size
  %input.count = field i64 %inputs SIZED.size
  %in.equations = field ptr %given.equations LIST.items
  %each.has.one = icmp eq i64 %output.count, %cotangent.count
  br i1 %each.has.one, label %look, label %python
look:
  for %i below %length
  %seen = item ptr %in.equations %i
  %simple = call i1 @is_simple(ptr %process, ptr %seen)
  br i1 %simple, label %next, label %python
next:
  end
  %as.list = field ptr %process EAGER.as_list
  %equations = call ptr %as.list(ptr %given.equations) ; a list of our own, which nobody changes
  %new.dict = field ptr %process EAGER.new_dict
  %found = call ptr %new.dict()
  %no.equations = icmp eq ptr %equations, null
  %no.dict = icmp eq ptr %found, null
  %no.memory = or i1 %no.equations, %no.dict
  br i1 %no.memory, label %lose, label %seed
seed:
  %ended = call i1 @collect_all(ptr %process, ptr %found, ptr %outputs, ptr %cotangents)
  br i1 %ended, label %walk, label %lose
walk:
  for %j below %length
  %last = sub i64 %length, 1
  %place = sub i64 %last, %j
  %own.equations = field ptr %equations LIST.items
  %equation = item ptr %own.equations %place
  %passed = call i1 @pull_back(ptr %process, ptr %found, ptr %equation)
  br i1 %passed, label %before, label %lose
before:
  end
  %new.list = field ptr %process EAGER.new_list
  %result = call ptr %new.list(i64 %input.count)
  %no.result = icmp eq ptr %result, null
  br i1 %no.result, label %lose, label %fill
fill:
  %in.result = field ptr %result LIST.items
  %in.inputs = field ptr %inputs LIST.items
  %none = field ptr %process EAGER.none
  %increase = field ptr %process EAGER.increase
  %get = field ptr %process EAGER.get_item
  br label %each
each:
  for %k below %input.count
  %input = item ptr %in.inputs %k
  %is.none = icmp eq ptr %input, %none
  br i1 %is.none, label %nothing, label %ask
ask:
  %value = call ptr %get(ptr %found, ptr %input)
  %no.value = icmp eq ptr %value, null
  br i1 %no.value, label %nothing, label %give
nothing:
  br label %give
give:
  %given = phi ptr [%value, %ask], [%none, %nothing]
  call void %increase(ptr %given)
  put %in.result %k %given
  end
  call void @drop(ptr %process, ptr %found)
  call void @drop(ptr %process, ptr %equations)
  ret ptr %result
lose:
  call void @drop(ptr %process, ptr %found)
  call void @drop(ptr %process, ptr %equations)
  ret ptr null
python:
  %method = field ptr %process EAGER.backward
  %answer = call ptr @with_self(ptr %method, ptr %self, ptr %arguments, i64 %count, ptr %names)
  ret ptr %answer
}

; Whether an equation has one result, a rule for it, and operands in a list.
define internal i1 @is_simple(ptr %process, ptr %equation) {
start:
  %type = field ptr %equation OBJECT.type
  %class = field ptr %process EAGER.equation
  %is.equation = icmp eq ptr %type, %class
  br i1 %is.equation, label %parts, label %no
parts:
  %primitive = field ptr %equation EQUATION.primitive
  %operands = field ptr %equation EQUATION.operands
  %results = field ptr %equation EQUATION.results
  %params = field ptr %equation EQUATION.params
  %list = field ptr %process EAGER.list
  %tuple = field ptr %process EAGER.tuple
  %dict = field ptr %process EAGER.dict
  %operands.type = field ptr %operands OBJECT.type
  %results.type = field ptr %results OBJECT.type
  %params.type = field ptr %params OBJECT.type
  %right.operands = icmp eq ptr %operands.type, %list
  %right.results = icmp eq ptr %results.type, %tuple
  %right.params = icmp eq ptr %params.type, %dict
  %right.two = and i1 %right.operands, %right.results
  %right = and i1 %right.two, %right.params
  br i1 %right, label %rules, label %no
rules:
  %several = field ptr %primitive PRIMITIVE.multiple_results
  %false = field ptr %process EAGER.false
  %single = icmp eq ptr %several, %false
  %rule = field ptr %primitive PRIMITIVE.transpose
  %none = field ptr %process EAGER.none
  %has.rule = icmp ne ptr %rule, %none
  %size = field i64 %results TUPLE.size
  %one = icmp eq i64 %size, 1
  %into = field ptr %primitive PRIMITIVE.transpose_into
  %plain = icmp eq ptr %into, %none
  %fine = and i1 %single, %has.rule
  %simple.sum = and i1 %fine, %plain
  %simple = and i1 %simple.sum, %one
  ret i1 %simple
no:
  ret i1 false
}

; Adds a cotangent to what was found for a variable before; false with an error.
define internal i1 @collect(ptr %process, ptr %found, ptr %variable, ptr %cotangent) {
start:
  %set = field ptr %process EAGER.set_item
  %get = field ptr %process EAGER.get_item
  %earlier = call ptr %get(ptr %found, ptr %variable)
  %first = icmp eq ptr %earlier, null
  br i1 %first, label %new, label %more
new:
  %status = call i32 %set(ptr %found, ptr %variable, ptr %cotangent)
  %good = icmp sge i32 %status, 0
  ret i1 %good
more:
  %pair = alloca [2 x ptr], align 8
  put %pair 0 %earlier
  put %pair 1 %cotangent
  %increase = field ptr %process EAGER.increase
  call void %increase(ptr %earlier)
  %add = field ptr %process EAGER.add
  %vectorcall = field ptr %process EAGER.vectorcall
  %sum = call ptr %vectorcall(ptr %add, ptr %pair, i64 2, ptr null)
  call void @drop(ptr %process, ptr %earlier)
  %failed = icmp eq ptr %sum, null
  br i1 %failed, label %no, label %replace
replace:
  %replaced = call i32 %set(ptr %found, ptr %variable, ptr %sum)
  call void @drop(ptr %process, ptr %sum)
  %done = icmp sge i32 %replaced, 0
  ret i1 %done
no:
  ret i1 false
}

; The same for a list of variables, among which there may be something else, and a list of cotangents and None.
define internal i1 @collect_all(ptr %process, ptr %found, ptr %variables, ptr %cotangents) {
start:
  %none = field ptr %process EAGER.none
  %class = field ptr %process EAGER.variable
  %count = field i64 %variables SIZED.size
  br label %each
each:
  for %i below %count
  %in.variables = field ptr %variables LIST.items
  %in.cotangents = field ptr %cotangents LIST.items
  %variable = item ptr %in.variables %i
  %cotangent = item ptr %in.cotangents %i
  %type = field ptr %variable OBJECT.type
  %is.variable = icmp eq ptr %type, %class
  %some = icmp ne ptr %cotangent, %none
  %both = and i1 %is.variable, %some
  br i1 %both, label %take, label %next
take:
  %taken = call i1 @collect(ptr %process, ptr %found, ptr %variable, ptr %cotangent)
  br i1 %taken, label %next, label %no
next:
  end
  ret i1 true
no:
  ret i1 false
}

; From the cotangent of the result of an equation to those of its operands; false with an error.
define internal i1 @pull_back(ptr %process, ptr %found, ptr %equation) {
start:
  %results = field ptr %equation EQUATION.results
  %in.results = getelementptr i8, ptr %results, i64 TUPLE.items
  %result = item ptr %in.results 0
  %get = field ptr %process EAGER.get_item
  %cotangent = call ptr %get(ptr %found, ptr %result)
  %unused = icmp eq ptr %cotangent, null
  br i1 %unused, label %yes, label %use
use:
  %increase = field ptr %process EAGER.increase
  %remove = field ptr %process EAGER.remove_item
  call void %increase(ptr %cotangent)
  %removed = call i32 %remove(ptr %found, ptr %result)
  %operands = field ptr %equation EQUATION.operands
  %count = field i64 %operands SIZED.size
  %in.operands = field ptr %operands LIST.items
  %all = add i64 %count, 1
  %table = alloca ptr, i64 %all
  put %table 0 %cotangent
  %rest = getelementptr ptr, ptr %table, i64 1
  br label %copy
copy:
  for %i below %count
  %operand = item ptr %in.operands %i
  put %rest %i %operand
  end
  %primitive = field ptr %equation EQUATION.primitive
  %rule = field ptr %primitive PRIMITIVE.transpose
  %params = field ptr %equation EQUATION.params
  %call = field ptr %process EAGER.call_dict
  %given = call ptr %call(ptr %rule, ptr %table, i64 %all, ptr %params)
  call void @drop(ptr %process, ptr %cotangent)
  %failed = icmp eq ptr %given, null
  br i1 %failed, label %no, label %kind
kind:
  %type = field ptr %given OBJECT.type
  %list = field ptr %process EAGER.list
  %is.list = icmp eq ptr %type, %list
  br i1 %is.list, label %listed, label %convert
convert:
  %as.list = field ptr %process EAGER.as_list
  %converted = call ptr %as.list(ptr %given)
  call void @drop(ptr %process, ptr %given)
  %not.converted = icmp eq ptr %converted, null
  br i1 %not.converted, label %no, label %listed
listed:
  %moved = phi ptr [%given, %kind], [%converted, %convert]
  %moved.count = field i64 %moved SIZED.size
  %operands.now = field i64 %operands SIZED.size
  %right.count = icmp eq i64 %moved.count, %operands.now
  br i1 %right.count, label %collect, label %wrong
collect:
  %taken = call i1 @collect_all(ptr %process, ptr %found, ptr %operands, ptr %moved)
  call void @drop(ptr %process, ptr %moved)
  ret i1 %taken
wrong:
  call void @drop(ptr %process, ptr %moved)
  %set.error = field ptr %process EAGER.set_error
  %value.error = field ptr %process EAGER.value_error
  call void %set.error(ptr %value.error, ptr @wrong_count)
  br label %no
yes:
  ret i1 true
no:
  ret i1 false
}

@wrong_count = private constant [60 x i8] c"a transpose rule has to give one cotangent for each operand\\00"
"""
