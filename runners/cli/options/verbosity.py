"""Defines the options `-q` and `-v`, which every verb has: only results and errors, or more than usual."""

from __future__ import annotations

import os
from functools import wraps
from typing import Any

import click

from ablations.stores.addresses import shown
from runners.cli.options.version import version_words
from runners.console.terminal import Verbosity, is_quiet, is_verbose, set_verbosity


def verbosity_options() -> list[click.Option]:
    """Return the two options, which set how much is printed as soon as they are read."""
    quiet = click.Option(
        ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_quiet, help="Print results and errors alone."
    )
    verbose = click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_verbose,
        help="Print more: versions, places, and where an error comes from.",
    )
    return [quiet, verbose]


def with_verbosity(command: click.Command) -> click.Command:
    """Add the two options to a verb, which says with `-v` what code it is and where it reads and writes."""
    command.params += verbosity_options()
    carry_out = command.callback
    assert carry_out is not None, "a verb does something"

    @wraps(carry_out)
    def carry_out_and_tell(*arguments: Any, **values: Any) -> Any:
        if is_verbose():
            # To standard error, as it is no result.
            click.echo("\n".join(_surroundings()), err=True)
        return carry_out(*arguments, **values)

    command.callback = carry_out_and_tell
    return command


def _surroundings() -> list[str]:
    parameters = click.get_current_context().params
    lines = [version_words()]
    if "runs_dir" in parameters:
        lines.append(f"runs folder: {parameters['runs_dir'].absolute()}")
        store = os.environ.get("MLFLOW_TRACKING_URI")
        lines.append(f"tracking store: {shown(store) if store else 'in the runs folder'}")
    return lines


def _quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        _set(Verbosity.QUIET, contradicted=is_verbose())


def _verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        _set(Verbosity.VERBOSE, contradicted=is_quiet())


def _set(verbosity: Verbosity, *, contradicted: bool) -> None:
    if contradicted:
        raise click.UsageError("-q prints less and -v more. Give one of them.")
    set_verbosity(verbosity)
