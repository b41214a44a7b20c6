"""This module reads the JSON files of a runs folder. Each kind has a schema; content that does not fit is damaged.

A damaged file never raises here and never counts as what it was meant to be: a reader gets a `Damage` with the path
and the reason. `run` sets such files aside and does their work again; all other verbs only name them. No torch here.
"""

from __future__ import annotations

import re
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ablations.errors import OutputError

T = TypeVar("T")

_SET_ASIDE = re.compile(r"\..+\.[0-9a-f]{12}\.damaged")

Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
"""A time in seconds, since 1970 or since something began; more than 1e11 is no time that any clock shows."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Name = Annotated[str, Field(pattern=r"^[\w.-]{1,128}$")]
"""A fingerprint or another name that becomes part of a path."""


@dataclass(frozen=True)
class Damage:
    """A file that cannot be read.

    Attributes:
        reason: The reason, as a part of a sentence.
        errno: The system's number if the system refuses to read it, which may pass; else the content is wrong.
    """

    path: Path
    reason: str
    errno: int | None = None

    def __str__(self) -> str:
        return f"{self.path} cannot be read: {self.reason}"


class FileKind(Generic[T]):
    """One kind of JSON file.

    Args:
        schema: The type of its content: a `TypedDict`, a dataclass or any other type that pydantic knows.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema

    # Made at the first read: pydantic compiles the schema, and most commands read few kinds of files.
    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self._schema)

    def read(self, path: Path) -> T | Damage | None:
        """Return the content of a file, `None` if there is no such file, or its damage."""
        content = _content(path)
        return self.parse(content, path) if isinstance(content, bytes) else content

    def parse(self, content: bytes, path: Path) -> T | Damage:
        """Return the content of a JSON text, or its damage; `path` is the file that it comes from."""
        try:
            # Strict: a number in quotes is damage, not a number.
            return self._adapter.validate_json(content, strict=True)
        except ValidationError as error:
            return Damage(path, _reason(error) if content.strip() else "it is empty")

    def find(self, path: Path) -> T | None:
        """Return the content of a file, or `None` if there is none that can be read."""
        content = self.read(path)
        return None if isinstance(content, Damage) else content

    def damage(self, path: Path) -> Damage | None:
        """Return the damage of a file, or `None` if it is whole or missing."""
        content = self.read(path)
        return content if isinstance(content, Damage) else None

    def damages(self, paths: Iterable[Path]) -> list[Damage]:
        """Return the damages of those of the files that are damaged."""
        return [damage for damage in map(self.damage, paths) if damage is not None]


def _content(path: Path) -> bytes | Damage | None:
    try:
        # Opening a pipe would wait for a writer, for ever if there is none.
        if not stat.S_ISREG(path.stat().st_mode):
            return Damage(path, "it is a folder or another thing that is no file")
        return path.read_bytes()
    # No file, or a file where its folder should be: both mean that nothing has been written yet.
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Damage(path, error.strerror or str(error), error.errno)
    except ValueError as error:
        # A path that no system can have, with a null byte in it.
        return Damage(path, str(error))


def _reason(error: ValidationError) -> str:
    """Return the first error as text, at most 200 characters, with unprintable characters of the file replaced."""
    # Without inputs and context: these would quote the file, of any length and with any character.
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    location = ".".join(map(str, first["loc"]))
    text = f"{location}: {first['msg']}" if location else str(first["msg"])
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def read_lines(path: Path, kind: FileKind[T]) -> Iterator[T | Damage]:
    """Yield the content of each complete line of a file, or its damage; skip a last line without its end."""
    content = _content(path)
    if isinstance(content, Damage):
        yield content
    if not isinstance(content, bytes):
        return
    # After the last newline stands nothing, or the line that a killed process did not finish.
    *lines, _ = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        parsed = kind.parse(line, path)
        if isinstance(parsed, Damage):
            yield Damage(path, f"line {number}: {parsed.reason}")
        else:
            yield parsed


def set_aside(damage: Damage) -> None:
    """Rename a damaged file, or a folder, so that nobody reads it any more; `gc` removes it one day.

    Raises:
        OutputError: If the system refuses to read or to rename it: then it may be whole.
    """
    if damage.errno is not None:
        raise OutputError(f"{damage}.", damage.errno)
    try:
        # Another launch may have been faster.
        with suppress(FileNotFoundError):
            damage.path.rename(_name_aside(damage.path))
    except OSError as error:
        raise OutputError(f"cannot set {damage.path} aside: {error.strerror or error}.", error.errno) from None


def remove_file(path: Path) -> None:
    """Remove a file if there is one; a folder in its place is renamed, as its content is unknown.

    Raises:
        OSError: If the system refuses.
    """
    # A link to a folder is removed like a file: what it leads to is left alone.
    if path.is_dir() and not path.is_symlink():
        path.rename(_name_aside(path))
    else:
        path.unlink(missing_ok=True)


def _name_aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.damaged")


def is_set_aside(path: Path) -> bool:
    """Return True if a file or folder has a name that it got when it was set aside as damaged."""
    return _SET_ASIDE.fullmatch(path.name) is not None


def _names_its_kind(failure: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("kind", "message"):
        if not isinstance(failure.get(key), str):
            raise ValueError(f"{key} is missing or no text")
    if not isinstance(failure.get("cause", ""), str):
        raise ValueError("cause is missing or no text")
    return failure


FailureRecord = Annotated[Mapping[str, Any], AfterValidator(_names_its_kind)]
"""Why an attempt failed: `kind`, `message`, and mostly `cause`."""


class NodeFile(TypedDict):
    """`node.json`: the description of a node. Some fields depend on its kind, and later versions may add more."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    kind: Literal["trial", "evaluation", "cost", "tuning", "search"]
    fingerprint: Name
    title: str
    spec: dict[str, Any]
    data_digest: str | None
    spec_version: NotRequired[int]
    trial: NotRequired[Name]
    intervention: NotRequired[dict[str, Any]]
    group: NotRequired[Name]
    slot: NotRequired[Count]
    general: NotRequired[dict[str, Any]]
    own: NotRequired[dict[str, Any]]
    factors: NotRequired[dict[str, dict[str, Any]]]
    values: NotRequired[dict[str, Any] | None]


_REQUIRED = {
    "evaluation": ("trial", "intervention"),
    "tuning": ("group", "slot", "general", "own", "factors", "values"),
    "search": ("group", "slot", "general", "own", "factors", "values"),
}


def _is_whole(node: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in _REQUIRED.get(node["kind"], ()) if key not in node]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return node


class ResultFile(TypedDict):
    """`result.json`: the measurement of the node `fingerprint`, which earlier versions did not write."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    metrics: Annotated[dict[str, float], Field(min_length=1)]
    seconds: Seconds
    time: Seconds
    fingerprint: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    device: NotRequired[str]
    micro_batch: NotRequired[Count | None]
    peak_memory: NotRequired[Count]
    peak_gpu_memory: NotRequired[Count]


class ProposalFile(TypedDict):
    """`proposal.json`: the settings that were proposed for a node, and the outcome of its training."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    values: dict[str, Any]
    outcome: NotRequired[Literal["complete", "pruned", "diverged"]]


class Event(TypedDict):
    """A line of `events.jsonl`: the metrics of one epoch. `time` is in milliseconds since 1970."""

    step: Count
    time: Count
    metrics: dict[str, float]


class CorrectnessFile(TypedDict):
    """`correctness.json`, as far as it is read here: its digest and its node."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    sha256: str
    fingerprint: NotRequired[str]


class NoteEntry(TypedDict):
    """An entry of `tracking.json`: the progress of a node's run in one experiment of one store."""

    run_id: str
    step: NotRequired[Annotated[int, Field(ge=-1, le=2**53)]]
    complete: NotRequired[bool]


class CommitEntry(TypedDict):
    """The commit of the code that measured a node."""

    sha: str
    dirty: bool


class ExperimentEntry(TypedDict):
    """The studies that a node serves in one experiment, each with the keys of its variants."""

    preset: str
    studies: dict[str, list[str]]


class OriginFile(TypedDict):
    """`origin.json`: the experiments for which a node was measured, and the code that measured it."""

    commit: CommitEntry
    experiments: dict[str, ExperimentEntry]
    generation: str


NODE: FileKind[dict[str, Any]] = FileKind(Annotated[NodeFile, AfterValidator(_is_whole)])
RESULT: FileKind[dict[str, Any]] = FileKind(ResultFile)
FAILURE: FileKind[dict[str, Any]] = FileKind(FailureRecord)
PROPOSAL: FileKind[dict[str, Any]] = FileKind(ProposalFile)
EVENT: FileKind[dict[str, Any]] = FileKind(Event)
PROGRESS: FileKind[dict[str, float | None]] = FileKind(dict[str, float | None])
CORRECTNESS: FileKind[dict[str, Any]] = FileKind(CorrectnessFile)
TRACKING: FileKind[dict[str, dict[str, Any]]] = FileKind(dict[str, NoteEntry])
ORIGIN: FileKind[dict[str, Any]] = FileKind(OriginFile)
OBJECT: FileKind[dict[str, Any]] = FileKind(dict[str, Any])
"""A file that must be a JSON object; nothing more is known of it here."""
