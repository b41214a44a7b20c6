"""Digests a plug-in's code: a registered callable and all that it reaches in the user's own modules.

`runners.plugins` makes the digests part of fingerprints, so a change of the code makes its results stale.

Statements at the top of a module are the unit. What is registered reaches the statements that define it; these reach
the statements that bind the names they mention, in their own module and in those they import from, and so on. A
statement that acts when the module is imported (a call, an assignment to a part of something) is always reached, as it
may change what the others do. Statements count by their meaning: comments, layout and docstrings do not.

Values are added where code alone does not tell them: what a closure holds, arguments of a `functools.partial`, and
constants that are computed when the module is imported. Own modules are those of the user: not the standard library,
not what is installed (unless the plug-in itself is), not this project.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from ablations.errors import PluginError

_PROJECT = Path(__file__).resolve().parent.parent
_PROJECT_PARTS = ("ablations", "dyconv", "runners", "reports", "run_ablation")
_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib") if sysconfig.get_path(name)
)
_INSTALLED = ("site-packages", "dist-packages")
_PLAIN = (type(None), bool, int, float, complex, bytes)
_NOT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_REGISTERING = ("register_", "add_aggregation", "add_network")
_GUARDS = ("__name__", "TYPE_CHECKING")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_DYNAMIC_IMPORTS = ("import_module", "__import__")
_LOOKING_UP = frozenset({"globals", "locals", "vars", "eval", "exec"})
"""Functions that find a name which the code does not mention. A statement that uses one reaches its whole module."""
_COMMON_HOMES = ("builtins", "torch", "torch.nn.functional", "numpy", "math", "operator")
"""Modules in which a function without a usable `__module__` is looked for."""


_EARLIER = {
    "ablations.datasets.builtin.": "ablations.dataset_entries.",
    "ablations.datasets.facts.": "ablations.facts.",
    "ablations.datasets.registry.": "ablations.datasets.",
    "ablations.spec.parts.": "ablations.spec.",
    "ablations.spec.trial.": "ablations.spec.",
    "dyconv.kernels.": "dyconv.",
    "dyconv.networks.dry_run.": "dyconv.description.",
    "dyconv.networks.initialisation.": "dyconv.conversion.",
    "dyconv.networks.obstacles.": "dyconv.conversion.",
    "dyconv.networks.roles.": "dyconv.description.",
    "dyconv.networks.": "dyconv.",
    "runners.data.readers.": "runners.data.",
    "runners.data.transforms.Augmentation": "runners.data.batches.Augmentation",
}
"""Present → original prefix of names of the project; the first that fits counts.

Digests use the original name: a move of our code is no change of a user's.
"""


def code_digest(registered: object, plugin: str, others: Mapping[str, object] | None = None) -> str:
    """Return the SHA-256 of a registered callable's code and of all that it reaches.

    Args:
        registered: The registered object: a function, a class, a partial, an object that can be called.
        plugin: The module that was loaded as the plug-in; all of it counts where an object does not tell its code.
        others: Objects that plug-ins have registered, by name. Code that mentions such a name reaches its object, too.

    Raises:
        PluginError: The source of something cannot be read.
    """
    walk = _Walk(plugin, others or {})
    text = walk.value(registered)
    if walk.is_opaque:
        module = walk.module(plugin)
        if module is None:
            raise _no_source(registered)
        walk.whole(module)
    # Texts of a plug-in may contain lone surrogates.
    return hashlib.sha256("\n".join([text, *walk.pieces()]).encode("utf-8", "surrogatepass")).hexdigest()


def meaning(node: Any) -> str:
    """Return a syntax tree as text, the same in all Python versions, without layout, docstrings and type comments."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, list):
        return f"[{','.join(meaning(item) for item in node if not _says_nothing(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if name not in _NOT_MEANING)
    # Empty fields are left out: newer Python versions add fields that older ones do not have.
    texts = (f"{name}={meaning(value)}" for name, value in fields if value is not None and value != [])
    return f"{type(node).__name__}({','.join(texts)})"


def _says_nothing(node: Any) -> bool:
    """Return True if a statement is a docstring or another constant without effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@dataclass(eq=False)
class _Statement:
    """A statement at the top of a module; an import of several names counts as several.

    Attributes:
        node: Its syntax tree.
        binds: The names that it binds or changes a part of.
        mentions: All names and words in it.
        is_acting: Whether importing the module may change something by it beside binding names.
    """

    node: ast.stmt
    binds: frozenset[str]
    mentions: frozenset[str]
    is_acting: bool
    is_taken: bool = False
    values: list[str] = field(default_factory=list)

    def holds(self, line: int) -> bool:
        decorators: list[ast.expr] = getattr(self.node, "decorator_list", [])
        # Since Python 3.8 a function begins at `def`, but its code object at the first decorator.
        start = min([self.node.lineno, *(decorator.lineno for decorator in decorators)])
        return start <= line <= (self.node.end_lineno or self.node.lineno)


@dataclass(eq=False)
class _Module:
    """A module of the user: its statements and present names; for one that is not Python, a digest of its bytes."""

    name: str
    package: str
    namespace: Mapping[str, Any]
    statements: list[_Statement] = field(default_factory=list)
    content: str = ""
    reached: set[str] = field(default_factory=set)
    is_touched: bool = False


class _Walk:
    """A walk over the code that a registered object reaches, and the statements reached so far.

    Attributes:
        is_opaque: Whether it met an object of a library, outside of globals, whose code cannot be read.
    """

    def __init__(self, plugin: str, others: Mapping[str, object]) -> None:
        self.is_opaque = False
        self._top = plugin.partition(".")[0]
        self._others = others
        self._modules: dict[str, _Module | None] = {}
        self._seen: dict[int, object] = {}
        self._under_way: set[int] = set()
        self._in_globals = 0
        self._folder = str(Path(getattr(sys.modules.get(plugin), "__file__", None) or ".").resolve().parent)

    def pieces(self) -> Iterator[str]:
        """Yield the reached code, modules by name and statements in their order; names of modules do not count."""
        for _, module in sorted((name, module) for name, module in self._modules.items() if module is not None):
            taken = [statement for statement in module.statements if statement.is_taken]
            yield from [module.content] if module.content and module.is_touched else []
            for statement in taken:
                yield meaning(statement.node)
                yield from statement.values

    # Modules

    def module(self, name: str) -> _Module | None:
        """Return the user's module of that name with its statements; `None` if it is not the user's or has no file."""
        if name not in self._modules:
            # Set first: reading the module may ask for it again.
            self._modules[name] = None
            loaded = sys.modules.get(name)
            file = getattr(loaded, "__file__", None)
            if loaded is not None and file and self.is_own(name, Path(file)):
                self._modules[name] = self._read(name, loaded, Path(file))
        return self._modules[name]

    def is_own(self, name: str, file: Path) -> bool:
        """Return True if a module is the user's: not of this project, not installed beside it, not of Python."""
        top, path = name.partition(".")[0], file.resolve()
        if top in _PROJECT_PARTS and path.is_relative_to(_PROJECT):
            return False
        if any(component in _INSTALLED for component in path.parts):
            # A plug-in that is installed counts, with all modules of its own distribution.
            return top == self._top or bool(_distributions(top) & _distributions(self._top))
        return not any(path.is_relative_to(folder) for folder in _LIBRARIES)

    def _read(self, name: str, module: types.ModuleType, file: Path) -> _Module:
        package = module.__package__ or ("" if "." not in name else name.rpartition(".")[0])
        parsed = _Module(name, package, vars(module))
        source = _source(module, file)
        if source is None:
            parsed.content = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "unreadable"
            return parsed
        for node in ast.parse(source).body:
            if not _says_nothing(node) and not _is_guarded(node):
                parsed.statements += [self._statement(statement, parsed.namespace) for statement in _parts(node)]
        return parsed

    def _statement(self, node: ast.stmt, namespace: Mapping[str, Any]) -> _Statement:
        binds = {*_binds(node), *self._changes(node, namespace)}
        return _Statement(node, frozenset(binds), frozenset(_mentions(node)), self._acts(node, namespace))

    def _changes(self, node: ast.stmt, namespace: Mapping[str, Any]) -> Iterator[str]:
        """Yield the names of objects that a statement may change: by a part, by a method, by a subclass."""
        if isinstance(node, ast.ClassDef):
            bases = (base.id for base in node.bases if isinstance(base, ast.Name))
            yield from (name for name in bases if self._is_own_object(namespace.get(name)))
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef, *_IMPORTS)):
            return
        for expression in ast.walk(node):
            is_part = isinstance(expression, (ast.Attribute, ast.Subscript)) and not isinstance(
                expression.ctx, ast.Load
            )
            # A method may change its object: `TABLE.update(…)`; a function of a module is no such call.
            is_method = isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute)
            name = _root(expression)
            if (is_part or is_method) and not isinstance(namespace.get(name), types.ModuleType):
                yield name

    def _acts(self, node: ast.stmt, namespace: Mapping[str, Any]) -> bool:
        """Return True if a statement may change something, beside binding names, when its module is imported."""
        if isinstance(node, _IMPORTS):
            return False
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            return any(self._is_own_object(namespace.get(_root(candidate))) for candidate in node.decorator_list)
        if isinstance(node, ast.Expr):
            return not _registers(node.value, namespace)
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            outside = [target for target in targets if isinstance(target, (ast.Attribute, ast.Subscript))]
            calls = [call_node.func for call_node in ast.walk(node) if isinstance(call_node, ast.Call)]
            called = [namespace.get(_root(call)) for call in calls]
            runs_own = any(not isinstance(candidate, type) and self._is_own_object(candidate) for candidate in called)
            # Filling a plain container only binds: `_changes` ties the statement to the container's name.
            return runs_own or any(
                not isinstance(namespace.get(_root(target)), dict | list | set) for target in outside
            )
        return True

    def _is_own_object(self, found: Any) -> bool:
        if isinstance(found, types.ModuleType):
            return self.module(found.__name__) is not None
        return self.module(str(getattr(found, "__module__", ""))) is not None

    def touch(self, module: _Module | None) -> None:
        """Reach the acting statements of a module and of the modules that it imports."""
        if module is None or module.is_touched:
            return
        module.is_touched = True
        # Importing `a.b` runs `a/__init__.py` first.
        for name in _parents(module.name):
            self.touch(self.module(name))
        for statement in module.statements:
            if statement.is_acting:
                self._take(module, statement)
            elif isinstance(statement.node, _IMPORTS):
                for target, name_taken in _targets(statement.node, module):
                    self.touch(self.module(target))
                    self.touch(self.module(f"{target}.{name_taken}") if name_taken is not None else None)

    def reach(self, module: _Module | None, names: frozenset[str] | set[str]) -> None:
        """Reach the statements of a module that bind some names, and the code that these mention."""
        if module is None:
            return
        self.touch(module)
        if names <= module.reached:
            return
        module.reached |= names
        for statement in module.statements:
            if not statement.is_taken and (statement.binds & module.reached or "*" in statement.binds):
                self._take(module, statement)

    def whole(self, module: _Module | None) -> None:
        """Reach all of a module."""
        if module is not None:
            self.touch(module)
            for statement in module.statements:
                self._take(module, statement)

    def _take(self, module: _Module, statement: _Statement) -> None:
        if statement.is_taken:
            return
        statement.is_taken = True
        if statement.mentions & _LOOKING_UP:
            self.whole(module)
        for node in ast.walk(statement.node):
            if isinstance(node, _IMPORTS):
                self._follow(module, node)
            elif isinstance(node, ast.Call) and _last(node.func) in _DYNAMIC_IMPORTS:
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        self._follow(module, ast.Import([ast.alias(argument.value)]))
        self.reach(module, statement.mentions)
        for name in sorted(statement.mentions & self._others.keys()):
            self.value(self._others[name])
        if not isinstance(statement.node, (*_FUNCTIONS, ast.ClassDef, *_IMPORTS)):
            # The statement tells how a library's object in a global is made, so such an object is not opaque.
            self._in_globals += 1
            bound = sorted(statement.binds & module.namespace.keys())
            statement.values += [f"{name}={self.value(module.namespace[name])}" for name in bound]
            self._in_globals -= 1

    def _follow(self, module: _Module, node: ast.Import | ast.ImportFrom) -> None:
        """Reach imported code: the name that is taken from a module, or the whole module."""
        for target, name in _targets(node, module):
            imported = self._imported(target)
            if imported is None:
                continue
            if name is None or imported.content:
                self.whole(imported)
                continue
            self.reach(imported, {name})
            if not any(name in statement.binds for statement in imported.statements):
                self.whole(self._imported(f"{target}.{name}"))

    def _imported(self, name: str) -> _Module | None:
        """Return a module of the user, importing it if need be.

        Code that imports it only when it is called must have the same digest before and after that.
        """
        if name not in sys.modules and self._is_findable(name):
            try:
                importlib.import_module(name)
            except Exception:
                return None
            # It was recorded as absent before the import.
            self._modules.pop(name, None)
        return self.module(name)

    def _is_findable(self, name: str) -> bool:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return False
        if spec is None or not spec.origin or not spec.has_location:
            return False
        return self.is_own(name, Path(spec.origin))

    # Values

    def value(self, found: Any) -> str:
        """Return the text of a value for the digest, and reach the code behind it."""
        if isinstance(found, enum.Enum):
            return f"{self._class(type(found))}.{found.name}"
        if type(found) in _PLAIN:
            return f"{type(found).__name__}:{found!r}"
        if isinstance(found, str | Path):
            return f"str:{self._without_folder(str(found))!r}"
        if id(found) in self._under_way or id(found) in self._seen:
            # A cycle, or an object that was described before.
            return "seen"
        self._under_way.add(id(found))
        try:
            return self._data(found) or _array(found) or self._object(found)
        finally:
            self._under_way.remove(id(found))

    def _data(self, found: Any) -> str:
        # Sorted, as are sets: their order differs between processes and means nothing.
        if isinstance(found, Mapping) and type(found).__module__ in ("builtins", "collections"):
            return "{" + ",".join(sorted(f"{self.value(key)}:{self.value(item)}" for key, item in found.items())) + "}"
        if type(found) in (list, tuple):
            return f"{type(found).__name__}[{','.join(self.value(item) for item in found)}]"
        if type(found) in (set, frozenset):
            return f"set[{','.join(sorted(self.value(item) for item in found))}]"
        return ""

    def _without_folder(self, text: str) -> str:
        # The folder of a plug-in does not change its results, and it differs on a cluster.
        return text.replace(self._folder, "<folder>").replace(os.getcwd(), "<folder>")

    def _object(self, found: Any) -> str:
        if isinstance(found, functools.partial):
            arguments = (found.func, found.args, dict(found.keywords))
            return f"partial({','.join(self.value(item) for item in arguments)})"
        if isinstance(found, types.FunctionType):
            return self._function(found)
        if isinstance(found, types.MethodType):
            return f"method({self.value(found.__func__)},{self.value(found.__self__)})"
        if isinstance(found, staticmethod | classmethod):
            return self.value(found.__func__)
        if isinstance(found, property):
            return f"property({','.join(self.value(item) for item in (found.fget, found.fset, found.fdel))})"
        if isinstance(found, type):
            return self._class(found)
        if isinstance(found, types.ModuleType):
            self.whole(self.module(found.__name__))
            return f"module:{_told(found.__name__) if self.module(found.__name__) is None else ''}"
        wrapped = getattr(found, "__wrapped__", None)
        if wrapped is not None:
            return f"{type(found).__qualname__}({self.value(wrapped)})"
        name = _importable(found)
        return f"library:{name}" if name else self._instance(found)

    def _instance(self, found: Any) -> str:
        kind = type(found)
        if self.module(kind.__module__) is None:
            # An object of a library: the statement that binds it, if there is one, tells how it was made.
            self.is_opaque |= not self._in_globals
            return f"object:{_told(f'{kind.__module__}.{kind.__qualname__}')}"
        slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
        state = {**getattr(found, "__dict__", {}), **{name: getattr(found, name, None) for name in slots}}
        state = {name: item for name, item in state.items() if name != "__weakref__"}
        return f"object({self._class(kind)},{self.value(state)})"

    def _class(self, kind: type) -> str:
        module = self.module(kind.__module__)
        if module is None:
            return f"library:{_told(f'{kind.__module__}.{kind.__qualname__}')}"
        if module.content:
            raise _no_source(kind)
        self.reach(module, {kind.__qualname__.partition(".")[0]})
        members = []
        if id(kind) not in self._seen or "<locals>" in kind.__qualname__:
            self._seen[id(kind)] = kind
            for name, item in vars(kind).items():
                is_code = isinstance(item, types.FunctionType | staticmethod | classmethod | property)
                if (is_code and _has_file(item)) or (type(item) in (*_PLAIN, str) and not name.startswith("__")):
                    members.append(f"{name}={self.value(item)}")
            members += [self._class(base) for base in kind.__mro__[1:]]
        return f"class({','.join(members)})"

    def _function(self, found: types.FunctionType) -> str:
        # The object is kept: an id is unique only while its object lives.
        self._seen[id(found)] = found
        name = str(found.__globals__.get("__name__", found.__module__))
        module = self.module(name)
        items = [] if module is not None else [_importable(found) or _told(f"{name}.{found.__qualname__}")]
        if module is not None:
            line = found.__code__.co_firstlineno
            is_same_file = Path(found.__code__.co_filename).name == Path(str(module.namespace.get("__file__"))).name
            statement = (
                next((candidate for candidate in module.statements if candidate.holds(line)), None)
                if is_same_file
                else None
            )
            if statement is None:
                raise _no_source(found)
            self.touch(module)
            self._take(module, statement)
            # A statement may hold several lambdas.
            items.append(_lambda_of(found.__code__, statement.node) or found.__name__)
        elif not items[0].partition(".")[0] or found.__globals__.get("__file__") is None:
            raise _no_source(found)
        for cell in found.__closure__ or ():
            try:
                items.append(self.value(cell.cell_contents))
            except ValueError:
                items.append("empty")
        items.append(self.value([list(found.__defaults__ or ()), dict(found.__kwdefaults__ or {})]))
        items += [f"{key}={self.value(item)}" for key, item in sorted(found.__dict__.items())]
        return f"function({','.join(items)})"


def _no_source(found: Any) -> PluginError:
    name = getattr(found, "__qualname__", None) or type(found).__qualname__
    return PluginError(f"the code of {name} cannot be read, so nobody can tell when it changes")


def _source(module: types.ModuleType, file: Path) -> str | None:
    """Return the source of a module, `None` if it has none, as a compiled extension."""
    loader: Any = getattr(module, "__loader__", None)
    try:
        text = loader.get_source(module.__name__) if hasattr(loader, "get_source") else None
        return text if text is not None or file.suffix != ".py" else file.read_text(encoding="utf-8")
    except (ImportError, OSError, ValueError):
        return None


@functools.cache
def _all_distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _distributions(top: str) -> set[str]:
    """Return the installed distributions that a top-level module belongs to."""
    return set(_all_distributions().get(top, ()))


def _is_guarded(node: ast.stmt) -> bool:
    """Return True if a statement does nothing on import: `if __name__ == "__main__"` or `if TYPE_CHECKING`."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test.left if isinstance(node.test, ast.Compare) else node.test
    return _last(test) in _GUARDS


def _parts(node: ast.stmt) -> list[ast.stmt]:
    """Return a statement as a list; an import of several names becomes an import of each."""
    if isinstance(node, ast.Import):
        return [_at(ast.Import([alias]), node) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [_at(ast.ImportFrom(node.module, [alias], node.level), node) for alias in node.names]
    return [node]


def _at(part: ast.stmt, node: ast.stmt) -> ast.stmt:
    return ast.copy_location(part, node)


def _binds(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield node.name
        return
    for child in ast.walk(node):
        if isinstance(child, _IMPORTS):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            yield child.name
        elif isinstance(child, ast.Name) and not isinstance(child.ctx, ast.Load):
            yield child.id


def _mentions(node: ast.stmt) -> Iterator[str]:
    """Yield the names in a statement, and its strings, which may be names that are looked up."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield child.id
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value


def _root(node: ast.AST) -> str:
    """Return the name at the beginning of an expression: `a` of `a.b[c](d)`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        return _root(node.value)
    return _root(node.func) if isinstance(node, ast.Call) else ""


def _last(node: ast.AST) -> str:
    """Return the name at the end of an expression: `b` of `a.b`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _registers(node: ast.AST, namespace: Mapping[str, Any]) -> bool:
    """Return True if an expression registers something with this project: that changes nothing else."""
    while isinstance(node, ast.Call):
        node = node.func
    owner = namespace.get(_root(node))
    home = owner.__name__ if isinstance(owner, types.ModuleType) else str(getattr(owner, "__module__", ""))
    return home.partition(".")[0] in _PROJECT_PARTS and _last(node).startswith(_REGISTERING)


def _parents(name: str) -> list[str]:
    """Return the packages around a module, the outermost first."""
    names = name.split(".")
    return [".".join(names[:count]) for count in range(1, len(names))]


def _targets(node: ast.stmt, module: _Module) -> Iterator[tuple[str, str | None]]:
    """Yield the modules that an import names, each with the name taken from it; `None` means the whole module."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        relative = "." * node.level + (node.module or "")
        try:
            base = importlib.util.resolve_name(relative, module.package) if node.level else relative
        except ImportError:
            return
        yield from ((base, None if alias.name == "*" else alias.name) for alias in node.names)


def _lambda_of(code: types.CodeType, statement: ast.stmt) -> str:
    """Return the meaning of the lambda that a code object belongs to; empty for a function with a name."""
    if code.co_name != "<lambda>":
        return ""
    positions = [
        (line, column) for line, _, column, _ in code.co_positions() if line and column is not None and column > 0
    ]
    candidates = [
        node
        for node in ast.walk(statement)
        if isinstance(node, ast.Lambda)
        and all((node.lineno, node.col_offset) <= position <= _end(node) for position in positions)
    ]
    # Lambdas nest: of all that contain every position of the code, the innermost is the one.
    smallest = min(candidates, key=lambda node: len(ast.dump(node)), default=None) if positions else None
    return meaning(smallest) if smallest is not None else ""


def _end(node: ast.Lambda) -> tuple[int, int]:
    return (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def _has_file(item: Any) -> bool:
    """Return True if a method comes from a source file; methods that `dataclass` generates do not."""
    function = item.__func__ if isinstance(item, staticmethod | classmethod) else item
    code = getattr(function, "__code__", None)
    return isinstance(item, property) or (code is not None and not code.co_filename.startswith("<"))


def _array(found: Any) -> str:
    """Return type, shape and digest of the content of a tensor or an array; empty for anything else."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(found, torch.Tensor):
        plain = found.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"tensor({found.dtype},{tuple(found.shape)},{hashlib.sha256(plain.tobytes()).hexdigest()})"
    if numpy is not None and isinstance(found, numpy.ndarray | numpy.generic) and found.dtype != object:
        return f"array({found.dtype},{found.shape},{hashlib.sha256(found.tobytes()).hexdigest()})"
    return ""


def _importable(found: Any) -> str:
    """Return the dotted name under which an object of a library can be imported; empty if there is none."""
    name = getattr(found, "__qualname__", None) or getattr(found, "__name__", None)
    if not isinstance(name, str):
        return ""
    for home in (getattr(found, "__module__", None), *_COMMON_HOMES):
        candidate: Any = sys.modules.get(home) if isinstance(home, str) else None
        for attribute in (
            name.rpartition(".")[2:] if candidate is not None and home in _COMMON_HOMES else name.split(".")
        ):
            candidate = getattr(candidate, attribute, None)
        if candidate is found:
            return _told(f"{home}.{name}")
    return ""


def _told(name: str) -> str:
    """Return a dotted name as it was when plug-ins were first identified, see `_EARLIER`."""
    for present, earlier in _EARLIER.items():
        if name.startswith(present):
            return earlier + name.removeprefix(present)
    return name
