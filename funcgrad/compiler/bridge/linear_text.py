"""The text of forward steps under reverse mode that are recorded without a rule.

A primitive that is linear says how (`Primitive.linearity`), and so what its rule `jvp` would record: the same primitive
with tangents in the place of operands.
"""

from __future__ import annotations

# What the rules `linear_jvp` and `bilinear_jvp` of primitives do under reverse mode, where all values are plain.
LINEAR = """
; The tracer of the result of a primitive that says how it is linear; UNUSUAL where its rule has to find out.
define internal ptr @linearized(ptr %process, ptr %here, ptr %self, ptr %arguments, i64 %count, ptr %names) {
start:
  %linearity = field ptr %self PRIMITIVE.linearity
  %unset = icmp eq ptr %linearity, null
  br i1 %unset, label %unusual, label %look
look:
  %linearity.type = field ptr %linearity OBJECT.type
  %tuple = field ptr %process EAGER.tuple
  %is.tuple = icmp eq ptr %linearity.type, %tuple
  br i1 %is.tuple, label %open, label %unusual
open:
  %in.linearity = getelementptr i8, ptr %linearity, i64 TUPLE.items
  %kind = item ptr %in.linearity 0
  %rule = item ptr %in.linearity 1
  %own.rule = field ptr %self PRIMITIVE.jvp
  %same.rule = icmp eq ptr %rule, %own.rule ; nobody has changed it
  br i1 %same.rule, label %which, label %unusual
which:
  %in.all = field ptr %process EAGER.in_all
  %in.each = field ptr %process EAGER.in_each
  %is.all = icmp eq ptr %kind, %in.all
  %is.each = icmp eq ptr %kind, %in.each
  %is.linear = or i1 %is.all, %is.each
  br i1 %is.linear, label %begin, label %unusual
begin:
  %attribute = field ptr %process EAGER.attribute
  %record.name = field ptr %process EAGER.record_name
  %record = call ptr %attribute(ptr %here, ptr %record.name)
  %no.record = icmp eq ptr %record, null
  br i1 %no.record, label %error, label %tables
tables:
  %decrease = field ptr %process EAGER.decrease
  call void %decrease(ptr %record) ; the interpreter has another reference
  %all = call i64 @all_arguments(i64 %count, ptr %names)
  %primals = alloca ptr, i64 %all
  %operands = alloca ptr, i64 %all
  %dual = field ptr %process EAGER.dual
  %stage = field ptr %process EAGER.stage
  %concrete = field ptr %process EAGER.concrete
  br label %split
split:
  for %i below %all
  %x = item ptr %arguments %i
  %is.param = icmp sge i64 %i, %count
  br i1 %is.param, label %param, label %operand
param:
  put %primals %i %x
  put %operands %i %x
  br label %next
operand:
  %active = call i1 @belongs(ptr %x, ptr %dual, ptr %here)
  br i1 %active, label %pair, label %known
pair:
  %tangent = field ptr %x DUAL.tangent
  %own = call i1 @belongs(ptr %tangent, ptr %stage, ptr %record)
  br i1 %own, label %values, label %unusual
values:
  %primal = field ptr %x DUAL.primal
  br label %both
known:
  br i1 %is.all, label %unusual, label %both
both:
  %value = phi ptr [%primal, %values], [%x, %known]
  %linear = phi ptr [%tangent, %values], [%x, %known]
  put %primals %i %value
  put %operands %i %linear
  %value.type = field ptr %value OBJECT.type
  %plain = icmp eq ptr %value.type, %concrete
  br i1 %plain, label %next, label %unusual
next:
  end
  %result = call ptr @compute(ptr %self, ptr %primals, i64 %count, ptr %names)
  %number = ptrtoint ptr %result to i64
  switch i64 %number, label %computed [i64 0, label %error  i64 UNUSUAL, label %unusual  i64 TRACED, label %unusual]
computed:
  br i1 %is.all, label %once, label %each
once:
  %whole = call ptr @step(ptr %process, ptr %record, ptr %result, ptr %self, ptr %operands, i64 %count, ptr %names)
  br label %sum.known
each:
  %total = alloca ptr, align 8
  store ptr null, ptr %total
  br label %terms
terms:
  for %j below %count
  %y = item ptr %arguments %j
  %y.active = call i1 @belongs(ptr %y, ptr %dual, ptr %here)
  br i1 %y.active, label %term, label %skip
term:
  %y.primal = item ptr %primals %j
  %y.tangent = item ptr %operands %j
  put %primals %j %y.tangent
  %part = call ptr @step(ptr %process, ptr %record, ptr %result, ptr %self, ptr %primals, i64 %count, ptr %names)
  put %primals %j %y.primal
  %before = load ptr, ptr %total
  %more = call ptr @plus(ptr %process, ptr %record, ptr %result, ptr %before, ptr %part)
  store ptr %more, ptr %total
  %lost = icmp eq ptr %more, null
  br i1 %lost, label %lose, label %skip
skip:
  end
  %sum = load ptr, ptr %total
  br label %sum.known
sum.known:
  %moved = phi ptr [%whole, %once], [%sum, %j.done]
  %no.tangent = icmp eq ptr %moved, null
  br i1 %no.tangent, label %lose, label %wrap
wrap:
  %tracer = call ptr @new_dual(ptr %process, ptr %here, ptr %result, ptr %moved)
  call void %decrease(ptr %moved)
  call void %decrease(ptr %result)
  ret ptr %tracer
lose:
  call void %decrease(ptr %result)
  br label %error
error:
  ret ptr null
unusual:
  ret ptr inttoptr (i64 UNUSUAL to ptr)
}

; The sum of two tangents, of which the first may be missing; takes over the references, and gives null with an error.
define internal ptr @plus(ptr %process, ptr %record, ptr %like, ptr %x, ptr %y) {
start:
  %failed = icmp eq ptr %y, null
  %first = icmp eq ptr %x, null
  br i1 %failed, label %lose, label %look
look:
  br i1 %first, label %only, label %both
only:
  ret ptr %y
both:
  %pair = alloca [2 x ptr], align 8
  put %pair 0 %x
  put %pair 1 %y
  %add = field ptr %process EAGER.add
  %sum = call ptr @step(ptr %process, ptr %record, ptr %like, ptr %add, ptr %pair, i64 2, ptr null)
  call void @drop(ptr %process, ptr %y)
  call void @drop(ptr %process, ptr %x)
  ret ptr %sum
lose:
  call void @drop(ptr %process, ptr %x)
  ret ptr null
}
"""
