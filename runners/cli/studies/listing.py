"""Defines the verbs `list` and `schema`, which say what can be run and change nothing."""

from __future__ import annotations

import json

import click

from ablations.files.schema import foreign_study_schema, study_schema
from runners.api.selection import Selection
from runners.cli.options.groups import examples
from runners.cli.options.selection import selection_options
from runners.console.tables import study_overview
from runners.console.terminal import console


@click.command("list", epilog=examples("list", "list --preset small"))
@selection_options("preset", "plugins")
def list_studies(selection: Selection) -> None:
    """Studies: their question, variants, trainings needed and published table."""
    selection.load_plugins()
    console().print(study_overview(selection.request()))


@click.command(epilog=examples("schema > study.schema.json", "schema --results > foreign.schema.json"))
@click.option("--results", is_flag=True, help="That of a study of results from elsewhere (report --results).")
def schema(results: bool) -> None:
    """The JSON schema of a study file, for completion in an editor."""
    content = foreign_study_schema() if results else study_schema()
    click.echo(json.dumps(content, indent=2))
