"""The text of the builtin: LLVM's language, with a few lines in place of longer ones, which `code.expanded` writes out.

    %x = field T %base NAME    read a T at a place that has a name, from the beginning of an object
    %x = item T %base %i       read the i-th of many Ts that follow each other
    set %base NAME %value      write an address
    put %base %i %value        write the i-th address
    hold %x                    one more reference to an object, if it is not immortal
    release %x                 one less, where it is not the last one
    for %i below %n ... end    do something for each %i from 0 to %n - 1

Beside trees (`trees_text.py`) and memory for temporary values (`arenas_text.py`), it is made of these parts, from
below: whether arrays are as wanted (`matches`), and a call of native code (`run`, `answer`, `call`).
"""

CALLS = """
@impossible = private constant [60 x i8] c"the bridge to native code was handed arrays of other shapes\\00"

; Whether the arguments are what the specification says. If so, the addresses of their elements are put into the table,
; and the arrays into the pool.
define internal i1 @matches(ptr %process, ptr %spec, ptr %args, i64 %count, ptr %table, ptr %pool) {
start:
  %wanted.count = field i64 %spec SPECIFICATION.input_count
  %inputs = field ptr %spec SPECIFICATION.inputs
  %ndarray = field ptr %process PROCESS.ndarray
  %right.count = icmp eq i64 %count, %wanted.count
  br i1 %right.count, label %arguments, label %no
arguments:
  for %i below %count
  %argument = item ptr %args %i
  %offset = mul i64 %i, INPUT.SIZE
  %input = getelementptr i8, ptr %inputs, i64 %offset
  %wrapper = field ptr %input INPUT.wrapper
  %bare = icmp eq ptr %wrapper, null
  br i1 %bare, label %buffer, label %wrapped
wrapped:
  %type = field ptr %argument OBJECT.type
  %right.wrapper = icmp eq ptr %type, %wrapper
  br i1 %right.wrapper, label %unwrap, label %no
unwrap:
  %inner = field ptr %argument WRAPPER.data
  %filled = icmp ne ptr %inner, null
  br i1 %filled, label %buffer, label %no
buffer:
  %array = phi ptr [%argument, %i.body], [%inner, %unwrap]
  %array.type = field ptr %array OBJECT.type
  %is.array = icmp eq ptr %array.type, %ndarray
  br i1 %is.array, label %look, label %no
look:
  %flags = field i32 %array ARRAY.flags
  %wanted.flags = field i32 %input INPUT.flags
  %set = and i32 %flags, %wanted.flags
  %right.flags = icmp eq i32 %set, %wanted.flags
  %ndim = field i32 %array ARRAY.ndim
  %wanted.ndim = field i32 %input INPUT.ndim
  %right.ndim = icmp eq i32 %ndim, %wanted.ndim
  %fine = and i1 %right.flags, %right.ndim
  br i1 %fine, label %look.closer, label %no
look.closer:
  %dtype = field ptr %array ARRAY.dtype
  %wanted.dtype = field ptr %input INPUT.dtype
  %same.dtype = icmp eq ptr %dtype, %wanted.dtype
  br i1 %same.dtype, label %lengths, label %another.dtype
another.dtype: ; there may be several objects for one dtype
  %number = field i32 %dtype DTYPE.number
  %wanted.number = field i32 %input INPUT.number
  %right.number = icmp eq i32 %number, %wanted.number
  %order = field i8 %dtype DTYPE.order
  %native = icmp eq i8 %order, NATIVE
  %no.order = icmp eq i8 %order, NO_ORDER
  %right.order = or i1 %native, %no.order
  %equal.dtype = and i1 %right.number, %right.order
  br i1 %equal.dtype, label %lengths, label %no
lengths:
  %shape = field ptr %array ARRAY.shape
  %wanted.shape = field ptr %input INPUT.shape
  %axes = zext i32 %ndim to i64
  br label %compare
compare:
  for %axis below %axes
  %length = item i64 %shape %axis
  %wanted.length = item i64 %wanted.shape %axis
  %right.length = icmp eq i64 %length, %wanted.length
  br i1 %right.length, label %right, label %no
right:
  end
  %data = field ptr %array ARRAY.data
  %place = field i64 %input INPUT.place
  put %table %place %data
  put %pool %i %array
  end
  ret i1 true
no:
  ret i1 false
}

; Whether an array of the pool, whose wrapper is given away, is nobody else's: there are two references to it, that of
; its wrapper and that of the pool. A view of it would be one more.
define internal i1 @is_free(ptr %array) {
start:
  %references = field i64 %array OBJECT.references
  %alone = icmp eq i64 %references, 2
  %flags = field i32 %array ARRAY.flags
  %set = and i32 %flags, OWNED_AND_WRITEABLE
  %own = icmp eq i32 %set, OWNED_AND_WRITEABLE
  %free = and i1 %alone, %own
  ret i1 %free
}

; Puts what stands for a donated array into the wrappers that are given away. The pool still holds their arrays.
define internal void @give_up(ptr %process, ptr %spec, ptr %args, ptr %pool) {
start:
  %count = field i64 %spec SPECIFICATION.input_count
  %inputs = field ptr %spec SPECIFICATION.inputs
  %increase = field ptr %process PROCESS.increase
  %decrease = field ptr %process PROCESS.decrease
  br label %each
each:
  for %i below %count
  %offset = mul i64 %i, INPUT.SIZE
  %input = getelementptr i8, ptr %inputs, i64 %offset
  %donated = field ptr %input INPUT.donated
  %kept = icmp eq ptr %donated, null
  br i1 %kept, label %next, label %look
look:
  %wrapper = item ptr %args %i
  %array = item ptr %pool %i
  %inner = field ptr %wrapper WRAPPER.data
  %has.it = icmp eq ptr %inner, %array ; not if it was among the arguments before
  br i1 %has.it, label %empty, label %next
empty:
  call void %increase(ptr %donated)
  set %wrapper WRAPPER.data %donated
  call void %decrease(ptr %array)
  br label %next
next:
  end
  ret void
}

; Makes the outputs, which go into the pool behind the inputs, and calls the native code. False if there was no memory.
; An output may take the array of an input that is given away.
define internal i1 @run(ptr %process, ptr %spec, ptr %args, ptr %table, ptr %pool) {
start:
  %new.array = field ptr %process PROCESS.new_array
  %ndarray = field ptr %process PROCESS.ndarray
  %inputs = field i64 %spec SPECIFICATION.input_count
  %count = field i64 %spec SPECIFICATION.output_count
  %outputs = field ptr %spec SPECIFICATION.outputs
  %taken = field i64 %spec SPECIFICATION.taken_count
  %first = getelementptr ptr, ptr %table, i64 %taken
  %made = getelementptr ptr, ptr %pool, i64 %inputs
  br label %each
each:
  for %i below %count
  %offset = mul i64 %i, OUTPUT.SIZE
  %output = getelementptr i8, ptr %outputs, i64 %offset
  %dtype = field ptr %output OUTPUT.dtype
  %ndim = field i32 %output OUTPUT.ndim
  %shape = field ptr %output OUTPUT.shape
  %takes = field i64 %output OUTPUT.takes ; the number of an input, counted from 1
  %takes.none = icmp eq i64 %takes, 0
  br i1 %takes.none, label %make, label %consider
consider:
  %place = sub i64 %takes, 1
  %old = item ptr %pool %place
  %is.free = call i1 @is_free(ptr %old)
  br i1 %is.free, label %take, label %make
take:
  hold %old
  br label %more
make:
  hold %dtype ; which the array takes from us
  %new = call ptr %new.array(ptr %ndarray, ptr %dtype, i32 %ndim, ptr %shape, ptr null, ptr null, i32 0, ptr null)
  %no.array = icmp eq ptr %new, null
  br i1 %no.array, label %error, label %more
more:
  %array = phi ptr [%old, %take], [%new, %make]
  put %made %i %array
  %data = field ptr %array ARRAY.data
  put %first %i %data
  end
  %fixed.count = field i64 %spec SPECIFICATION.fixed_count
  %fixed = field ptr %spec SPECIFICATION.fixed
  %second = getelementptr ptr, ptr %first, i64 %count
  br label %addresses
addresses:
  for %k below %fixed.count
  %address = item ptr %fixed %k
  put %second %k %address
  end
  %function.count = field i64 %spec SPECIFICATION.function_count
  %functions = field ptr %spec SPECIFICATION.functions
  %third = getelementptr ptr, ptr %second, i64 %fixed.count
  %fourth = getelementptr ptr, ptr %third, i64 1
  br label %code
code:
  for %f below %function.count
  %function = item ptr %functions %f
  put %fourth %f %function
  end
  %arena.bytes = field i64 %spec SPECIFICATION.arena
  %little = icmp sle i64 %arena.bytes, STACK_ARENA
  br i1 %little, label %on.stack, label %on.heap
on.stack:
  %stack = alloca i8, i64 %arena.bytes, align ARENA_ALIGNMENT
  br label %ready
on.heap:
  %size = getelementptr i8, ptr %spec, i64 SPECIFICATION.arena
  %block = call ptr @take_arena(ptr %process, ptr %size)
  %no.block = icmp eq ptr %block, null
  br i1 %no.block, label %error, label %align
align:
  %block.data = field ptr %block ARRAY.data
  %block.number = ptrtoint ptr %block.data to i64
  %up = add i64 %block.number, ARENA_ALIGNMENT_LESS_1
  %aligned = and i64 %up, MINUS_ARENA_ALIGNMENT
  %heap = inttoptr i64 %aligned to ptr
  br label %ready
ready:
  %arena = phi ptr [%stack, %on.stack], [%heap, %align]
  %arena.block = phi ptr [null, %on.stack], [%block, %align]
  store ptr %arena, ptr %third
  call void @give_up(ptr %process, ptr %spec, ptr %args, ptr %pool)
  %entry = field ptr %spec SPECIFICATION.entry
  %unlocked = field i64 %spec SPECIFICATION.unlocked
  %is.locked = icmp eq i64 %unlocked, 0
  br i1 %is.locked, label %locked, label %release
locked:
  call void %entry(ptr %table)
  br label %finished
release:
  %save = field ptr %process PROCESS.save_thread
  %restore = field ptr %process PROCESS.restore_thread
  %thread = call ptr %save()
  call void %entry(ptr %table)
  call void %restore(ptr %thread)
  br label %finished
finished:
  %has.block = icmp ne ptr %arena.block, null
  br i1 %has.block, label %give.back, label %end
give.back:
  call void @give_arena_back(ptr %process, ptr %arena.block)
  br label %end
end:
  ret i1 true
error:
  ret i1 false
}

; What the caller gets, or null with an error. The inputs are held meanwhile: they may be let go of by another thread,
; or by what Python does to collect garbage.
define internal ptr @answer(ptr %process, ptr %spec, ptr %args, ptr %table, ptr %pool) {
start:
  %decrease = field ptr %process PROCESS.decrease
  %inputs = field i64 %spec SPECIFICATION.input_count
  %outputs = field i64 %spec SPECIFICATION.output_count
  %made = getelementptr ptr, ptr %pool, i64 %inputs
  br label %hold
hold:
  for %i below %inputs
  %input = item ptr %pool %i
  hold %input
  end
  br label %clear
clear:
  for %k below %outputs
  put %made %k null
  end
  %entry = field ptr %spec SPECIFICATION.entry
  %no.entry = icmp eq ptr %entry, null
  br i1 %no.entry, label %give, label %work
work:
  %done = call i1 @run(ptr %process, ptr %spec, ptr %args, ptr %table, ptr %pool)
  br i1 %done, label %give, label %release
give:
  %results = field ptr %spec SPECIFICATION.results
  %given = call ptr @build(ptr %process, ptr %results, ptr %pool)
  br label %release
release:
  %answer = phi ptr [null, %work], [%given, %give]
  %all = add i64 %inputs, %outputs
  br label %each
each:
  for %j below %all
  %array = item ptr %pool %j
  %missing = icmp eq ptr %array, null
  br i1 %missing, label %next, label %drop
drop:
  call void %decrease(ptr %array)
  br label %next
next:
  end
  ret ptr %answer
}

; The builtin itself: METH_FASTCALL of https://docs.python.org/3/c-api/structures.html
define ptr @call(ptr %self, ptr %args, i64 %count) {
start:
  %words = field ptr %self TUPLE.items
  %spec = field ptr %words ARRAY.data
  %process = field ptr %spec SPECIFICATION.process
  %table.size = field i64 %spec SPECIFICATION.table_size
  %inputs = field i64 %spec SPECIFICATION.input_count
  %table = alloca ptr, i64 %table.size
  %outputs = field i64 %spec SPECIFICATION.output_count
  %arrays = add i64 %inputs, %outputs
  %pool = alloca ptr, i64 %arrays
  %leaves = alloca ptr, i64 %inputs
  %filled = alloca i64
  store i64 0, ptr %filled
  %tree = field ptr %spec SPECIFICATION.arguments
  %flat = icmp eq ptr %tree, null
  br i1 %flat, label %look, label %climb
climb:
  %roots = field ptr %tree NODE.children
  %root.count = field i64 %tree NODE.count
  %right.count = icmp eq i64 %count, %root.count
  br i1 %right.count, label %climb.all, label %slow
climb.all:
  for %r below %count
  %argument = item ptr %args %r
  %root.offset = mul i64 %r, NODE.SIZE
  %root = getelementptr i8, ptr %roots, i64 %root.offset
  %fine = call i1 @gather(ptr %process, ptr %root, ptr %argument, ptr %leaves, ptr %filled)
  br i1 %fine, label %climbed, label %slow
climbed:
  end
  %converts = field i64 %spec SPECIFICATION.converts
  %has.foreign = icmp ne i64 %converts, 0
  br i1 %has.foreign, label %convert, label %look
convert:
  %converted = call i1 @convert(ptr %process, ptr %spec, ptr %leaves)
  br i1 %converted, label %look, label %slow
look:
  %arguments = phi ptr [%args, %start], [%leaves, %r.done], [%leaves, %convert]
  %argument.count = phi i64 [%count, %start], [%inputs, %r.done], [%inputs, %convert]
  %usual = call i1 @matches(ptr %process, ptr %spec, ptr %arguments, i64 %argument.count, ptr %table, ptr %pool)
  br i1 %usual, label %fast, label %slow
fast:
  %result = call ptr @answer(ptr %process, ptr %spec, ptr %arguments, ptr %table, ptr %pool)
  call void @let_go(ptr %process, ptr %leaves, ptr %filled)
  ret ptr %result
slow:
  call void @let_go(ptr %process, ptr %leaves, ptr %filled)
  %otherwise = field ptr %spec SPECIFICATION.otherwise
  %no.otherwise = icmp eq ptr %otherwise, null
  br i1 %no.otherwise, label %ask, label %decline
decline:
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %otherwise)
  ret ptr %otherwise
ask:
  %python = field ptr %spec SPECIFICATION.usual
  %vectorcall = field ptr %process PROCESS.vectorcall
  %copies = call ptr %vectorcall(ptr %python, ptr %args, i64 %count, ptr null)
  %refused = icmp eq ptr %copies, null
  br i1 %refused, label %error, label %again
again:
  %decrease = field ptr %process PROCESS.decrease
  %items = getelementptr i8, ptr %copies, i64 TUPLE.items
  %size = field i64 %copies TUPLE.size
  %now.usual = call i1 @matches(ptr %process, ptr %spec, ptr %items, i64 %size, ptr %table, ptr %pool)
  br i1 %now.usual, label %fast.now, label %bug
fast.now:
  %late.result = call ptr @answer(ptr %process, ptr %spec, ptr %items, ptr %table, ptr %pool)
  call void %decrease(ptr %copies)
  ret ptr %late.result
bug:
  call void %decrease(ptr %copies)
  %set.error = field ptr %process PROCESS.set_error
  %system.error = field ptr %process PROCESS.system_error
  call void %set.error(ptr %system.error, ptr @impossible)
  br label %error
error:
  ret ptr null
}
"""
