"""The part of the builtin that is about memory for temporary values, in the language that `builtin.py` explains.

A block is taken for a call and given back after it, so that the next one need not ask the system for memory.
"""

ARENAS = """
; A block of memory as a NumPy array of bytes, or null if there is none.
define internal ptr @take_arena(ptr %process, ptr %size) {
start:
  %bytes = load i64, ptr %size
  %arenas = getelementptr i8, ptr %process, i64 PROCESS.arenas
  br label %search
search:
  for %i below KEPT_ARENAS
  %kept = item ptr %arenas %i
  %is.kept = icmp ne ptr %kept, null
  br i1 %is.kept, label %measure, label %other
measure:
  %shape = field ptr %kept ARRAY.shape
  %length = load i64, ptr %shape
  %enough = icmp sge i64 %length, %bytes
  br i1 %enough, label %found, label %other
found:
  put %arenas %i null
  ret ptr %kept
other:
  end
  br label %make.room
make.room:
  for %j below KEPT_ARENAS
  %small = item ptr %arenas %j
  %is.small = icmp ne ptr %small, null
  br i1 %is.small, label %drop, label %next
drop:
  put %arenas %j null
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %small)
  br label %make
next:
  end
  br label %make
make:
  %byte = field ptr %process PROCESS.byte
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %byte)
  %ndarray = field ptr %process PROCESS.ndarray
  %new = field ptr %process PROCESS.new_array
  %block = call ptr %new(ptr %ndarray, ptr %byte, i32 1, ptr %size, ptr null, ptr null, i32 0, ptr null)
  ret ptr %block
}

define internal void @give_arena_back(ptr %process, ptr %block) {
start:
  %shape = field ptr %block ARRAY.shape
  %length = load i64, ptr %shape
  %arenas = getelementptr i8, ptr %process, i64 PROCESS.arenas
  %small = icmp sle i64 %length, LARGEST_KEPT_ARENA
  br i1 %small, label %search, label %full
search:
  for %i below KEPT_ARENAS
  %kept = item ptr %arenas %i
  %free = icmp eq ptr %kept, null
  br i1 %free, label %keep, label %taken
keep:
  put %arenas %i %block
  ret void
taken:
  end
  br label %full
full:
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %block)
  ret void
}

; Lets go of all blocks that wait for a next call.
define ptr @free_arenas(ptr %self, ptr %none) {
start:
  %words = field ptr %self TUPLE.items
  %spec = field ptr %words ARRAY.data
  %process = field ptr %spec SPECIFICATION.process
  %arenas = getelementptr i8, ptr %process, i64 PROCESS.arenas
  %decrease = field ptr %process PROCESS.decrease
  br label %all
all:
  for %i below KEPT_ARENAS
  %kept = item ptr %arenas %i
  %is.kept = icmp ne ptr %kept, null
  br i1 %is.kept, label %drop, label %next
drop:
  put %arenas %i null
  call void %decrease(ptr %kept)
  br label %next
next:
  end
  %result = field ptr %spec SPECIFICATION.otherwise
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %result)
  ret ptr %result
}
"""
