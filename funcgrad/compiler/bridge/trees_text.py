"""The part of the builtin that is about trees, in the language that `builtin.py` explains.

From below: the leaves of what was passed (`gather`), arrays in place of leaves that are something else (`convert`), the
end of all that (`let_go`), and trees of results (`build`).
"""

TREES = """
; The leaves of an object that is like a node says, from left to right, with a reference to each; false if it is not
; like that. No Python code runs meanwhile, which could change the object.
define internal i1 @gather(ptr %process, ptr %node, ptr %object, ptr %leaves, ptr %filled) {
start:
  %kind = field i64 %node NODE.kind
  switch i64 %kind, label %inner [i64 LEAF.KIND, label %leaf  i64 SAME.KIND, label %same
    i64 CONVERTED.KIND, label %foreign]
foreign:
  %foreign.type = field ptr %object OBJECT.type
  %wanted.foreign = field ptr %node NODE.type
  %right.foreign = icmp eq ptr %foreign.type, %wanted.foreign
  br i1 %right.foreign, label %leaf, label %no
leaf:
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %object)
  %place = load i64, ptr %filled
  put %leaves %place %object
  %next.place = add i64 %place, 1
  store i64 %next.place, ptr %filled
  ret i1 true
same:
  %wanted = field ptr %node NODE.same
  %is.same = icmp eq ptr %object, %wanted
  ret i1 %is.same
inner:
  %type = field ptr %object OBJECT.type
  %wanted.type = field ptr %node NODE.type
  %right.type = icmp eq ptr %type, %wanted.type
  br i1 %right.type, label %measure, label %no
measure:
  %count = field i64 %node NODE.count
  switch i64 %kind, label %sequence [i64 DICT.KIND, label %dict  i64 OBJECT.KIND, label %inside]
sequence:
  %length = field i64 %object TUPLE.size
  %right.length = icmp eq i64 %length, %count
  br i1 %right.length, label %inside, label %no
dict:
  %dict.size = field ptr %process PROCESS.dict_size
  %size = call i64 %dict.size(ptr %object)
  %right.size = icmp eq i64 %size, %count
  br i1 %right.size, label %inside, label %no
inside:
  %children = field ptr %node NODE.children
  %keys = field ptr %node NODE.keys
  br label %each
each:
  for %i below %count
  switch i64 %kind, label %of.tuple [i64 LIST.KIND, label %of.list  i64 DICT.KIND, label %of.dict
                                     i64 OBJECT.KIND, label %of.object]
of.tuple:
  %tuple.items = getelementptr i8, ptr %object, i64 TUPLE.items
  %tuple.item = item ptr %tuple.items %i
  br label %look
of.list:
  %list.items = field ptr %object LIST.items
  %list.item = item ptr %list.items %i
  br label %look
of.dict:
  %key = item ptr %keys %i
  %dict.item = field ptr %process PROCESS.dict_item
  %value = call ptr %dict.item(ptr %object, ptr %key)
  %no.value = icmp eq ptr %value, null
  br i1 %no.value, label %clear, label %look
of.object:
  %name = item ptr %keys %i
  %attribute = field ptr %process PROCESS.attribute
  %field = call ptr %attribute(ptr %object, ptr %name)
  %no.field = icmp eq ptr %field, null
  br i1 %no.field, label %clear, label %own
own:
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %field)
  br label %look
look:
  %child = phi ptr [%tuple.item, %of.tuple], [%list.item, %of.list], [%value, %of.dict], [%field, %own]
  %offset = mul i64 %i, NODE.SIZE
  %child.node = getelementptr i8, ptr %children, i64 %offset
  %fine = call i1 @gather(ptr %process, ptr %child.node, ptr %child, ptr %leaves, ptr %filled)
  br i1 %fine, label %next, label %no
next:
  end
  ret i1 true
clear:
  %clear.error = field ptr %process PROCESS.clear_error
  call void %clear.error()
  br label %no
no:
  ret i1 false
}

; Makes arrays of the leaves that are something else; false if one cannot be.
define internal i1 @convert(ptr %process, ptr %spec, ptr %leaves) {
start:
  %count = field i64 %spec SPECIFICATION.input_count
  %inputs = field ptr %spec SPECIFICATION.inputs
  %converter = field ptr %process PROCESS.convert
  %vectorcall = field ptr %process PROCESS.vectorcall
  %decrease = field ptr %process PROCESS.decrease
  br label %each
each:
  for %i below %count
  %offset = mul i64 %i, INPUT.SIZE
  %input = getelementptr i8, ptr %inputs, i64 %offset
  %converted = field i64 %input INPUT.converted
  %is.foreign = icmp ne i64 %converted, 0
  br i1 %is.foreign, label %foreign, label %next
foreign:
  %leaf = getelementptr ptr, ptr %leaves, i64 %i
  %object = load ptr, ptr %leaf
  %array = call ptr %vectorcall(ptr %converter, ptr %leaf, i64 1, ptr null)
  %refused = icmp eq ptr %array, null
  br i1 %refused, label %clear, label %replace
replace:
  store ptr %array, ptr %leaf
  call void %decrease(ptr %object)
  br label %next
next:
  end
  ret i1 true
clear:
  %clear.error = field ptr %process PROCESS.clear_error
  call void %clear.error()
  ret i1 false
}

; Lets go of the leaves.
define internal void @let_go(ptr %process, ptr %leaves, ptr %filled) {
start:
  %count = load i64, ptr %filled
  %decrease = field ptr %process PROCESS.decrease
  br label %each
each:
  for %i below %count
  %leaf = item ptr %leaves %i
  call void %decrease(ptr %leaf)
  end
  ret void
}

; A tree of the arrays in the pool, or null with an error.
define internal ptr @build(ptr %process, ptr %node, ptr %pool) {
start:
  %kind = field i64 %node NODE.kind
  %is.leaf = icmp eq i64 %kind, LEAF.KIND
  br i1 %is.leaf, label %leaf, label %inner
inner:
  %tree = call ptr @build_inner(ptr %process, ptr %node, ptr %pool)
  ret ptr %tree
leaf:
  %place = field i64 %node NODE.place
  %array = item ptr %pool %place
  hold %array
  %wrapper = field ptr %node NODE.wrapper
  %bare = icmp eq ptr %wrapper, null
  br i1 %bare, label %unwrapped, label %wrap
unwrapped:
  ret ptr %array
wrap:
  %new.object = field ptr %process PROCESS.new_object
  %wrapped = call ptr %new.object(ptr %wrapper, i64 0)
  %not.wrapped = icmp eq ptr %wrapped, null
  br i1 %not.wrapped, label %unwrap, label %fill
fill:
  %shape = field ptr %node NODE.shape
  %dtype = field ptr %node NODE.dtype
  %increase = field ptr %process PROCESS.increase
  call void %increase(ptr %shape)
  hold %dtype
  set %wrapped WRAPPER.data %array
  set %wrapped WRAPPER.dtype %dtype
  set %wrapped WRAPPER.shape %shape
  %untrack = field ptr %process PROCESS.untrack
  call void %untrack(ptr %wrapped) ; there is nothing in it that could refer to it
  ret ptr %wrapped
unwrap:
  %decrease = field ptr %process PROCESS.decrease
  call void %decrease(ptr %array)
  ret ptr null
}

; The same for a node that is no leaf.
define internal ptr @build_inner(ptr %process, ptr %node, ptr %pool) {
start:
  %increase = field ptr %process PROCESS.increase
  %decrease = field ptr %process PROCESS.decrease
  %kind = field i64 %node NODE.kind
  %type = field ptr %node NODE.type
  %count = field i64 %node NODE.count
  %keys = field ptr %node NODE.keys
  %class = alloca ptr
  switch i64 %kind, label %same [i64 TUPLE.KIND, label %tuple  i64 NAMED_TUPLE.KIND, label %named
    i64 LIST.KIND, label %list  i64 DICT.KIND, label %dict  i64 OBJECT.KIND, label %object]
same:
  %value = field ptr %node NODE.same
  call void %increase(ptr %value)
  ret ptr %value
tuple:
  %new.tuple = field ptr %process PROCESS.new_tuple
  %a.tuple = call ptr %new.tuple(i64 %count)
  br label %made
named:
  %new.named = field ptr %process PROCESS.new_object
  %a.named = call ptr %new.named(ptr %type, i64 %count)
  br label %made
list:
  %new.list = field ptr %process PROCESS.new_list
  %a.list = call ptr %new.list(i64 %count)
  br label %made
dict:
  %new.dict = field ptr %process PROCESS.new_dict
  %a.dict = call ptr %new.dict()
  br label %made
object:
  store ptr %type, ptr %class
  %object.new = field ptr %process PROCESS.object_new
  %vectorcall = field ptr %process PROCESS.vectorcall
  %an.object = call ptr %vectorcall(ptr %object.new, ptr %class, i64 1, ptr null)
  br label %made
made:
  %tree = phi ptr [%a.tuple, %tuple], [%a.named, %named], [%a.list, %list], [%a.dict, %dict], [%an.object, %object]
  %nothing = icmp eq ptr %tree, null
  br i1 %nothing, label %error, label %children
children:
  %nodes = field ptr %node NODE.children
  %in.tuple = getelementptr i8, ptr %tree, i64 TUPLE.items
  br label %each
each:
  for %i below %count
  %offset = mul i64 %i, NODE.SIZE
  %child.node = getelementptr i8, ptr %nodes, i64 %offset
  %child = call ptr @build(ptr %process, ptr %child.node, ptr %pool)
  %no.child = icmp eq ptr %child, null
  br i1 %no.child, label %lose, label %add
add:
  switch i64 %kind, label %to.tuple [i64 LIST.KIND, label %to.list  i64 DICT.KIND, label %to.dict
    i64 OBJECT.KIND, label %to.object]
to.tuple:
  put %in.tuple %i %child
  br label %next
to.list:
  %in.list = field ptr %tree LIST.items
  put %in.list %i %child
  br label %next
to.dict:
  %key = item ptr %keys %i
  %set.item = field ptr %process PROCESS.set_dict_item
  %item.status = call i32 %set.item(ptr %tree, ptr %key, ptr %child)
  br label %handed.over
to.object:
  %name = item ptr %keys %i
  %set.attribute = field ptr %process PROCESS.set_attribute
  %attribute.status = call i32 %set.attribute(ptr %tree, ptr %name, ptr %child)
  br label %handed.over
handed.over:
  %status = phi i32 [%item.status, %to.dict], [%attribute.status, %to.object]
  call void %decrease(ptr %child)
  %failed = icmp slt i32 %status, 0
  br i1 %failed, label %lose, label %next
next:
  end
  ret ptr %tree
lose:
  call void %decrease(ptr %tree)
  br label %error
error:
  ret ptr null
}
"""
