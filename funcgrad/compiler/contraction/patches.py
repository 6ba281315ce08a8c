"""Windows of an array as rows of a matrix, without ever making that matrix.

What slides over an array is a sum of digits: row m of the matrix begins where the digits of m (the example and the
position of the window) say, column k is as far from there as the digits of k (the place in the window and the feature)
say. Axes that follow each other in memory are one digit. The last digit of k counts neighbours, which are copied in
vectors to the tile in which the product wants them.
"""

from __future__ import annotations

from funcgrad.compiler.contraction.frame import Digits, Frame, Patches
from funcgrad.compiler.contraction.text import Function, vector


def merged(digits: Digits) -> Digits:
    """The same places with as few digits as possible, at least one. A digit is (how many, how far apart)."""
    result: list[tuple[int, int]] = []
    for count, apart in digits:
        if count == 1:
            continue
        if result and result[-1][1] == count * apart:
            result[-1] = result[-1][0] * count, apart
        else:
            result.append((count, apart))
    return tuple(result) or ((1, 0),)


def place_of(text: Function, number: str, digits: Digits) -> str:
    """Where the element with this number is: the sum of its digits, each times how far apart they are."""
    total = "0"
    for at, (count, apart) in reversed(list(enumerate(digits))):
        digit = number
        if at:
            number, digit = text.divide(number, count)
        total = text.add(total, text.mul(digit, apart))
    return total


def patches_address(kernel: Frame, text: Function, patches: Patches, group: str) -> str:
    """Where the windows of a group begin, in scratch memory."""
    start = text.line(f"getelementptr i8, ptr {kernel.slot(text, 'scratch')}, i64 {patches.offset}")
    return text.at(start, kernel.number, text.mul(group, patches.group))


def write_patch_rows(kernel: Frame, name: str) -> None:
    """Copies numbers k0 up to k0 + count of some windows.

    Whole vectors are copied: what is too much at the end of a piece is overwritten by the next piece, or lies in the
    gap between rows of the tile. The array has a gap at its end as well.
    """
    arguments = "ptr %context, ptr %tile, ptr %a, i64 %outer, i64 %inner, i64 %r, i64 %rows, i64 %k0, i64 %count"
    text = kernel.function(name, arguments, internal=True)
    patches, shape, number = kernel.spec.patches, kernel.shape, kernel.number
    assert patches is not None
    start = patches_address(kernel, text, patches, "%inner")
    run, _ = patches.steps[-1]
    kind = vector(number, shape.lanes)
    places = text.line(f"alloca [{shape.rows} x i64], align 8")

    def find(i: str, _: list[str]) -> None:
        place = place_of(text, text.add("%r", i), patches.rows)
        text.store("i64", place, text.at(places, "i64", i), 8)

    text.loop(0, "%rows", 1, find)
    end = text.add("%k0", "%count")

    def piece(q: str, _: list[str]) -> None:
        low = text.maximum(text.mul(q, run), "%k0")
        high = text.minimum(text.mul(text.add(q, 1), run), end)
        before = place_of(text, q, patches.steps[:-1]) if len(patches.steps) > 1 else "0"
        source = text.add(before, text.sub(low, text.mul(q, run)))
        source = text.at(start, number, source)
        target = text.at("%tile", number, text.sub(low, "%k0"))
        count = text.sub(high, low)

        def row(i: str, _: list[str]) -> None:
            place = text.load("i64", text.at(places, "i64", i), 8)
            from_row = text.at(source, number, place)
            to_row = text.at(target, number, text.mul(i, shape.stride))

            def copy(k: str, _: list[str]) -> None:
                value = text.load(kind, text.at(from_row, number, k), kernel.size)
                text.store(kind, value, text.at(to_row, number, k), kernel.size)

            text.loop(0, count, shape.lanes, copy)

        text.loop(0, "%rows", 1, row)

    first = text.divide("%k0", run)[0]
    text.loop(first, text.divide(text.add(end, run - 1), run)[0], 1, piece)
    text.finish()


def write_pack_kernels(kernel: Frame, name: str) -> None:
    """`void name(ptr context, i64 low, i64 high)`: copies kernels, as columns of b, into panels.

    Task t is panel t % panels of group t // panels.
    """
    text = kernel.function(name, "ptr %context, i64 %low, i64 %high")
    patches, shape, number, element = kernel.spec.patches, kernel.shape, kernel.number, kernel.b
    assert patches is not None
    scratch, b = kernel.slot(text, "scratch"), kernel.slot(text, "b")
    depth = _length(patches.kernel)
    panels = -(-patches.outputs // shape.width)
    size = -(-patches.outputs // shape.lanes) * shape.lanes * depth

    def task(t: str, _: list[str]) -> None:
        group, number_of_panel = text.divide(t, panels)
        source = text.at(b, element.kind, text.mul(group, patches.kernel_group))
        base = text.at(scratch, number, text.mul(group, size))
        n0 = text.mul(number_of_panel, shape.width)
        full = text.compare("sle", text.add(n0, shape.width), patches.outputs)

        def copy(j: str, width: int, inside: bool) -> None:
            target = text.at(base, number, text.mul(j, depth))

            def row(place: str, k: str) -> None:
                to = text.at(target, number, text.mul(k, width))
                lanes = shape.lanes if patches.kernel_output == 1 and inside else 1

                def element_of_row(n: str, _: list[str]) -> None:
                    column = text.add(j, n) if inside else text.minimum(text.add(j, n), patches.outputs - 1)
                    at = text.add(place, text.mul(column, patches.kernel_output))
                    value = text.load(vector(element.kind, lanes), text.at(source, element.kind, at), element.size)
                    value = element.widen(text, value, lanes)
                    text.store(vector(number, lanes), value, text.at(to, number, n), kernel.size)

                text.loop(0, width, lanes, element_of_row)

            over_digits(text, patches.kernel, row)

        text.choose(
            full,
            lambda: copy(n0, shape.width, True),
            lambda: text.loop(n0, patches.outputs, shape.lanes, lambda j, _: copy(j, shape.lanes, False)) and None,
        )

    text.loop("%low", "%high", 1, task)
    text.finish()


def over_digits(text: Function, digits: Digits, body, place: str = "0", number: str = "0") -> None:
    """`body(place, number)` for all numbers that digits make, in their order."""
    if not digits:
        body(place, number)
        return
    (count, apart), rest = digits[0], digits[1:]

    def inner(i: str, _: list[str]) -> None:
        before = text.add(text.mul(number, count), i)
        over_digits(text, rest, body, text.add(place, text.mul(i, apart)), before)

    text.loop(0, count, 1, inner)


def _length(digits: Digits) -> int:
    total = 1
    for count, _ in digits:
        total *= count
    return total
