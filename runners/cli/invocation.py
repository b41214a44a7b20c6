"""Reads the present command from click, so that `ablations.invocation` can suggest commands without knowing click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from ablations.invocation import Parameter

_META = "dyconv-ablations.invocation"


class ClickInvocation:
    """The command that click is carrying out."""

    def __init__(self, context: click.Context) -> None:
        self._context = context

    @property
    def verb(self) -> str | None:
        """The name of its verb."""
        return self._context.info_name

    def given(self) -> dict[str, Any]:
        """Return the parameters given on the command line and their completions.

        Addresses are left out, as they may hold passwords.
        """
        values: dict[str, Any] = {}
        for name, value in self._context.params.items():
            if self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE and "uri" not in name:
                values[name] = value
        completed: dict[str, Any] = self._context.meta.get(_META, {})
        return values | completed

    def complete(self, values: Mapping[str, Any]) -> None:
        """Record values that the command stands for: parameters that were left out, or that were changed since."""
        self._context.meta[_META] = {**self._context.meta.get(_META, {}), **values}

    def parameters(self, verb: str) -> Sequence[Parameter] | None:
        """Return the parameters of a verb in their order, `None` if there is no such verb."""
        group = self._context.find_root().command
        if not isinstance(group, click.Group) or verb not in group.commands:
            return None
        parameters: list[Parameter] = []
        for parameter in group.commands[verb].params:
            flag = None
            if not isinstance(parameter, click.Argument):
                # Of an option's spellings the longest reads best in a suggested command.
                flag = max(parameter.opts, key=len)
            parameters.append(Parameter(parameter.name or "", flag))
        return parameters


def present_invocation() -> ClickInvocation | None:
    """Return the command that is being carried out, `None` outside of any."""
    context = click.get_current_context(silent=True)
    return ClickInvocation(context) if context is not None else None
