"""All functions that a product of matrices needs, put together: which ones depends on its scheme.

    dot                    `name` alone
    in place               `name` with its tiles, which copies rows of a by `rows`
    packed                 the same, and before it `name_pack`, which copies b to panels by `panel`

`finish` does what is left to do with complete sums. Helpers are shared by all products of a kind in one module.
"""

from __future__ import annotations

from collections.abc import Callable

from funcgrad.compiler.contraction.dots import write_dot
from funcgrad.compiler.contraction.finish import write_finish
from funcgrad.compiler.contraction.frame import ContractionSpec, Frame
from funcgrad.compiler.contraction.packing import write_pack, write_pack_panel, write_pack_rows
from funcgrad.compiler.contraction.patches import write_pack_kernels, write_patch_rows
from funcgrad.compiler.contraction.tiles import write_tiles
from funcgrad.compiler.module import Module
from funcgrad.compiler.target import Target


def write_contraction(module: Module, spec: ContractionSpec) -> None:
    """Add the functions of a spec to a module that may hold others."""
    kernel, name = Frame(spec, module), spec.name

    def write_once(what: str, write: Callable[[Frame, str], None]) -> None:
        helper = kernel.helper(what)
        if helper not in module.names:
            module.names.add(helper)
            write(kernel, helper)

    if spec.scheme == "dot":
        write_dot(kernel, name)
    else:
        if not kernel.turned:
            write_once("rows", write_pack_rows if spec.patches is None else write_patch_rows)
        if spec.patches is not None:
            write_pack_kernels(kernel, f"{name}_pack")
        elif not kernel.in_place:
            write_once("panel", write_pack_panel)
            if spec.scheme == "packed":
                write_pack(kernel, f"{name}_pack")
        write_tiles(kernel, name)
    write_once("finish", write_finish)


def contraction_ir(spec: ContractionSpec, target: Target) -> str:
    """A module in LLVM's language with the functions of a spec."""
    module = Module(target)
    write_contraction(module, spec)
    return module.text()
