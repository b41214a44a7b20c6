"""This module reads syntax trees: their meaning as text, and the names that statements bind, mention and import."""

from __future__ import annotations

import ast
import importlib.util
import types
from collections.abc import Iterator
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)

_NOT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_GUARDS = ("__name__", "TYPE_CHECKING")


def meaning(node: Any) -> str:
    """Return a syntax tree as text, the same in all Python versions, without layout, docstrings and type comments."""
    # With its type, as 1, 1.0 and True are equal in Python and do not compute the same.
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, list):
        items = [meaning(item) for item in node if not says_nothing(item)]
        return f"[{','.join(items)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        # Empty fields are left out: newer Python versions add fields that older ones do not have.
        if name not in _NOT_MEANING and value is not None and value != []:
            fields.append(f"{name}={meaning(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def says_nothing(node: Any) -> bool:
    """Return True if a statement is a docstring or another constant without effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_guarded(node: ast.stmt) -> bool:
    """Return True if a statement does nothing on import: `if __name__ == "__main__"` or `if TYPE_CHECKING`."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test.left if isinstance(node.test, ast.Compare) else node.test
    return last_name(test) in _GUARDS


def single_imports(node: ast.stmt) -> list[ast.stmt]:
    """Return a statement as a list; an import of several names becomes an import of each."""
    if isinstance(node, ast.Import):
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node) for alias in node.names]
    return [node]


def bound_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.name
        return
    for child in ast.walk(node):
        if isinstance(child, IMPORTS):
            for alias in child.names:
                yield alias.asname or alias.name.partition(".")[0]
        elif isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            yield child.name
        elif isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load):
            yield child.id


def mentioned_names(node: ast.stmt) -> Iterator[str]:
    """Yield the names in a statement, and its strings, which may be names that are looked up."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield child.id
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


def imported_names(node: ast.stmt, package: str) -> Iterator[tuple[str, str | None]]:
    """Yield the modules that an import names, each with the name taken from it; `None` means the whole module.

    Args:
        node: A statement; anything but an import names nothing.
        package: The package of its module, from which relative imports start.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, None
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            try:
                base = importlib.util.resolve_name("." * node.level + base, package)
            except ImportError:
                return
        for alias in node.names:
            yield base, None if alias.name == "*" else alias.name


def root_name(node: ast.AST) -> str:
    """Return the name at the beginning of an expression: `a` of `a.b[c](d)`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        return root_name(node.value)
    return root_name(node.func) if isinstance(node, ast.Call) else ""


def last_name(node: ast.AST) -> str:
    """Return the name at the end of an expression: `b` of `a.b`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def lambda_meaning(code: types.CodeType, statement: ast.stmt) -> str:
    """Return the meaning of the lambda that a code object belongs to; empty for a function with a name."""
    if code.co_name != "<lambda>":
        return ""
    positions = []
    for line, _, column, _ in code.co_positions():
        # Instructions that stand for no text of their own have no column, or column 0.
        if line and column is not None and column > 0:
            positions.append((line, column))
    if not positions:
        return ""
    candidates = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Lambda):
            start = (node.lineno, node.col_offset)
            end = (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
            if start <= min(positions) and max(positions) <= end:
                candidates.append(node)
    if not candidates:
        return ""
    # Lambdas nest: of all that contain every position of the code, the innermost is the one.
    return meaning(min(candidates, key=lambda node: len(ast.dump(node))))
