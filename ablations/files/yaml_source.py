"""This module reads YAML text as mappings, lists and scalars, and keeps the line of every key for error messages.

Scalars follow YAML 1.2: `1e-3` is a number, `no` and `2020-01-01` are words. Keys are words, even those that look like
numbers. Refused, each with its line, are tags of other types (nothing here can build a Python object), keys that are
defined twice, control characters, and documents that grow without end through nesting or aliases. Studies and searches
are read from the result elsewhere (`study_file`, `ablations.planning.search`).
"""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ablations.errors import SpecError, StudyError

_MAX_BYTES = 256_000
_MAX_DEPTH = 40
_MAX_NODES = 20_000
_MAX_DIGITS = 18
_TAG = "tag:yaml.org,2002:"

Location = tuple[str | int, ...]


class _MalformedError(Exception):
    def __init__(self, line: int, reason: str) -> None:
        self.line, self.reason = line, reason
        super().__init__(reason)


class _Loader(yaml.SafeLoader):
    """The scanner and parser of PyYAML with the scalars of YAML 1.2's core schema."""


# Type, pattern, and the characters with which such a scalar may begin: PyYAML looks patterns up by them.
_PLAIN_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
# A dictionary of its own: the one it inherits has the scalars of YAML 1.1 and is shared with every other loader.
_Loader.yaml_implicit_resolvers = {}
# The empty string stands for a scalar without any character, as in `key:`.
for _name, _pattern, _first in _PLAIN_SCALARS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), [*_first, ""])


class YamlDocument:
    """A YAML file as plain data, which remembers the line of each part.

    Attributes:
        data: Its content: `dict` with `str` keys, `list`, `str`, `int`, `float`, `bool` or `None`.
    """

    def __init__(self, path: Path, data: Any, lines: dict[Location, int]) -> None:
        self.path, self.data, self._lines = path, data, lines

    def at(self, location: Location, dotted: str = "") -> str:
        """Return `file:line` of a part, or of the nearest enclosing part that has a line.

        Args:
            location: Keys and indices from the root, each exactly as it is written.
            dotted: The remaining keys, joined by dots; nested and dotted keys in the file are the same.
        """
        inside: dict[str, int] = {}
        for key_path, line in self._lines.items():
            if key_path[: len(location)] == location:
                inside[".".join(map(str, key_path[len(location) :]))] = line
        while dotted and dotted not in inside:
            dotted = dotted.rpartition(".")[0]
        if dotted:
            return f"{self.path}:{inside[dotted]}"
        while location and location not in self._lines:
            location = location[:-1]
        # An empty document has no line at all.
        return f"{self.path}:{self._lines.get(location, 1)}"

    def has(self, location: Location) -> bool:
        """Return True if a part is in the file."""
        return location in self._lines


def error_location(error: ValidationError) -> tuple[dict[str, Any], Location]:
    """Return the first error of a validation as pydantic describes it, and the way to it in the data."""
    detail: dict[str, Any] = {**error.errors(include_url=False)[0]}
    # A `MisplacedError` knows the way further down, which pydantic does not see.
    below = getattr(detail.get("ctx", {}).get("error"), "location", ())
    return detail, (*detail["loc"], *below)


def read_document(path: Path) -> YamlDocument:
    """Return the YAML document in a file.

    Raises:
        StudyError: If the file cannot be read, or is not YAML as described above: `file:line: reason`.
    """
    text = _read(path)
    try:
        builder = _Builder()
        return YamlDocument(path, builder.build(_compose(text)), builder.lines)
    except _MalformedError as error:
        raise StudyError(f"{path}:{error.line}: {error.reason}") from None


def parse_value(text: str) -> Any:
    """Return the value that `text` has in a YAML document, for example on the command line.

    Raises:
        SpecError: If it is not YAML.
    """
    try:
        return _Builder().build(_compose(text))
    except _MalformedError as error:
        raise SpecError(f"{text!r} is not a value: {error.reason}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value of `key=value`; the value is YAML, `inspect` a list separated by commas.

    Raises:
        SpecError: If there is no `=` or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {text!r} is not KEY=VALUE, for example --set train.epochs=4")
    parsed = parse_value(value)
    if key.strip() == "inspect" and isinstance(parsed, str):
        parsed = [name.strip() for name in parsed.split(",") if name.strip()]
    return key.strip(), parsed


def _read(path: Path) -> str:
    try:
        # Asked before anything is read: a pipe would block, and a device has no end.
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StudyError(f"{path}: not a file")
        if status.st_size > _MAX_BYTES:
            raise StudyError(f"{path}: larger than {_MAX_BYTES:,} bytes, which no study is")
        raw = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        # The name has a null byte or the like, so it is quoted.
        raise StudyError(f"{str(path)!r}: {error}") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}:{line}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def _compose(text: str) -> yaml.Node | None:
    try:
        _refuse_deep(text)
        root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = ": ".join(filter(None, (error.context, error.problem)))
        raise _MalformedError(line, reason) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _MalformedError(line, f"not YAML: {error.reason} (character U+{ord(text[error.position]):04X})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _MalformedError(1, f"not YAML: {error}") from None
    return root


def _refuse_deep(text: str) -> None:
    # The composer recurses and the parser does not, so depth is counted before anything is composed.
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise _MalformedError(_line(event), f"nested more than {_MAX_DEPTH} deep")


class _Builder:
    """Builds plain data from the nodes of PyYAML, and notes the line of each part."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self._nodes = 0

    def build(self, node: yaml.Node | None, location: Location = ()) -> Any:
        if node is None:
            return None
        # In a mapping the line of the key is noted already, and an error should point there.
        self.lines.setdefault(location, _line(node))
        self._nodes += 1
        # An alias is built anew at each place where it is used, so a short file can unfold to billions of nodes.
        if self._nodes > _MAX_NODES or len(location) > _MAX_DEPTH:
            raise _MalformedError(_line(node), "aliases make the document endless or far too large")
        if isinstance(node, yaml.MappingNode):
            _refuse_tag(node, "map")
            mapping: dict[str, Any] = {}
            for name, value in self._entries(node, location):
                mapping[name] = self.build(value, (*location, name))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            _refuse_tag(node, "seq")
            return [self.build(item, (*location, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _entries(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = _line(key)
            if not isinstance(key, yaml.ScalarNode):
                raise _MalformedError(line, "a key must be a plain word")
            # For its checks alone: a key stays the text that was written.
            _scalar(key)
            name = key.value
            if name in seen:
                raise _MalformedError(line, f"{name!r} is defined a second time (first in line {seen[name]})")
            seen[name] = self.lines[*location, name] = line
            yield name, value


def _line(node: yaml.Node | yaml.Event) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


def _refuse_tag(node: yaml.Node, *allowed: str) -> None:
    if node.tag not in [_TAG + name for name in allowed]:
        tag = str(node.tag).replace(_TAG, "!!")
        raise _MalformedError(_line(node), f"the tag {tag!r} is not allowed. Write the value without it.")


def _scalar(node: yaml.Node) -> Any:
    _refuse_tag(node, *_CONSTRUCTORS)
    for character in node.value:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise _MalformedError(_line(node), f"control character U+{ord(character):04X} is not allowed")
    kind = node.tag.removeprefix(_TAG)
    try:
        return _CONSTRUCTORS[kind](node.value)
    except (ValueError, KeyError):
        raise _MalformedError(_line(node), f"{node.value[:40]!r} is not a value of type {kind}") from None


def _integer(text: str) -> int:
    # So many digits fit into 64 bits; Python's conversion of very long ones takes quadratic time.
    if len(text) > _MAX_DIGITS:
        raise ValueError(text)
    return int(text, 16 if text.startswith("0x") else 10)


def _real(text: str) -> float:
    # Python writes infinity and NaN without YAML's dot.
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))


_CONSTRUCTORS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _integer,
    "float": _real,
}
