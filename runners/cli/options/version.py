"""Says which version of the project runs, and in a checkout which commit, for `--version` and `-v`."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from runners.provenance import project_commit

_DISTRIBUTION = "dyconv-ablations"


def version_words() -> str:
    """Return the version, the commit if the code is a checkout, and that of Python."""
    try:
        version = metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        # A checkout need not be installed to be run.
        version = "(not installed)"
    words = f"{_DISTRIBUTION} {version}"
    commit = project_commit()
    if commit.sha != "unknown":
        words += f", commit {commit.sha[:12]}"
        if commit.dirty:
            words += " with changes"
    return f"{words}, Python {platform.python_version()}"


def print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Print the version and leave, if that is what was asked for."""
    # Without an effect while a shell completes a command.
    if value and not context.resilient_parsing:
        click.echo(version_words())
        context.exit()
