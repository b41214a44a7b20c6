"""Defines the verb `schema`, which prints the JSON schema of study files for an editor."""

from __future__ import annotations

import json

import click

from ablations.files.schema import foreign_study_schema, study_schema
from runners.cli.options.groups import examples


@click.command(epilog=examples("schema > study.schema.json", "schema --results > foreign.schema.json"))
@click.option("--results", is_flag=True, help="That of a study of results from elsewhere (report --results).")
def schema(results: bool) -> None:
    """Print the JSON schema of a study file, for an editor."""
    content = foreign_study_schema() if results else study_schema()
    click.echo(json.dumps(content, indent=2))
