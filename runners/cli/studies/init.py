"""Defines the verb `init`, which writes a commented study file that plans and runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click

from ablations.atomic import write_bytes
from ablations.errors import OptionError, OutputError
from ablations.files.study_file import FILE_ENDINGS, is_study_file
from ablations.invocation import program
from ablations.registry import available_studies
from runners.api.selection import Selection
from runners.cli.completion import candidates
from runners.cli.options.groups import GivenPath, examples
from runners.cli.options.selection import selection_options
from runners.cli.studies.study_page import setting_text
from runners.console.terminal import announce_lines, print_lines

_HEAD = """\
# A study: one question, a reference, and variants that are held against it.
#
#   {program} plan {file}                   what it trains, and what a reviewer would object to
#   {program} run {file} --preset smoke     a trial in seconds; its numbers mean nothing
#   {program} run {file}                    minutes: preset quick
#   {program} results {file}                its table and its verdicts
#
# An editor that knows YAML schemas completes keys and checks values with that of
#   {program} schema > study.schema.json
# yaml-language-server: $schema=study.schema.json

# Results are recorded under this name: another one begins anew.
name: {name}
title: {title}
"""

_OWN = """\
question: Do four kernels per layer do more than half as many channels again?

# The variant that all others are held against.
reference: static

# Repeats of each variant, under other seeds. Without it, as many as the preset has.
# seeds: 5

# The smallest difference that matters, in points of accuracy: verdicts of "the same" rest on it.
size_of_interest: 1.0

# Settings of all variants, over those of the preset (smoke, quick, evening, small, paper).
baseline:
  train.temperature.schedule: constant
  train.temperature.start: 30

# Each variant changes settings of the training (nothing: it is trained as the preset and the baseline say), or
# intervenes in the evaluation of the trained network, or both. A label is what tables print in place of the name.
variants:
  static:
    model.layer: static
  wider:
    label: static, 1.5 times as wide
    model.layer: static
    model.width: 0.525
  dynamic: {}
  averaged:
    label: dynamic, kernels averaged
    # Two things set it apart from the reference, which must be said: no difference can be put down to one of them.
    differs_in: [model.layer, intervention]
    intervention: {aggregation: average}

# Findings that the runs are held against: reproduced, contradicted, practically the same, or undecided.
claims:
  - name: dynamic beats wider
    statement: Four kernels are worth more than half as many channels again.
    # A study stands or falls with one claim; the others are exploratory.
    primary: true
    contrasts: [{better: [dynamic], worse: [wider]}]
  - name: attention is needed
    statement: A trained network loses accuracy if its kernels are averaged.
    contrasts: [{better: [dynamic], worse: [averaged]}]
"""

_EXTENDING = """\
question: What changes with my variant?

# The other study's variants, settings and claims are those of this one, too. What is named below is changed, if the
# other has it, or added.
extends: {extended}

# Settings of all variants, over those of the other study.
# baseline:
#   train.epochs: 8
"""

_VARIANT = """
variants:
  mine:
    label: {label}, without weight decay
{cells}{changes}    train.weight_decay: 0.0

# Findings of your own, beside those of the other study.
# claims:
#   - name: weight decay matters
#     statement: Without weight decay the reference is worse.
#     contrasts: [{{better: [{reference}], worse: [mine]}}]
"""


@click.command(epilog=examples("init my_study.yaml", "init my_study.yaml --extends temperature"))
@click.argument("file", type=GivenPath(file_okay=True))
@click.option(
    "--extends",
    "extended",
    metavar="STUDY",
    shell_complete=candidates.studies,
    help="Begin with the variants, settings and claims of a registered study.",
)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@selection_options("plugins")
def init(selection: Selection, *, file: Path, extended: str | None, force: bool) -> None:
    """Write a study file to begin with, full of comments.

    It plans and runs as it stands, and says in its comments what each part is for.
    """
    selection.load_plugins()
    if not is_study_file(str(file)):
        raise OptionError(f"{file}: a study file ends in {' or '.join(FILE_ENDINGS)}.")
    if file.exists() and not force:
        raise OptionError(f"{file} is there already. Choose another name, or write over it with --force.")
    name = re.sub(r"\W+", "_", file.stem).strip("_") or "study"
    if name in available_studies():
        raise OptionError(f"{name!r} is the name of a registered study. Choose another name for the file.")
    words = {"program": shlex.join(program()), "file": shlex.quote(str(file)), "name": name}
    words["title"] = name.replace("_", " ").capitalize()
    text = _HEAD.format(**words) + (_OWN if extended is None else _extending(extended))
    try:
        write_bytes(file, text.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror or error}", error.errno) from None
    print_lines([f"study file: {file}"])
    announce_lines([f"Next: {words['program']} plan {words['file']}"])


def _extending(extended: str) -> str:
    """Return the part of a file that extends a study: its reference with one setting changed, where rows are added."""
    selection = Selection((extended,))
    (study,) = selection.find_studies(selection.request())
    text = _EXTENDING.format(extended=extended)
    # Their rows are made of factors, of sources of randomness, or of networks alone: any other row would be refused.
    if study.factorial is not None or study.compares_variances or study.is_about_cost:
        return text
    reference = study.variant(study.reference)
    # Whatever else sets the reference apart from the preset goes for the new row, too.
    changes = "".join(f"    {key}: {setting_text(value)}\n" for key, value in reference.changes.items())
    cells = ""
    if study.columns:
        words = ["mine", *reference.cells[1:]]
        cells = (
            f"    # One per column: {', '.join(study.columns)}.\n    cells: {json.dumps(words, ensure_ascii=False)}\n"
        )
    return text + _VARIANT.format(label=reference.title, reference=reference.name, changes=changes, cells=cells)
