"""Finds what may come next in a command: names of studies and rows, presets, settings and their values."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ablations.files.schema import study_schema
from ablations.files.study_file import FILE_ENDINGS, is_study_file, split_row
from ablations.planning.request import INSPECT_KEY, INSPECT_TEMPERATURE_KEY, Request
from ablations.planning.row_choice import row_key
from ablations.presets import PRESETS, get_preset
from ablations.registry import available_studies, get_study, split_name
from ablations.spec.settings import DEFAULTS

_BUNDLE_ENDINGS = (".zip",)
_READING_VERBS = ("report", "results")
"""The verbs that take a bundle in place of studies."""


def studies(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return studies, files of studies, and after a slash the rows of either, that begin with a text."""
    file, row = split_row(incomplete)
    if incomplete.endswith("/"):
        # Nothing of the row is there yet, or it is a folder.
        file = incomplete.removesuffix("/")
    if file != incomplete and is_study_file(file):
        return _rows(file, row, _request(context))
    name, slash, row = incomplete.partition("/")
    if slash and name in available_studies():
        return _rows(name, row, _request(context))
    endings: tuple[str, ...] = FILE_ENDINGS
    if context.info_name in _READING_VERBS:
        endings = (*endings, *_BUNDLE_ENDINGS)
    names = [CompletionItem(name) for name in available_studies() if name.startswith(incomplete)]
    return [*names, *map(CompletionItem, files(incomplete, endings))]


def rows(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the rows, as `study/row`, of the studies that are named in a command, or of any study."""
    named = [name for name in named_studies(context) if "/" not in name]
    if "/" in incomplete or not named:
        return studies(context, parameter, incomplete)
    items: list[CompletionItem] = []
    for name in named:
        items += _rows(name, "", _request(context))
    return [item for item in items if item.value.startswith(incomplete)]


def presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the presets that begin with a text, each with its purpose."""
    return [
        CompletionItem(name, help=preset.summary) for name, preset in PRESETS.items() if name.startswith(incomplete)
    ]


def overrides(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the settings that begin with a text, and after an equals sign the values that a setting may have."""
    key, equals, value = incomplete.partition("=")
    if not equals:
        keys = [*DEFAULTS, INSPECT_KEY, INSPECT_TEMPERATURE_KEY]
        return [CompletionItem(f"{name}=", help=_usual(name)) for name in keys if name.startswith(incomplete)]
    # A sweep names several values: what stands in front of the last comma stays.
    earlier, comma, last = value.rpartition(",")
    lead = f"{key}={earlier}{comma}"
    return [CompletionItem(lead + text) for text in _values(context, key) if text.startswith(last)]


def named_studies(context: click.Context) -> list[str]:
    """Return the studies, files and rows that a command names so far."""
    names = []
    # The words as they are: click has read none of them where an option waits for its value.
    for word in context.obj or ():
        is_file = is_study_file(word) or split_row(word)[0] != word
        if not word.startswith("-") and (is_file or word.partition("/")[0] in available_studies()):
            names.append(word)
    return names


def choices(*texts: str) -> Any:
    """Return a function that completes an option with some texts."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(text) for text in texts if text.startswith(incomplete)]

    return complete


def listed(*texts: str) -> Any:
    """Return a function that completes an option which is a list of some texts, separated by commas."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        earlier, comma, last = incomplete.rpartition(",")
        lead = earlier + comma
        return [CompletionItem(lead + text) for text in texts if text.startswith(last)]

    return complete


def files(incomplete: str, endings: Iterable[str]) -> Iterator[str]:
    """Yield the files of some endings, and the folders, whose path begins with a text."""
    folder, name = os.path.split(incomplete)
    try:
        entries = sorted(Path(folder or ".").expanduser().iterdir())
    except OSError:
        return
    for entry in entries:
        # Hidden ones only when they are asked for, as in every shell.
        if not entry.name.startswith(name) or (entry.name.startswith(".") and not name):
            continue
        path = os.path.join(folder, entry.name)
        if entry.is_dir():
            # Where nothing is typed yet, studies shall not be lost among folders.
            if incomplete:
                yield f"{path}/"
        elif entry.suffix.lower() in tuple(endings):
            yield path


def _request(context: click.Context) -> Request:
    return Request(get_preset(context.params.get("preset") or "quick"))


def _rows(name: str, incomplete: str, request: Request) -> list[CompletionItem]:
    """Return the rows of a study that begin with a text; the variant alone stands for it on every network."""
    study = get_study(name, request.base())
    items: list[CompletionItem] = []
    for network in study.inspect or ("",):
        for variant in study.variants:
            key = row_key(network, variant.name)
            # A file stands in front of its rows as it was named.
            if key.startswith(incomplete) or (network and variant.name.startswith(incomplete)):
                items.append(CompletionItem(f"{name}/{key}", help=variant.label))
    return items


def _usual(key: str) -> str | None:
    value = DEFAULTS.get(key)
    return None if value is None or not isinstance(value, str | int | float) else f"default {value}"


def _values(context: click.Context, key: str) -> list[str]:
    if key == INSPECT_KEY:
        return _networks(context)
    schema = study_schema()
    setting = schema["properties"]["baseline"]["properties"].get(key)
    return [] if setting is None else _values_of(setting)


def _networks(context: click.Context) -> list[str]:
    names: dict[str, None] = {}
    for name in named_studies(context):
        # A row of a study has the networks of the study.
        word = split_name(name)[0]
        study = get_study(word, _request(context).base())
        names.update(dict.fromkeys(network.name for network in study.networks))
    return list(names)


def _values_of(setting: dict[str, Any]) -> list[str]:
    """Return the values that a part of a JSON schema lists."""
    if setting.get("type") == "boolean":
        return ["true", "false"]
    values = [*setting.get("enum", ()), *setting.get("examples", ())]
    if "const" in setting:
        values.append(setting["const"])
    texts = [str(value) for value in values]
    for option in setting.get("anyOf", ()):
        texts += _values_of(option)
    return list(dict.fromkeys(texts))
