"""This module walks over the code that a registered object reaches, and digests it.

Statements and values reach each other: a statement reaches the values that it binds, a value the statement that
defines it. The order of the walk is a part of every digest: an object that is met again is only called `seen`.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import os
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablations.errors import PluginError
from runners.code_identity.library_names import importable_name, original_name
from runners.code_identity.modules import Module, Statement, UserModules, parent_packages
from runners.code_identity.syntax import FUNCTIONS, IMPORTS, imported_names, lambda_meaning, last_name, meaning

_PLAIN = (type(None), bool, int, float, complex, bytes)
_DYNAMIC_IMPORTS = ("import_module", "__import__")
_LOOKING_UP = frozenset({"globals", "locals", "vars", "eval", "exec"})
"""Functions that find a name which the code does not mention. A statement that uses one reaches its whole module."""


def plugin_digest(registered: object, plugin: str, others: Mapping[str, object] | None = None) -> str:
    """Return the SHA-256 of a registered callable's code and of all that it reaches.

    Args:
        registered: The registered object: a function, a class, a partial, an object that can be called.
        plugin: The module that was loaded as the plug-in; all of it counts where an object does not tell its code.
        others: Objects that plug-ins have registered, by name. Code that mentions such a name reaches its object, too.

    Raises:
        PluginError: The source of something cannot be read.
    """
    walk = _Walk(plugin, others or {})
    text = walk.describe(registered)
    if walk.is_opaque:
        module = walk.modules.get(plugin)
        if module is None:
            raise _no_source(registered)
        # Nothing says how an opaque object was made, so that the whole plug-in stands for it.
        walk.reach_all(module)
    # Texts of a plug-in may contain lone surrogates.
    return hashlib.sha256("\n".join([text, *walk.pieces()]).encode("utf-8", "surrogatepass")).hexdigest()


class _Walk:
    """A walk over the code that a registered object reaches, and the statements reached so far.

    Attributes:
        is_opaque: Whether it met an object of a library, outside of globals, whose code cannot be read.
    """

    def __init__(self, plugin: str, others: Mapping[str, object]) -> None:
        self.modules = UserModules(plugin)
        self.is_opaque = False
        self._others = others
        # Objects, not just their ids: an id is unique only while its object lives.
        self._seen: dict[int, object] = {}
        self._under_way: set[int] = set()
        self._in_globals = 0
        self._folder = str(Path(getattr(sys.modules.get(plugin), "__file__", None) or ".").resolve().parent)

    def pieces(self) -> Iterator[str]:
        """Yield the reached code, modules by name and statements in their order; names of modules do not count."""
        for module in self.modules.read_so_far():
            if module.content and module.is_touched:
                yield module.content
            for statement in module.statements:
                if statement.is_taken:
                    yield meaning(statement.node)
                    yield from statement.values

    # Statements

    def touch(self, module: Module | None) -> None:
        """Reach the acting statements of a module and of the modules that it imports."""
        if module is None or module.is_touched:
            return
        module.is_touched = True
        # Importing `a.b` runs `a/__init__.py` first.
        for name in parent_packages(module.name):
            self.touch(self.modules.get(name))
        for statement in module.statements:
            if statement.is_acting:
                self._take(module, statement)
            elif isinstance(statement.node, IMPORTS):
                for target, attribute in imported_names(statement.node, module.package):
                    self.touch(self.modules.get(target))
                    if attribute is not None:
                        self.touch(self.modules.get(f"{target}.{attribute}"))

    def reach(self, module: Module | None, names: frozenset[str] | set[str]) -> None:
        """Reach the statements of a module that bind some names, and the code that these mention."""
        if module is None:
            return
        self.touch(module)
        if names <= module.reached:
            return
        module.reached |= names
        for statement in module.statements:
            # A star import may bind any name.
            if not statement.is_taken and (statement.binds & module.reached or "*" in statement.binds):
                self._take(module, statement)

    def reach_all(self, module: Module | None) -> None:
        """Reach all of a module."""
        if module is not None:
            self.touch(module)
            for statement in module.statements:
                self._take(module, statement)

    def _take(self, module: Module, statement: Statement) -> None:
        """Reach a statement, what it imports, the names that it mentions and the values that it binds."""
        if statement.is_taken:
            return
        # Set first: the statement may reach itself.
        statement.is_taken = True
        if statement.mentions & _LOOKING_UP:
            self.reach_all(module)
        for node in ast.walk(statement.node):
            if isinstance(node, IMPORTS):
                self._follow(module, node)
            elif isinstance(node, ast.Call) and last_name(node.func) in _DYNAMIC_IMPORTS:
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        self._follow(module, ast.Import([ast.alias(argument.value)]))
        self.reach(module, statement.mentions)
        # Sorted, since a set has another order in each process and the digest depends on that of the walk.
        for name in sorted(statement.mentions & self._others.keys()):
            self.describe(self._others[name])
        if not isinstance(statement.node, (*FUNCTIONS, ast.ClassDef, *IMPORTS)):
            # The statement tells how a library's object in a global is made, so such an object is not opaque.
            self._in_globals += 1
            for name in sorted(statement.binds & module.namespace.keys()):
                statement.values.append(f"{name}={self.describe(module.namespace[name])}")
            self._in_globals -= 1

    def _follow(self, module: Module, node: ast.Import | ast.ImportFrom) -> None:
        """Reach imported code: the name that is taken from a module, or the whole module."""
        for target, name in imported_names(node, module.package):
            imported = self.modules.imported(target)
            if imported is None:
                continue
            if name is None or imported.content:
                self.reach_all(imported)
                continue
            self.reach(imported, {name})
            if not any(name in statement.binds for statement in imported.statements):
                self.reach_all(self.modules.imported(f"{target}.{name}"))

    # Values

    def describe(self, value: Any) -> str:
        """Return the text of a value for the digest, and reach the code behind it."""
        # Before texts and numbers, as members of a `StrEnum` or an `IntEnum` are these as well.
        if isinstance(value, enum.Enum):
            return f"{self._class(type(value))}.{value.name}"
        if type(value) in _PLAIN:
            return f"{type(value).__name__}:{value!r}"
        if isinstance(value, str | Path):
            return f"str:{self._without_folder(str(value))!r}"
        if id(value) in self._under_way or id(value) in self._seen:
            # A cycle, or an object that was described before.
            return "seen"
        self._under_way.add(id(value))
        try:
            return self._container(value) or _array(value) or self._object(value)
        finally:
            self._under_way.remove(id(value))

    def _describe_all(self, values: Iterator[Any] | list[Any] | tuple[Any, ...]) -> str:
        return ",".join(map(self.describe, values))

    def _container(self, value: Any) -> str:
        # Mappings and sets are sorted: their order differs between processes and means nothing.
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
            entries = [f"{self.describe(key)}:{self.describe(item)}" for key, item in value.items()]
            return "{" + ",".join(sorted(entries)) + "}"
        # Not their subclasses: a named tuple has a class, whose code counts.
        if type(value) in (list, tuple):
            return f"{type(value).__name__}[{self._describe_all(value)}]"
        if type(value) in (set, frozenset):
            return f"set[{','.join(sorted(map(self.describe, value)))}]"
        return ""

    def _without_folder(self, text: str) -> str:
        # The folder of a plug-in does not change its results, and it differs on a cluster.
        return text.replace(self._folder, "<folder>").replace(os.getcwd(), "<folder>")

    def _object(self, value: Any) -> str:
        if isinstance(value, functools.partial):
            return f"partial({self._describe_all((value.func, value.args, dict(value.keywords)))})"
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return f"method({self._describe_all((value.__func__, value.__self__))})"
        if isinstance(value, staticmethod | classmethod):
            return self.describe(value.__func__)
        if isinstance(value, property):
            return f"property({self._describe_all((value.fget, value.fset, value.fdel))})"
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.ModuleType):
            module = self.modules.get(value.__name__)
            self.reach_all(module)
            if module is None:
                return f"module:{original_name(value.__name__)}"
            return "module:"
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None:
            return f"{type(value).__qualname__}({self.describe(wrapped)})"
        name = importable_name(value)
        if name:
            return f"library:{name}"
        return self._instance(value)

    def _instance(self, value: Any) -> str:
        kind = type(value)
        if self.modules.get(kind.__module__) is None:
            # An object of a library: the statement that binds it, if there is one, tells how it was made.
            self.is_opaque |= not self._in_globals
            return f"object:{original_name(f'{kind.__module__}.{kind.__qualname__}')}"
        state = dict(getattr(value, "__dict__", {}))
        for base in kind.__mro__:
            for name in getattr(base, "__slots__", ()):
                state[name] = getattr(value, name, None)
        state.pop("__weakref__", None)
        return f"object({self._class(kind)},{self.describe(state)})"

    def _class(self, kind: type) -> str:
        module = self.modules.get(kind.__module__)
        if module is None:
            return f"library:{original_name(f'{kind.__module__}.{kind.__qualname__}')}"
        if module.content:
            raise _no_source(kind)
        self.reach(module, {kind.__qualname__.partition(".")[0]})
        members = []
        # A class within a function is made anew by each call: its members count each time.
        if id(kind) not in self._seen or "<locals>" in kind.__qualname__:
            self._seen[id(kind)] = kind
            for name, item in vars(kind).items():
                if _counts_as_member(name, item):
                    members.append(f"{name}={self.describe(item)}")
            members += map(self._class, kind.__mro__[1:])
        return f"class({','.join(members)})"

    def _function(self, function: types.FunctionType) -> str:
        self._seen[id(function)] = function
        module_name = str(function.__globals__.get("__name__", function.__module__))
        module = self.modules.get(module_name)
        if module is not None:
            items = [self._own_function(function, module)]
        else:
            items = [importable_name(function) or original_name(f"{module_name}.{function.__qualname__}")]
            if not items[0].partition(".")[0] or function.__globals__.get("__file__") is None:
                raise _no_source(function)
        for cell in function.__closure__ or ():
            try:
                items.append(self.describe(cell.cell_contents))
            except ValueError:
                # A variable of the enclosing function to which nothing has been assigned yet.
                items.append("empty")
        items.append(self.describe([list(function.__defaults__ or ()), dict(function.__kwdefaults__ or {})]))
        for key, item in sorted(function.__dict__.items()):
            items.append(f"{key}={self.describe(item)}")
        return f"function({','.join(items)})"

    def _own_function(self, function: types.FunctionType, module: Module) -> str:
        """Reach the statement that defines a function of the user; return its name, or a lambda's meaning."""
        line = function.__code__.co_firstlineno
        file_name = Path(str(module.namespace.get("__file__"))).name
        statement = None
        # The names alone: compiled code keeps the folder where it was compiled, which may be another one.
        if Path(function.__code__.co_filename).name == file_name:
            statement = next((candidate for candidate in module.statements if candidate.has_line(line)), None)
        if statement is None:
            raise _no_source(function)
        self.touch(module)
        self._take(module, statement)
        # A statement may hold several lambdas.
        return lambda_meaning(function.__code__, statement.node) or function.__name__


def _no_source(value: Any) -> PluginError:
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return PluginError(f"the code of {name} cannot be read, so nobody can tell when it changes")


def _counts_as_member(name: str, item: Any) -> bool:
    """Return True if an attribute of a class is code from a source file or a plain value."""
    if isinstance(item, property):
        return True
    if isinstance(item, types.FunctionType | staticmethod | classmethod):
        if not isinstance(item, types.FunctionType):
            item = item.__func__
        code = getattr(item, "__code__", None)
        # Methods that `dataclass` generates come from no file.
        return code is not None and not code.co_filename.startswith("<")
    return type(item) in (*_PLAIN, str) and not name.startswith("__")


def _array(value: Any) -> str:
    """Return type, shape and digest of the content of a tensor or an array; empty for anything else."""
    # Whoever has made one has imported its library.
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        # As bytes, since numpy has no type for some of torch's, such as bfloat16.
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"tensor({value.dtype},{tuple(value.shape)},{hashlib.sha256(plain.tobytes()).hexdigest()})"
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) and value.dtype != object:
        return f"array({value.dtype},{value.shape},{hashlib.sha256(value.tobytes()).hexdigest()})"
    return ""
