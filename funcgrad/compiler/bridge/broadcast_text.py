"""The text of what eager operations do with shapes that differ: see `eager_text`.

A kernel has one loop, in which each operand moves on by one element or stays where it is. `spread` finds the loops
around it that take operands of any shapes through their broadcast shape, and `run_loops` runs them.
"""

from __future__ import annotations

BROADCAST = """
; Whether two arrays have the same shape.
define internal i1 @same_shape(ptr %x, ptr %y) {
start:
  %same = icmp eq ptr %x, %y
  br i1 %same, label %yes, label %axes
axes:
  %ndim = field i32 %x ARRAY.ndim
  %other.ndim = field i32 %y ARRAY.ndim
  %as.many = icmp eq i32 %ndim, %other.ndim
  br i1 %as.many, label %lengths, label %no
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

; The length of an axis, counted from the last one; 1 where there is no array or no such axis.
define internal i64 @length_from_end(ptr %x, i64 %depth) {
start:
  %number = icmp eq ptr %x, null
  br i1 %number, label %one, label %array
array:
  %ndim = field i32 %x ARRAY.ndim
  %count = zext i32 %ndim to i64
  %there = icmp slt i64 %depth, %count
  br i1 %there, label %look, label %one
look:
  %shape = field ptr %x ARRAY.shape
  %place.after = sub i64 %count, %depth
  %place = sub i64 %place.after, 1
  %length = item i64 %shape %place
  ret i64 %length
one:
  ret i64 1
}

; How the shapes of some arrays, or of numbers (null), broadcast. Writes the shape of the result, which has `ndim` axes,
; and the loops that run through it, the innermost one first: how often each goes round, and by how many bytes each of
; the pointers moves on meanwhile, that to the result last. Axes that every pointer runs through in one go are one loop.
; Gives the number of loops; -1 if the shapes do not broadcast.
define internal i64 @spread(ptr %arrays, i64 %count, i64 %ndim, ptr %items, ptr %shape, ptr %lengths, ptr %moves) {
start:
  %pointers = add i64 %count, 1
  %sizes = alloca i64, i64 %pointers ; of what each pointer runs through from one step of the axis to the next
  %loops = alloca i64
  %found = alloca i64
  %joins = alloca i1
  store i64 0, ptr %loops
  br label %begin
begin:
  for %p below %pointers
  %bytes = item i64 %items %p
  %size.at = getelementptr i64, ptr %sizes, i64 %p
  store i64 %bytes, ptr %size.at
  end
  br label %walk
walk:
  for %depth below %ndim
  store i64 1, ptr %found
  br label %agree
agree:
  for %k below %count
  %x = item ptr %arrays %k
  %length = call i64 @length_from_end(ptr %x, i64 %depth)
  %before = load i64, ptr %found
  %repeats = icmp eq i64 %length, 1
  %first = icmp eq i64 %before, 1
  %equal = icmp eq i64 %before, %length
  %takes = or i1 %first, %equal
  %fine = or i1 %repeats, %takes
  %now = select i1 %repeats, i64 %before, i64 %length
  store i64 %now, ptr %found
  br i1 %fine, label %agreed, label %no
agreed:
  end
  %whole = load i64, ptr %found
  %place.after = sub i64 %ndim, %depth
  %place = sub i64 %place.after, 1
  %shape.at = getelementptr i64, ptr %shape, i64 %place
  store i64 %whole, ptr %shape.at
  %single = icmp eq i64 %whole, 1
  br i1 %single, label %next.axis, label %loop
loop:
  %loop.count = load i64, ptr %loops
  %inside = sub i64 %loop.count, 1
  %row = mul i64 %loop.count, %pointers
  %inner.row = mul i64 %inside, %pointers
  %is.outer = icmp sgt i64 %loop.count, 0
  store i1 %is.outer, ptr %joins
  br label %move
move:
  for %q below %pointers
  %is.result = icmp eq i64 %q, %count
  br i1 %is.result, label %moves.on, label %operand
operand:
  %y = item ptr %arrays %q
  %own = call i64 @length_from_end(ptr %y, i64 %depth)
  %stays = icmp eq i64 %own, 1
  br i1 %stays, label %moved, label %moves.on
moves.on:
  %size.place = getelementptr i64, ptr %sizes, i64 %q
  %size = load i64, ptr %size.place
  %larger = mul i64 %size, %whole
  store i64 %larger, ptr %size.place
  br label %moved
moved:
  %step = phi i64 [0, %operand], [%size, %moves.on]
  %in.row = add i64 %row, %q
  %move.at = getelementptr i64, ptr %moves, i64 %in.row
  store i64 %step, ptr %move.at
  br i1 %is.outer, label %compare, label %next.pointer
compare:
  %in.inner.row = add i64 %inner.row, %q
  %inner.step = item i64 %moves %in.inner.row
  %inner.length = item i64 %lengths %inside
  %in.one.go = mul i64 %inner.step, %inner.length
  %goes.on = icmp eq i64 %in.one.go, %step
  %so.far = load i1, ptr %joins
  %still = and i1 %so.far, %goes.on
  store i1 %still, ptr %joins
  br label %next.pointer
next.pointer:
  end
  %is.joined = load i1, ptr %joins
  br i1 %is.joined, label %join, label %another
join:
  %joined.at = getelementptr i64, ptr %lengths, i64 %inside
  %joined = load i64, ptr %joined.at
  %longer = mul i64 %joined, %whole
  store i64 %longer, ptr %joined.at
  br label %next.axis
another:
  %length.at = getelementptr i64, ptr %lengths, i64 %loop.count
  store i64 %whole, ptr %length.at
  %more = add i64 %loop.count, 1
  store i64 %more, ptr %loops
  br label %next.axis
next.axis:
  end
  %all = load i64, ptr %loops
  ret i64 %all
no:
  ret i64 -1
}

define internal i64 @size(i32 %ndim, ptr %shape) {
start:
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

; Runs a kernel for the innermost loop, as often as the loops around it say, of which there are `outer`.
define internal void @run_loops(ptr %kernel, ptr %context, ptr %lengths, ptr %moves, i64 %pointers, i64 %outer) {
start:
  %length = item i64 %lengths %outer
  %is.inner = icmp eq i64 %outer, 0
  br i1 %is.inner, label %inner, label %each
inner:
  call void %kernel(ptr %context, i64 0, i64 %length)
  ret void
each:
  %inside = sub i64 %outer, 1
  %row = mul i64 %outer, %pointers
  %steps = getelementptr i64, ptr %moves, i64 %row
  br label %rounds
rounds:
  for %i below %length
  call void @run_loops(ptr %kernel, ptr %context, ptr %lengths, ptr %moves, i64 %pointers, i64 %inside)
  call void @move(ptr %context, ptr %steps, i64 %pointers, i64 1)
  end
  %back = sub i64 0, %length
  call void @move(ptr %context, ptr %steps, i64 %pointers, i64 %back)
  ret void
}

; Moves pointers on by so many of their steps.
define internal void @move(ptr %context, ptr %steps, i64 %pointers, i64 %times) {
start:
  br label %each
each:
  for %i below %pointers
  %pointer = item ptr %context %i
  %bytes = item i64 %steps %i
  %step = mul i64 %bytes, %times
  %moved = getelementptr i8, ptr %pointer, i64 %step
  put %context %i %moved
  end
  ret void
}
"""
