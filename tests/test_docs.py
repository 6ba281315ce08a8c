"""The code in the documentation runs: on the pages, and in the docstrings.

A page is README.md or docs/*.md. Its ```python blocks run in order and share their names, as if a reader had typed them
one after another. A block that begins with ```python no-run is only compiled. What a block prints is checked when the
page shows it, in a ```text block after the comment <!-- output -->; there, `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import importlib
import io
import os
import re
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

# What is printed shall not depend on how many operations there were before.
os.environ.setdefault("FUNCGRAD_NATIVE_AFTER", "never")

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [path for path in [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))] if path.exists()]
MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for path in REPOSITORY.glob("funcgrad/**/*.py")
    if path.name != "__main__.py"
)
OUTPUT_MARK = "<!-- output -->"


@dataclass
class Block:
    """A block of a page between two fences."""

    language: str  # everything after the opening fence
    first_line: int  # the line of the page after the opening fence
    text: str
    is_output: bool = False


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page. An output mark that stands anywhere else than between code and text is an error."""
    blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    fence, indentation, mark = (
        "",
        0,
        0,
    )  # the fence that would close the block; the line of a mark waiting for its block
    for number, line in enumerate(lines, start=1):
        opening = re.match(r"( *)(`{3,}|~{3,})(.*)", line)
        if fence:
            if line.strip() == fence:
                fence = ""
            else:
                blocks[-1].text += line[min(indentation, len(line) - len(line.lstrip())) :] + "\n"
        elif opening:
            indentation, fence, language = len(opening[1]), opening[2], opening[3].strip()
            if mark and not (language == "text" and len(blocks) > 0 and blocks[-1].language == "python"):
                pytest.fail(f"{page}:{mark}: {OUTPUT_MARK} must stand between a python and a text block", pytrace=False)
            blocks.append(Block(language, number + 1, "", is_output=bool(mark)))
            mark = 0
        elif mark and line.strip():
            pytest.fail(f"{page}:{mark}: {OUTPUT_MARK} must stand right before a text block", pytrace=False)
        elif line.strip() == OUTPUT_MARK:
            mark = number
    if fence or mark:
        pytest.fail(f"{page}:{mark or blocks[-1].first_line - 1}: what begins here does not end", pytrace=False)
    return blocks


def run_page(page: Path) -> int:
    """Runs all code of a page, compares what it prints with what the page shows, and gives the number of blocks run."""
    module = types.ModuleType("page")  # a real module, because dataclasses and pickle look their classes up in one
    printed, number_run = "", 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        for block in blocks_of(page):
            if block.is_output:
                check_output(page, block, printed)
            elif block.language in ("python", "python no-run"):
                code = compile_block(page, block)
                if block.language == "python":
                    printed = run_code(page, block, code, module)
                    number_run += 1
            elif block.language.startswith("python"):
                pytest.fail(f"{page}:{block.first_line - 1}: unknown kind of block: {block.language}", pytrace=False)
    return number_run


def compile_block(page: Path, block: Block) -> types.CodeType:
    # Empty lines put the code where it stands on the page, so that every traceback names the line of the page.
    try:
        return compile("\n" * (block.first_line - 1) + block.text, str(page), "exec", dont_inherit=True)
    except SyntaxError as error:
        pytest.fail(f"{page}:{error.lineno}: {error.msg}", pytrace=False)


def run_code(page: Path, block: Block, code: types.CodeType, module: types.ModuleType) -> str:
    stream = io.StringIO()
    try:
        with contextlib.redirect_stdout(stream):
            exec(code, vars(module))
    except Exception as error:
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(page)]
        report = "".join(traceback.format_exception(error))
        line = own[-1] if own else block.first_line
        pytest.fail(f"{page}:{line}: {type(error).__name__}: {error}\n\n{report}", pytrace=False)
    return stream.getvalue()


def check_output(page: Path, block: Block, printed: str) -> None:
    shown, got = ("\n".join(line.rstrip() for line in x.strip().splitlines()) + "\n" for x in (block.text, printed))
    if not doctest.OutputChecker().check_output(shown, got, doctest.ELLIPSIS):
        lines = difflib.unified_diff(shown.splitlines(), got.splitlines(), "on the page", "printed", lineterm="")
        difference = "\n".join(lines)
        pytest.fail(f"{page}:{block.first_line}: the output is not what the page shows\n{difference}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name == "compiler.md" and os.environ.get("FUNCGRAD_COMPILER") == "reference":
        pytest.skip("the page shows native code")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    run_page(page)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("funcgrad"):
            raise
        pytest.skip(f"{name} needs {error.name}")

    # The names of the module are left out, so that an example has to import what it uses, as its reader has to.
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report = io.StringIO()
    examples = doctest.DocTestFinder().find(module, name, globs={})
    if any(runner.run(example, out=report.write).failed for example in examples):
        pytest.fail(report.getvalue(), pytrace=False)


# That a page that is wrong is found out


def page_with(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_share_their_names_and_their_output_is_compared(tmp_path: Path) -> None:
    page = page_with(
        tmp_path,
        """
A first block.

```python
x = 20
```

- In a list:

  ```python
  for i in range(2):
      print(x + i, object())
  ```

  <!-- output -->
  ```text
  20 <object ...>
  21 <object object at 0x...>
  ```

```python no-run
not_defined()
```

```text
Not compared with anything.
```
""",
    )

    assert run_page(page) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n\n1 / 0\n```\n", r"page\.md:4: ZeroDivisionError"),
        ("```python\nint('x')\n```\n", r"page\.md:2: ValueError: invalid literal"),
        ("# Title\n\n```python no-run\nx =\n```\n", r"page\.md:4: invalid syntax"),
        (
            "```python\nprint(1)\nprint(2)\n```\n<!-- output -->\n```text\n1\n3\n```\n",
            r"page\.md:7: the output is not(.|\n)*-3\n\+2",
        ),
        ("```python\n```\n<!-- output -->\nSome words.\n", r"page\.md:3: .* right before a text block"),
        ("<!-- output -->\n```text\n1\n```\n", r"page\.md:1: .* between a python and a text block"),
        ("```python\nx = 1\n", r"page\.md:1: what begins here does not end"),
        ("```python norun\nx = 1\n```\n", r"page\.md:1: unknown kind of block: python norun"),
    ],
)
def test_a_page_that_is_wrong_fails_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    page = page_with(tmp_path, text)

    with pytest.raises(pytest.fail.Exception, match=message):
        run_page(page)
