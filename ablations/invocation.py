"""Commands that the program suggests, made from the one that was given, so that they can be pasted into its shell.

A suggestion is called as this program was called, and carries what was given on the command line: studies as they were
named, the runs folder, plug-ins, preset, settings. What the suggested verb does not understand is left out.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ablations.errors import AblationError

_META = "dyconv-ablations.invocation"
_SCRIPTS = ("run_ablation.py", "run-ablation")
_ARGUMENT = "studies"
_OPTIONS = {"overrides": "--set", "plugins": "--plugin", "all_studies": "--all", "formats": "--format"}
"""Options that are not called like their parameters, for suggestions of a process that has no command line."""


def complete_invocation(**values: Any) -> None:
    """Note what the present command stands for where it was left out, or was changed, for the suggestions to come.

    Args:
        values: By the names of parameters, for example `studies` of the last run.
    """
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_META] = {**context.meta.get(_META, {}), **values}


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
    target = _target(verb)
    if target is None:
        words = [str(word) for word in values.pop(_ARGUMENT, ())]
        for name, value in values.items():
            words += _words(_OPTIONS.get(name, f"--{name.replace('_', '-')}"), value)
        return shlex.join([*_program(), verb, *words])
    arguments: list[str] = []
    switches: list[str] = []
    for parameter in target.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            arguments += [value] if isinstance(value, str) else [str(word) for word in value or ()]
        else:
            switches += _words(max(parameter.opts, key=len), value)
    if any(word.startswith("-") for word in arguments):
        return shlex.join([*_program(), verb, *switches, "--", *arguments])
    return shlex.join([*_program(), verb, *arguments, *switches])


def resuming_command() -> str:
    """Return the command that goes on with what the present one was doing; nothing is done anew by it."""
    context = click.get_current_context(silent=True)
    verb = context.info_name if context is not None and context.info_name else "run"
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
    context = click.get_current_context(silent=True)
    if context is None:
        return {}
    values = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and "uri" not in name
    }
    completed: dict[str, Any] = context.meta.get(_META, {})
    return values | completed


def _target(verb: str) -> click.Command | None:
    context = click.get_current_context(silent=True)
    group = context.find_root().command if context is not None else None
    return group.commands.get(verb) if isinstance(group, click.Group) else None


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
