"""Defines the option `--json` of verbs that print something a script reads: one JSON document, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from runners.cli.options.groups import Option
from runners.console.terminal import print_to_errors

FORMAT = 1
"""The format of the documents. It is raised when a key goes or gets another meaning; keys may be added without."""

Json = dict[str, Any]


def json_option(text: str) -> Option:
    """Return a decorator that adds `--json` and hands a verb its `as_data: bool`; `text` says what is printed.

    With it, whatever else would be printed goes to standard error.
    """
    return click.option("--json", "as_data", is_flag=True, callback=_diverted, help=f"For scripts: {text}, as JSON.")


def _diverted(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        print_to_errors()
    return value


def print_json(verb: str, document: Json) -> None:
    """Print the document of a verb, with its format in front. A number that is not finite becomes null."""
    text = json.dumps(finite({"format": FORMAT, "verb": verb, **document}), indent=1, ensure_ascii=False)
    click.echo(text)


def finite(value: Any) -> Any:
    """Return plain data with null in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [finite(member) for member in value]
    return value
