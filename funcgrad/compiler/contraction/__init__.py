"""Products of matrices, and convolutions, as native code: one generator for any sizes, strides and dtypes.

c[..., m, n] = sum over k of a[..., m, k] b[..., k, n]. A kernel is made for dtypes; sizes and strides are what it is
called with, so that one compiled kernel serves every size.

**Plan.** `plan_contraction` takes sizes and strides and says how to compute the product: by which scheme, in how many
tasks, with how much scratch memory, and whether with the operands in each other's role (then c's transpose is
computed).

**Write.** `write_contraction(module, spec)` writes the functions of a `ContractionSpec` into a `Module`, which may
hold others; `contraction_ir(spec, target)` gives the text of a module with nothing else. Of a plan the spec depends
on `scheme` and, through the order of the dtypes of the operands, on `swapped`. The functions are

    void name(ptr context, i64 low, i64 high)        tasks from low up to high of plan.tasks
    void name_pack(ptr context, i64 low, i64 high)   only for the scheme "packed", plan.pack_tasks, before the others

A task computes its block of c from the first number to the last in an order that depends on nothing but the plan, so
results are the same bit for bit however tasks are shared out.

**Call.** `context` points to slots of 8 bytes: those of `SLOTS`, first the addresses of a, b, c, the scratch memory (of
`plan.scratch_bytes`, aligned to 64) and the epilogue, then `plan.numbers`; after them as many addresses as `spec.extra`
says, for the readers, or whatever the epilogue wants. `plan.context(...)` makes the list, and changes the operands'
places if the plan says so.

    plan = plan_contraction(1, 128, 512, 784, (784, 1), (512, 1), None, "float32", target)
    spec = ContractionSpec(float32, float32, float32, plan.scheme)
    code = object_code(contraction_ir(spec, target), target)
    slots = plan.context(a_address, b_address, c_address, scratch_address)

**Epilogue.** If the context has an epilogue, sums are not stored but handed to that function, a few rows at a time,
while they are in the first level of the cache: see `finish`. In a plan that is swapped, its rows are columns of c.

**bfloat16.** Where the CPU multiplies pairs of them, operands of this dtype are packed in pairs along k, and each pair
takes the place of a number. Such instructions take numbers below 2**-126 for zero.

**Convolution.** The same in other words: `plan_convolution` takes shapes and the params of `conv_general_dilated`,
`write_convolution(module, plan, name)` writes the functions, `plan.steps` says which to call in what order and with how
many tasks, `plan.context(...)` with what. Sizes are constants of this code. See `convolution`.

**Readers.** `spec.read_a(text, outer, inner, m, k, extra)` gives an element of a that does not lie in memory with
strides, in the type that memory has for it; likewise `read_b`. What they read is copied to a tile or a panel before
it is used, so that each element is asked for once a task (by `name_pack`: once). `plan_contraction` has to know which
operands have readers.
"""

from funcgrad.compiler.contraction.convolution import (
    ConvolutionPlan,
    convolution_ir,
    plan_convolution,
    write_convolution,
)
from funcgrad.compiler.contraction.frame import ADDRESSES, SLOTS, ContractionSpec, Reader
from funcgrad.compiler.contraction.kernel import contraction_ir, write_contraction
from funcgrad.compiler.contraction.plan import Plan, plan_contraction
from funcgrad.compiler.contraction.text import Function
from funcgrad.compiler.module import Module
