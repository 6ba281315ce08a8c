"""The code of the builtin, and the records that tell it what to do.

`builtin.py` has its text. Here are the names in it, and what makes LLVM's language of it.
"""

from __future__ import annotations

import re

from funcgrad.compiler.bridge.arenas_text import ARENAS
from funcgrad.compiler.bridge.builtin import CALLS
from funcgrad.compiler.bridge.layout import (
    ARRAY_LAYOUT,
    DTYPE_LAYOUT,
    LIST_LAYOUT,
    OBJECT_LAYOUT,
    OWNED_AND_WRITEABLE,
    TUPLE_LAYOUT,
    slots,
)
from funcgrad.compiler.bridge.trees_text import TREES

STACK_ARENA = 1 << 14  # bytes: an arena up to here lies on the stack
ARENA_ALIGNMENT = 64
KEPT_ARENAS = 8
LARGEST_KEPT_ARENA = 1 << 30  # bytes


def words(*names: str) -> dict[str, int]:
    """Where the words of 8 bytes of a record are that have these names."""
    return {name: 8 * place for place, name in enumerate(names)}


# The records that we make for the builtin. Each word is a number or an address.

PROCESS = words(
    *("ndarray", "byte", "system_error", "new_array", "new_object", "new_list", "new_tuple", "increase", "decrease"),
    *("new_dict", "object_new", "vectorcall", "set_error", "clear_error", "save_thread", "restore_thread", "dict_size"),
    *("dict_item", "set_dict_item", "attribute", "set_attribute", "untrack", "convert", "arenas"),
    *(f"arena{place}" for place in range(1, KEPT_ARENAS)),
)
SPECIFICATION = words(
    *(
        "process",
        "entry",
        "unlocked",
        "arena",
        "table_size",
        "inputs",
        "input_count",
        "taken_count",
        "outputs",
        "output_count",
    ),
    *("fixed", "fixed_count", "functions", "function_count", "converts", "arguments", "results", "usual", "otherwise"),
)
INPUT = words("wrapper", "dtype", "number", "ndim", "shape", "flags", "place", "converted", "donated")
OUTPUT = words("dtype", "ndim", "shape", "takes")

# Trees are records of nodes. A leaf among the results says which input or output it is, and how it is wrapped.

NODE = words("kind", "type", "count", "children", "keys", "same", "place", "wrapper", "dtype", "shape")
LEAF, SAME, TUPLE, NAMED_TUPLE, LIST, DICT, OBJECT, CONVERTED = range(8)


def expanded(text: str, names: dict[str, int]) -> str:
    """The builtin in LLVM's language: our own lines written out, and numbers in place of names."""
    lines: list[str] = []
    block, open_loops = "", []
    for line in text.splitlines():
        line = line.partition(";")[0].rstrip()
        match line.split():
            case [name, "=", "field", kind, base, place]:
                lines += [
                    f"{name}.at = getelementptr i8, ptr {base}, i64 {place}",
                    f"{name} = load {kind}, ptr {name}.at",
                ]
            case [name, "=", "item", kind, base, number]:
                lines += [f"{name}.at = getelementptr {kind}, ptr {base}, i64 {number}"]
                lines += [f"{name} = load {kind}, ptr {name}.at"]
            case ["set" | "put" as what, base, place, value]:
                kind = "i8" if what == "set" else "ptr"
                at = f"%at{len(lines)}"
                lines += [f"{at} = getelementptr {kind}, ptr {base}, i64 {place}", f"store ptr {value}, ptr {at}"]
            case ["hold" | "release" as what, x]:
                # An immortal object, as of Python 3.12, is one whose lower half of the count is negative; it is not
                # counted. https://peps.python.org/pep-0683
                lines += [f"{x}.count = load i64, ptr {x}", f"{x}.low = trunc i64 {x}.count to i32"]
                lines += [f"{x}.mortal = icmp sge i32 {x}.low, 0", f"{x}.one = zext i1 {x}.mortal to i64"]
                lines += [f"{x}.new = {'add' if what == 'hold' else 'sub'} i64 {x}.count, {x}.one"]
                lines += [f"store i64 {x}.new, ptr {x}"]
            case ["for", i, "below", times]:
                label = i[1:]
                lines += [f"br label {i}.head", f"{label}.head:"]
                lines += [
                    f"{i} = phi i64 [0, %{block}], [{i}.next, {i}.again]",
                    f"{i}.more = icmp slt i64 {i}, {times}",
                ]
                lines += [f"br i1 {i}.more, label {i}.body, label {i}.done", f"{label}.body:"]
                block = f"{label}.body"
                open_loops.append(i)
            case ["end"]:
                i = open_loops.pop()
                label = i[1:]
                lines += [f"br label {i}.again", f"{label}.again:", f"{i}.next = add i64 {i}, 1"]
                lines += [f"br label {i}.head", f"{label}.done:"]
                block = f"{label}.done"
            case [label] if label.endswith(":"):
                block = label[:-1]
                lines.append(line)
            case _:
                lines.append(line)
    return re.sub(r"(?<![\w.%@])[A-Z][A-Z_0-9]+(\.\w+)?", lambda found: str(names[found[0]]), "\n".join(lines))


def builtin_ir() -> str:
    """The builtin in LLVM's language, for this process."""
    layouts = {"OBJECT": OBJECT_LAYOUT, "TUPLE": TUPLE_LAYOUT, "LIST": LIST_LAYOUT, "ARRAY": ARRAY_LAYOUT}
    records = {"PROCESS": PROCESS, "SPECIFICATION": SPECIFICATION, "INPUT": INPUT, "OUTPUT": OUTPUT}
    named = {**layouts, "DTYPE": DTYPE_LAYOUT, **records, "NODE": NODE, "WRAPPER": slots()}
    names = {f"{record}.{name}": place for record, layout in named.items() for name, place in layout.items()}
    kinds = {"LEAF": LEAF, "SAME": SAME, "TUPLE": TUPLE, "NAMED_TUPLE": NAMED_TUPLE, "LIST": LIST, "DICT": DICT}
    names |= {f"{name}.KIND": kind for name, kind in {**kinds, "OBJECT": OBJECT, "CONVERTED": CONVERTED}.items()}
    names |= {"INPUT.SIZE": 8 * len(INPUT), "OUTPUT.SIZE": 8 * len(OUTPUT), "NODE.SIZE": 8 * len(NODE)}
    names |= {"NATIVE": ord("="), "NO_ORDER": ord("|"), "OWNED_AND_WRITEABLE": OWNED_AND_WRITEABLE}
    names |= {"STACK_ARENA": STACK_ARENA, "KEPT_ARENAS": KEPT_ARENAS, "LARGEST_KEPT_ARENA": LARGEST_KEPT_ARENA}
    names |= {"ARENA_ALIGNMENT": ARENA_ALIGNMENT, "ARENA_ALIGNMENT_LESS_1": ARENA_ALIGNMENT - 1}
    return expanded(TREES + ARENAS + CALLS, names | {"MINUS_ARENA_ALIGNMENT": -ARENA_ALIGNMENT})
