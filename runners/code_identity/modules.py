"""This module reads the user's modules: which ones are the user's, and what each statement of them binds and does."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from runners.code_identity.syntax import (
    FUNCTIONS,
    IMPORTS,
    bound_names,
    is_guarded,
    last_name,
    mentioned_names,
    root_name,
    says_nothing,
    single_imports,
)

_PROJECT = Path(__file__).resolve().parents[2]
_PROJECT_PARTS = ("ablations", "dyconv", "runners", "reports", "run_ablation")
_LIBRARIES = [Path(path).resolve() for path in map(sysconfig.get_path, ("stdlib", "platstdlib")) if path]
_INSTALLED = ("site-packages", "dist-packages")
_REGISTERING = ("register_", "add_aggregation", "add_network")


@dataclass(eq=False)
class Statement:
    """A statement at the top of a module; an import of several names counts as several.

    Attributes:
        binds: The names that it binds or changes a part of.
        mentions: All names and words in it.
        is_acting: Whether importing the module may change something by it beside binding names.
        is_taken: Whether the digested object reaches it.
        values: Texts of the values that it binds, once it is taken.
    """

    node: ast.stmt
    binds: frozenset[str]
    mentions: frozenset[str]
    is_acting: bool
    is_taken: bool = False
    values: list[str] = field(default_factory=list)

    def has_line(self, line: int) -> bool:
        """Return True if a line of the file belongs to the statement."""
        decorators: list[ast.expr] = getattr(self.node, "decorator_list", [])
        # Since Python 3.8 a function begins at `def`, but its code object at the first decorator.
        start = decorators[0].lineno if decorators else self.node.lineno
        return start <= line <= (self.node.end_lineno or self.node.lineno)


@dataclass(eq=False)
class Module:
    """A module of the user: its statements and present names; for one that is not Python, a digest of its bytes."""

    name: str
    package: str
    namespace: Mapping[str, Any]
    statements: list[Statement] = field(default_factory=list)
    content: str = ""
    reached: set[str] = field(default_factory=set)
    is_touched: bool = False


class UserModules:
    """The user's modules, each read when it is first asked for.

    Args:
        plugin: The plug-in that is digested; if it is installed, all modules of its distribution are the user's.
    """

    def __init__(self, plugin: str) -> None:
        self._top = plugin.partition(".")[0]
        self._modules: dict[str, Module | None] = {}

    def read_so_far(self) -> list[Module]:
        """Return the modules that were read so far, by name."""
        return [module for _, module in sorted(self._modules.items()) if module is not None]

    def get(self, name: str) -> Module | None:
        """Return the user's module of that name with its statements; `None` if it is not the user's or has no file."""
        if name not in self._modules:
            # Set first: reading the module may ask for it again.
            self._modules[name] = None
            loaded = sys.modules.get(name)
            file = getattr(loaded, "__file__", None)
            if loaded is not None and file and self._is_own(name, Path(file)):
                self._modules[name] = self._read(name, loaded, Path(file))
        return self._modules[name]

    def imported(self, name: str) -> Module | None:
        """Return a module of the user, importing it if need be.

        Code that imports it only when it is called must have the same digest before and after that.
        """
        if name not in sys.modules and self._is_findable(name):
            try:
                importlib.import_module(name)
            # Any code may run here and fail in any way; a module that cannot be imported is one that nobody can call.
            except Exception:
                return None
            # It was recorded as absent before the import.
            self._modules.pop(name, None)
        return self.get(name)

    def _is_findable(self, name: str) -> bool:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return False
        # Namespace packages, and modules that are built into Python, have no file to read.
        if spec is None or not spec.origin or not spec.has_location:
            return False
        return self._is_own(name, Path(spec.origin))

    def _is_own(self, name: str, file: Path) -> bool:
        """Return True if a module is the user's: not of this project, not installed beside it, not of Python."""
        top, path = name.partition(".")[0], file.resolve()
        # By name and place: a user's own `reports` package, in another folder, is the user's.
        if top in _PROJECT_PARTS and path.is_relative_to(_PROJECT):
            return False
        if any(component in _INSTALLED for component in path.parts):
            # A plug-in that is installed counts, with all modules of its own distribution.
            return top == self._top or bool(_distributions(top) & _distributions(self._top))
        # Last, since the folders of installed packages may lie within these.
        return not any(path.is_relative_to(folder) for folder in _LIBRARIES)

    def _is_from_user(self, value: Any) -> bool:
        """Return True if a value is a module of the user, or comes from one."""
        if isinstance(value, types.ModuleType):
            return self.get(value.__name__) is not None
        return self.get(str(getattr(value, "__module__", ""))) is not None

    def _read(self, name: str, loaded: types.ModuleType, file: Path) -> Module:
        # A module that was put together by hand may lack it; without it relative imports could not be followed.
        package = loaded.__package__ or name.rpartition(".")[0]
        module = Module(name, package, vars(loaded))
        # The loader is asked before the file, as a module may come from an archive.
        source = _source(loaded, file)
        if source is None:
            module.content = "unreadable"
            if file.is_file():
                module.content = hashlib.sha256(file.read_bytes()).hexdigest()
            return module
        for node in ast.parse(source).body:
            if not says_nothing(node) and not is_guarded(node):
                for statement in single_imports(node):
                    module.statements.append(self._statement(statement, module.namespace))
        return module

    def _statement(self, node: ast.stmt, namespace: Mapping[str, Any]) -> Statement:
        binds = {*bound_names(node), *self._changed_names(node, namespace)}
        return Statement(node, frozenset(binds), frozenset(mentioned_names(node)), self._acts(node, namespace))

    def _changed_names(self, node: ast.stmt, namespace: Mapping[str, Any]) -> Iterator[str]:
        """Yield the names of objects that a statement may change: by a part, by a method, by a subclass."""
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if isinstance(base, ast.Name) and self._is_from_user(namespace.get(base.id)):
                    yield base.id
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, *IMPORTS)):
            return
        for expression in ast.walk(node):
            if isinstance(expression, (ast.Attribute, ast.Subscript)):
                may_change = not isinstance(expression.ctx, ast.Load)
            else:
                # A method may change its object: `TABLE.update(…)`; a function of a module is no such call.
                may_change = isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute)
            name = root_name(expression)
            if may_change and not isinstance(namespace.get(name), types.ModuleType):
                yield name

    def _acts(self, node: ast.stmt, namespace: Mapping[str, Any]) -> bool:
        """Return True if a statement may change something, beside binding names, when its module is imported."""
        if isinstance(node, IMPORTS):
            return False
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            return any(self._is_from_user(namespace.get(root_name(decorator))) for decorator in node.decorator_list)
        if isinstance(node, ast.Expr):
            return not _registers(node.value, namespace)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return self._calls_user_code(node, namespace) or any(_is_outside(target, namespace) for target in targets)
        return True

    def _calls_user_code(self, node: ast.stmt, namespace: Mapping[str, Any]) -> bool:
        """Return True if a statement calls something of the user that is no class."""
        for expression in ast.walk(node):
            if isinstance(expression, ast.Call):
                function = namespace.get(root_name(expression.func))
                if not isinstance(function, type) and self._is_from_user(function):
                    return True
        return False


def _is_outside(target: ast.expr, namespace: Mapping[str, Any]) -> bool:
    """Return True if an assignment to `target` changes a part of something else than a plain container."""
    if not isinstance(target, (ast.Attribute, ast.Subscript)):
        return False
    # Filling a plain container only binds: `_changed_names` ties the statement to the container's name.
    return not isinstance(namespace.get(root_name(target)), dict | list | set)


def _registers(node: ast.AST, namespace: Mapping[str, Any]) -> bool:
    """Return True if an expression registers something with this project: that changes nothing else."""
    while isinstance(node, ast.Call):
        node = node.func
    owner = namespace.get(root_name(node))
    home = owner.__name__ if isinstance(owner, types.ModuleType) else str(getattr(owner, "__module__", ""))
    return home.partition(".")[0] in _PROJECT_PARTS and last_name(node).startswith(_REGISTERING)


def _source(module: types.ModuleType, file: Path) -> str | None:
    """Return the source of a module, `None` if it has none, as a compiled extension."""
    loader: Any = getattr(module, "__loader__", None)
    try:
        text: str | None = None
        if hasattr(loader, "get_source"):
            text = loader.get_source(module.__name__)
        if text is None and file.suffix == ".py":
            text = file.read_text(encoding="utf-8")
    except (ImportError, OSError, ValueError):
        return None
    return text


@functools.cache
def _all_distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _distributions(top: str) -> set[str]:
    """Return the installed distributions that a top-level module belongs to."""
    return set(_all_distributions().get(top, ()))


def parent_packages(name: str) -> list[str]:
    """Return the packages around a module, the outermost first."""
    names = name.split(".")
    return [".".join(names[:count]) for count in range(1, len(names))]
