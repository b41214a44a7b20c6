"""Defines the verbs `list`, `ui` and `schema`. None of them launches anything."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from ablations.addresses import shown, sqlite_address, sqlite_file
from ablations.planning.request import make_request
from runners.cli.inputs import load_plugins, tracking_uri
from runners.cli.options import examples, plugin_option, preset_option, runs_option
from runners.console.terminal import console


@click.command("list", epilog=examples("list", "list --preset small"))
@preset_option
@plugin_option
def list_studies(preset: str | None, plugins: tuple[str, ...]) -> None:
    """Studies: their question, variants, trainings needed and published table."""
    from runners.console.tables import study_overview

    load_plugins(plugins)
    console().print(study_overview(make_request(preset, (), None)))


@click.command(epilog=examples("ui", "ui --port 5001"))
@runs_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(runs_dir: Path, port: int) -> None:
    """The MLflow UI on the right store, bound to 127.0.0.1."""
    from runners.tracking import prepare_store
    from runners.tracking.local_store import copy_for_reading, is_read_only
    from runners.tracking.serving import serve

    uri = tracking_uri(runs_dir)
    file = sqlite_file(uri)
    with ExitStack() as stack:
        if file is not None and is_read_only(file):
            # MLflow opens its database for writing even to show it, so a store that cannot be written is copied first.
            uri = sqlite_address(stack.enter_context(copy_for_reading(file)))
            console().print("The runs folder cannot be written: what is changed in the UI is not kept.", markup=False)
        prepare_store(uri)
        if uri.startswith(("http://", "https://")):
            console().print(f"The tracking server is {shown(uri)}; open it in a browser.", markup=False)
            return
        console().print(f"MLflow UI on http://127.0.0.1:{port} (Ctrl-C ends it)")
        code = serve(uri, port)
    sys.exit(code)


@click.command(epilog=examples("schema > study.schema.json"))
def schema() -> None:
    """The JSON schema of a study file, for completion in an editor."""
    from ablations.files.schema import study_schema

    click.echo(json.dumps(study_schema(), indent=2))
