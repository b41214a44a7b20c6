"""Commands that the program suggests, made from the one that was given, so that they can be pasted into its shell.

A suggestion is called as this program was called, and carries what was given on the command line: studies as they were
named, the runs folder, plug-ins, preset, settings. What the suggested verb does not understand is left out.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ablations.errors import AblationError

_SCRIPTS = ("run_ablation.py", "run-ablation")
_ARGUMENT = "studies"
_OPTIONS = {"overrides": "--set", "plugins": "--plugin", "all_studies": "--all", "formats": "--format"}
"""Options that are not called like their parameters, for suggestions of a process that has no command line."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a verb; `option` is how its option is written, `None` for an argument."""

    name: str
    option: str | None


class Invocation(Protocol):
    """The present command, as the command line knows it."""

    @property
    def verb(self) -> str | None:
        """Its verb."""

    def given(self) -> dict[str, Any]:
        """Return what was given on the command line, completed; what may hold a password is left out."""

    def complete(self, values: Mapping[str, Any]) -> None:
        """Note what the command stands for where it was left out, or was changed."""

    def parameters(self, verb: str) -> Sequence[Parameter] | None:
        """Return the parameters of a verb in their order, `None` if there is no such verb."""


_find: Callable[[], Invocation | None] = lambda: None  # noqa: E731


def find_invocation_by(find: Callable[[], Invocation | None]) -> None:
    """Have the present command found by a function of the command line, which this package knows nothing of."""
    global _find
    _find = find


def complete_invocation(**values: Any) -> None:
    """Note what the present command stands for where it was left out, or was changed, for the suggestions to come.

    Args:
        values: By the names of parameters, for example `studies` of the last run.
    """
    invocation = _find()
    if invocation is not None:
        invocation.complete(values)


def suggested_command(
    verb: str, studies: Sequence[str] | None = None, *, without: Collection[str] = (), **options: Any
) -> str:
    """Return a command as a line of shell.

    Args:
        verb: The verb.
        studies: Its arguments, or `None` for those of the present command.
        without: Parameters of the present command that are not taken over.
        options: Values of parameters by their names, in place of those of the present command.
    """
    values = {key: value for key, value in _given().items() if key not in without} | options
    if studies is not None:
        values[_ARGUMENT] = tuple(studies)
    parameters = _parameters(verb)
    if parameters is None:
        words = [str(word) for word in values.pop(_ARGUMENT, ())]
        for name, value in values.items():
            words += _words(_OPTIONS.get(name, f"--{name.replace('_', '-')}"), value)
        return shlex.join([*_program(), verb, *words])
    arguments: list[str] = []
    switches: list[str] = []
    for parameter in parameters:
        value = values.get(parameter.name)
        if parameter.option is None:
            arguments += [value] if isinstance(value, str) else [str(word) for word in value or ()]
        else:
            switches += _words(parameter.option, value)
    if any(word.startswith("-") for word in arguments):
        return shlex.join([*_program(), verb, *switches, "--", *arguments])
    return shlex.join([*_program(), verb, *arguments, *switches])


def resuming_command() -> str:
    """Return the command that goes on with what the present one was doing; nothing is done anew by it."""
    invocation = _find()
    verb = (invocation.verb if invocation is not None else None) or "run"
    # What a retry has begun has not failed any more.
    return suggested_command("run" if verb == "retry" else verb, without=("forced", "max_hours", "trim"))


def named_studies() -> tuple[str, ...]:
    """Return the studies of the present command as they were named: names and files."""
    return tuple(str(study) for study in _given().get(_ARGUMENT) or ())


def as_named(study: str) -> str:
    """Return what the present command calls a study: its file, or else its name."""
    from ablations.files.study_file import load_study

    for word in named_studies():
        if word != study and Path(word).suffix.lower() in (".yaml", ".yml"):
            with suppress(AblationError):
                if load_study(Path(word)).name == study:
                    return word
    return study


def _given() -> dict[str, Any]:
    """Return what was given on the command line, completed; what may hold a password is left out."""
    invocation = _find()
    return invocation.given() if invocation is not None else {}


def _parameters(verb: str) -> Sequence[Parameter] | None:
    invocation = _find()
    return invocation.parameters(verb) if invocation is not None else None


def _words(option: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, (tuple, list)):
        return [word for item in value for word in (option, str(item))]
    # A value that looks like an option is not taken for one.
    return [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]


def _program() -> list[str]:
    """Return how this program was called: with which interpreter, and by which path."""
    script = Path(sys.argv[0]).name if sys.argv else ""
    if script not in _SCRIPTS:
        return ["python", "run_ablation.py"]
    if script == "run-ablation":
        return [sys.argv[0] if _is_path(sys.argv[0]) else script]
    count = len(sys.orig_argv) - len(sys.argv) + 1
    return sys.orig_argv[:count]


def _is_path(name: str) -> bool:
    return shutil.which(Path(name).name) != name
