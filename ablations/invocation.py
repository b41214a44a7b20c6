"""This module makes the commands that the program suggests out of the present one, to be pasted into its shell.

A suggestion calls the program as it was called, and repeats the options of the command line: studies as they were
named, the runs folder, plug-ins, preset, settings. Options that the suggested verb does not have are left out.
`find_invocation_by` connects the command line, which this module may not import.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    """The present command. The command line implements it."""

    @property
    def verb(self) -> str | None:
        """Its verb."""

    def given(self) -> dict[str, Any]:
        """Return the values of the command line, completed; those that may hold a password are left out."""

    def complete(self, values: Mapping[str, Any]) -> None:
        """Note what the command stands for where it was left out, or was changed."""

    def parameters(self, verb: str) -> Sequence[Parameter] | None:
        """Return the parameters of a verb in their order, `None` if there is no such verb."""


# Replaced by `find_invocation_by`; in a process without a command line there is no invocation.
_find: Callable[[], Invocation | None] = lambda: None  # noqa: E731


def find_invocation_by(find: Callable[[], Invocation | None]) -> None:
    """Set the function that finds the present command. The command line calls this, as it must not be imported here."""
    global _find
    _find = find


@contextmanager
def invoked_as(values: Mapping[str, Any]) -> Iterator[None]:
    """Have suggested commands within the block repeat these options, where a script asks and no command line."""
    global _find
    before = _find
    invocation = _Script(values)
    _find = lambda: invocation  # noqa: E731
    try:
        yield
    finally:
        _find = before


class _Script:
    """The invocation of a script, whose arguments are those of a `run`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    @property
    def verb(self) -> str | None:
        return "run"

    def given(self) -> dict[str, Any]:
        return dict(self._values)

    def complete(self, values: Mapping[str, Any]) -> None:
        self._values |= values

    def parameters(self, verb: str) -> Sequence[Parameter] | None:
        return None


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
        studies: Its arguments, or `None` for those of the present command.
        without: Parameters of the present command that are not taken over.
        options: Values of parameters by their names, in place of those of the present command.
    """
    values = {key: value for key, value in _given().items() if key not in without} | options
    if studies is not None:
        values[_ARGUMENT] = tuple(studies)
    invocation = _find()
    parameters = None
    if invocation is not None:
        parameters = invocation.parameters(verb)
    # In a process without a command line the options are spelled after their parameters.
    if parameters is None:
        command_words = list(map(str, values.pop(_ARGUMENT, ())))
        for name, value in values.items():
            command_words += _words(_OPTIONS.get(name, f"--{name.replace('_', '-')}"), value)
        return shlex.join([*program(), verb, *command_words])
    arguments: list[str] = []
    switches: list[str] = []
    for parameter in parameters:
        value = values.get(parameter.name)
        if parameter.option is not None:
            switches += _words(parameter.option, value)
        elif isinstance(value, str):
            arguments.append(value)
        else:
            arguments += map(str, value or ())
    # The "--" keeps an argument that begins with a dash from being read as an option.
    if any(argument.startswith("-") for argument in arguments):
        return shlex.join([*program(), verb, *switches, "--", *arguments])
    return shlex.join([*program(), verb, *arguments, *switches])


def resuming_command() -> str:
    """Return the command that continues the work of the present one; it repeats nothing that is done."""
    invocation = _find()
    verb = "run"
    # What a retry has begun has not failed any more, so `run` continues it.
    if invocation is not None and invocation.verb and invocation.verb != "retry":
        verb = invocation.verb
    return suggested_command(verb, without=("forced", "max_hours", "trim"))


def named_studies() -> tuple[str, ...]:
    """Return the studies of the present command as they were named: names and files."""
    return tuple(map(str, _given().get(_ARGUMENT) or ()))


def as_named(study: str) -> str:
    """Return a study's file if the present command named it by a file, else its name."""
    from ablations.files.study_file import is_study_file, name_in, split_row

    for word in named_studies():
        # A row may follow the file.
        file, _ = split_row(word)
        if file != study and is_study_file(file):
            # A file that is no study cannot be the one that is looked for.
            with suppress(AblationError):
                if name_in(Path(file)) == study:
                    return file
    return study


def _given() -> dict[str, Any]:
    invocation = _find()
    return invocation.given() if invocation is not None else {}


def _words(option: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, (tuple, list)):
        words: list[str] = []
        for item in value:
            words += (option, str(item))
        return words
    # A value that looks like an option is not taken for one.
    if str(value).startswith("-"):
        return [f"{option}={value}"]
    return [option, str(value)]


def program() -> list[str]:
    """Return the first words of the present command: the interpreter and the path of the program."""
    script = Path(sys.argv[0]).name if sys.argv else ""
    if script not in _SCRIPTS:
        return ["python", "run_ablation.py"]
    if script == "run-ablation":
        # By its path, unless the shell finds the program by its name.
        return [sys.argv[0] if shutil.which(script) != sys.argv[0] else script]
    # `orig_argv` also has the interpreter and its options, which `argv` lacks; the script is the last word kept.
    count = len(sys.orig_argv) - len(sys.argv) + 1
    return sys.orig_argv[:count]
