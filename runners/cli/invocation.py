"""What click knows of the present command, for suggested commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from ablations.invocation import Parameter

_META = "dyconv-ablations.invocation"


class ClickInvocation:
    """The command that click is carrying out.

    Args:
        context: Its context.
    """

    def __init__(self, context: click.Context) -> None:
        self._context = context

    @property
    def verb(self) -> str | None:
        """Its verb."""
        return self._context.info_name

    def given(self) -> dict[str, Any]:
        """Return what was given on the command line, completed; what may hold a password is left out."""
        values = {
            name: value
            for name, value in self._context.params.items()
            if self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE and "uri" not in name
        }
        completed: dict[str, Any] = self._context.meta.get(_META, {})
        return values | completed

    def complete(self, values: Mapping[str, Any]) -> None:
        """Note what the command stands for where it was left out, or was changed."""
        self._context.meta[_META] = {**self._context.meta.get(_META, {}), **values}

    def parameters(self, verb: str) -> Sequence[Parameter] | None:
        """Return the parameters of a verb in their order, `None` if there is no such verb."""
        group = self._context.find_root().command
        command = group.commands.get(verb) if isinstance(group, click.Group) else None
        if command is None:
            return None
        return [
            Parameter(each.name or "", None if isinstance(each, click.Argument) else max(each.opts, key=len))
            for each in command.params
        ]


def present_invocation() -> ClickInvocation | None:
    """Return the command that is being carried out, `None` outside of any."""
    context = click.get_current_context(silent=True)
    return ClickInvocation(context) if context is not None else None
