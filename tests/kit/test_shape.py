"""labkit stays small: tokens, modules, functions. Run it to see the table of rooms."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "labkit"
MODULES = sorted(PACKAGE.rglob("*.py"))
BUDGET_TOKENS = 131_160
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def tokens(module: Path) -> int:
    """Python tokens without comments, docstrings and layout: what no formatter changes."""
    text = module.read_text(encoding="utf-8")
    strings = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    docstrings = {(s.lineno, s.col_offset) for s in strings if isinstance(s.value, str)}
    return sum(
        token.type not in LAYOUT and token.start not in docstrings
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )


def functions(module: Path) -> list[tuple[str, int]]:
    """Name and lines of each function, without its docstring."""
    lengths = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lengths.append((node.name, (node.end_lineno or 0) - first.lineno + 1))
    return lengths


def test_the_package_keeps_its_budget() -> None:
    assert sum(map(tokens, MODULES)) <= BUDGET_TOKENS


def test_no_module_is_long() -> None:
    lines = {str(m.relative_to(PACKAGE)): len(m.read_text().splitlines()) for m in MODULES}
    assert {name: count for name, count in lines.items() if count > 300} == {}


def test_no_function_is_long() -> None:
    long = {f"{m.relative_to(PACKAGE)}: {name}": n for m in MODULES for name, n in functions(m)}
    assert {name: count for name, count in long.items() if count > 50} == {}


def test_the_formatter_formats_all() -> None:
    assert [str(m) for m in MODULES if re.search(r"# fmt: (skip|off)", m.read_text())] == []


if __name__ == "__main__":
    for room in sorted({m.relative_to(PACKAGE).parts[0] for m in MODULES if m.parent != PACKAGE}):
        inside = sorted((PACKAGE / room).rglob("*.py"))
        lines = sum(len(m.read_text().splitlines()) for m in inside)
        about = (
            ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
        ).split("\n")[0]
        counts = f"{sum(map(tokens, inside)):7,} tokens {lines:6,} lines {len(inside):3} modules"
        print(f"{room:10}{counts}  {about}")
    print(f"{'all':10}{sum(map(tokens, MODULES)):7,} tokens, at most {BUDGET_TOKENS:,}")
