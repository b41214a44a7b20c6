"""Defines the verb `list`, which shows all studies in a table, or some of them each on a page."""

from __future__ import annotations

import click

from ablations.registry import available_studies, find_studies
from runners.api.selection import Selection
from runners.cli.options.groups import examples
from runners.cli.options.json_output import json_option, print_json
from runners.cli.options.selection import selection_options
from runners.cli.studies.study_data import list_data, study_data
from runners.cli.studies.study_page import study_page
from runners.console.tables import study_overview
from runners.console.terminal import console, is_quiet, is_verbose, print_lines


@click.command("list", epilog=examples("list", "list --preset small", "list temperature", "list my_study.yaml --json"))
@selection_options("studies", "preset", "plugins")
@json_option("the studies, or all that the named ones say")
def list_studies(selection: Selection, *, as_data: bool) -> None:
    """List the studies, or show one with its variants and claims.

    Without STUDIES a table of all: question, rows, trainings needed, published table. With STUDIES, names or files, the
    variants of each, the settings that they change, their published numbers, and the claims. With -q names alone.
    """
    selection.load_plugins()
    request = selection.request()
    if not selection.studies:
        if as_data:
            print_json("list", list_data(request))
        elif is_quiet():
            print_lines(available_studies())
        else:
            terminal = console()
            terminal.print(study_overview(request, terminal.width))
        return
    studies = find_studies(selection.studies, False, request)
    if as_data:
        documents = [study_data(study, request.preset.name) for study in studies]
        print_json("list", {"preset": request.preset.name, "studies": documents})
    elif is_quiet():
        # Names that `run` and `plan` take as they are.
        for name, study in zip(dict.fromkeys(selection.studies), studies, strict=True):
            print_lines(f"{name}/{variant.name}" for variant in study.variants)
    else:
        for study in studies:
            console().print(study_page(study, request, every=is_verbose()))
