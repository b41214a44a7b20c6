"""Makes what the pages of the reference say about the code from the code itself.

A page says where a part belongs by a line of its own, `<!-- generated: settings model -->`: a function below, and
what it is called with.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import click
from pydantic import BaseModel

import dyconv
from ablations.datasets.registry import DATASETS, FOLDERS
from ablations.files.schema import setting_description, study_schema
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import available_studies, get_study
from ablations.spec.descriptions import field_descriptions
from ablations.spec.layers import LAYERS, kinds_by_option, option_of
from ablations.spec.names import AGGREGATIONS, NETWORKS
from ablations.spec.parts import Placement
from ablations.spec.settings import DEFAULTS
from ablations.variants import Variant
from runners.cli.app import cli
from runners.state.layout import RunsFolder

MARKER = re.compile(r"^<!-- generated: (\w+)(?: (\S+))? -->$", re.MULTILINE)
OPTIONS = "model.options."


def filled(page: str) -> str:
    """Return a page with its generated parts.

    Raises:
        KeyError: If a marker names no function.
    """

    def part(match: re.Match[str]) -> str:
        function = PARTS[match[1]]
        return function(match[2]) if match[2] else function()

    return MARKER.sub(part, page)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; bars within cells are escaped."""
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for row in rows:
        # A bar or the end of a line would end the cell.
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def code(value: Any) -> str:
    """Return a value as JSON in code, or a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def paragraph(item: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(item) or "").partition("\n\n")[0].split())


def allowed(schema: Mapping[str, Any]) -> str:
    """Return the values that the JSON schema of a setting allows, in words."""
    if "anyOf" in schema:
        choices = [allowed(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(choices)
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if "$ref" in schema:
        return "[a placement](study-file.md#placements)"
    kinds = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    words = kinds[schema["type"]]
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
        "lt": "less than",
    }
    for keyword, comparison in bounds.items():
        # A billion stands for no bound.
        if keyword in schema and schema[keyword] < 1e9:
            words += f", {comparison} {schema[keyword]:g}"
    return words


NAMED_VALUES = {
    "model.name": "[a network](networks.md)",
    "model.layer": "[a layer kind](layers.md)",
    "model.aggregation": ", ".join(f"`{name}`" for name in AGGREGATIONS) + ", or one of your own",
    "data.name": "[a data set](datasets.md)",
}
"""Settings whose values are names that plug-ins add to."""


def settings(group: str) -> str:
    """Return the table of the settings of a group, such as `train`, without options of layer kinds."""
    properties = study_schema()["properties"]["baseline"]["properties"]
    rows = []
    for key, default in DEFAULTS.items():
        if not key.startswith(f"{group}.") or key.startswith(OPTIONS):
            continue
        shown = code(default)
        if key == "model.where":
            shown = "all but the stem and the last 1×1 convolution"
        values = NAMED_VALUES.get(key) or allowed(properties[key])
        rows.append((f"`{key}`", setting_description(key), values, shown))
    return table(("setting", "meaning", "values", "default"), rows)


def layer_options() -> str:
    """Return the table of the options of layer kinds."""
    rows = []
    for name, kinds in kinds_by_option().items():
        for kind in kinds:
            option = option_of(kind, name)
            # By construction: these are the kinds that have the option.
            assert option is not None
            rows.append((f"`{OPTIONS}{name}`", f"[{kind}](layers.md#{kind})", code(option.default)))
    return table(("setting", "layer kind", "default"), rows)


def studies() -> str:
    """Return a section for each study: question, variants and claims."""
    text = ""
    base = Request(preset=PRESETS["quick"]).base()
    for name in available_studies():
        study = get_study(name, base)
        text += f"\n## {name}\n\n{study.title}. *{study.question}*\n\n"
        text += table(("variant", "changes"), [(f"`{variant.name}`", changes(variant)) for variant in study.variants])
        for claim in study.claims:
            text += f"\n- *{claim.name}*: {claim.statement}"
        text += "\n"
    return text


def changes(variant: Variant) -> str:
    """Return what a variant changes, setting by setting."""
    words = [f"`{key}`: {code(value)}" for key, value in variant.changes.items()]
    if variant.intervention is not None:
        words.append(f"`intervention`: {code(variant.intervention)}")
    return ", ".join(words) or "–"


def datasets() -> str:
    """Return a section for each data set."""
    text = ""
    for name, facts in DATASETS.items():
        colour = "grey" if facts.channels == 1 else "colour"
        text += f"\n## {name}\n\n{facts.title}: {facts.num_classes} classes, {facts.image_size} px, {colour}; "
        text += f"{images(facts)}.\n\n- Source: {facts.source}.\n- Licence: {facts.licence}.\n"
        if facts.downloads:
            text += "- `data.download: true` fetches it.\n"
    for name, folder in FOLDERS.items():
        text += f"\n## {name}\n\n{folder.title}, as image files; {folder.image_size} px"
        if folder.expected is not None:
            text += f", {folder.expected.num_classes:,} classes; {images(folder.expected)}"
        text += f".\n\n- `data.root`: {folder.how_to_get}.\n- Source: {folder.source}.\n- Licence: {folder.licence}.\n"
    return text


def images(counts: Any) -> str:
    """Return how many images there are, split by split."""
    return (
        f"{counts.train_images:,} images for training, {counts.validation_images:,} for validation, "
        f"{counts.test_images:,} for the test"
    )


def networks() -> str:
    """Return the table of all networks."""
    rows = []
    for name, network in NETWORKS.items():
        options = ", ".join(f"`model.{option}`" for option in sorted(network.options))
        rows.append((f"`{name}`", network.title, options))
    return table(("name", "network", "settings beside those of its layers"), rows)


WITHOUT_CLASS = {
    "static": "The network as it is: every convolution has one kernel.",
    "adopted": "The layers that a network of somebody else's has already, taken over as they are "
    "([networks that were trained elsewhere](../networks.md)).",
}
"""Layer kinds that stand in place of a class."""


def layers() -> str:
    """Return a section for each layer kind."""
    text = ""
    for name, kind in LAYERS.items():
        text += f"\n## {name}\n\n"
        if name in WITHOUT_CLASS:
            text += f"{WITHOUT_CLASS[name]}\n"
            continue
        layer = dyconv.layer_kind(name).layer.__name__
        reads = ", ".join(f"`model.{setting}`" for setting in sorted(kind.reads))
        text += f"{paragraph(dyconv.layer_kind(name).layer)}\n\n"
        text += f"Class: [`dyconv.{layer}`](python.md#dyconv.{layer}). Settings: {reads}.\n"
        for option in kind.options:
            text += f"\n- `{OPTIONS}{option.name}`, by default {code(option.default)}."
        text += "\n"
    return text


def presets() -> str:
    """Return a section for each preset with its settings."""
    text = ""
    for name, preset in PRESETS.items():
        rows = [(f"`{key}`", code(value)) for key, value in preset.settings.items()]
        text += (
            f"\n## {name}\n\n{preset.summary}.\n\n{table(('setting', 'value'), [*rows, ('seeds', str(preset.seeds))])}"
        )
    return text


def verbs() -> str:
    """Return a section for each verb: usage, help, options and examples."""
    text = ""
    context = click.Context(cli, info_name="run-ablation")
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        inner = click.Context(command, info_name=verb, parent=context)
        usage = " ".join(["run-ablation", verb, *command.collect_usage_pieces(inner)])
        text += f"\n## {verb}\n\n```text\n{usage}\n```\n\n{inspect.cleandoc(command.help or '')}\n\n"
        rows = []
        for parameter in command.get_params(inner):
            record = parameter.get_help_record(inner)
            # Arguments stand in the usage, and in the help.
            if record is not None and parameter.param_type_name == "option":
                rows.append((f"`{record[0]}`", record[1]))
        text += table(("option", "meaning"), rows)
        examples = inspect.cleandoc((command.epilog or "").replace("\b", ""))
        if examples:
            text += f"\n```text\n{examples}\n```\n"
    return text


def study_keys() -> str:
    """Return the table of the keys of a study file."""
    schema = study_schema()
    rows = []
    for key, value in schema["properties"].items():
        rows.append((f"`{key}`", value.get("description", ""), "yes" if key in schema["required"] else ""))
    return table(("key", "meaning", "required"), rows)


def placements() -> str:
    """Return the table of the keys of a placement."""
    names = {"any_of": "any", "all_of": "all", "exclude": "not"}
    rows = []
    for field, meaning in field_descriptions(Placement).items():
        rows.append((f"`{names.get(field, field)}`", re.sub(r" \(YAML key `\w+`\)", "", meaning)))
    return table(("key", "meaning"), rows)


def runs_folder() -> str:
    """Return the table of what lies in a runs folder."""
    folder = RunsFolder(PurePosixPath("runs"))  # type: ignore[arg-type]
    rows = []
    for name, item in vars(RunsFolder).items():
        if isinstance(item, property):
            # The sentence ends where it refers a developer to a module.
            meaning = re.sub(r"; see `[\w.]+`", "", paragraph(item.fget))
            rows.append((f"`{getattr(folder, name)}`", meaning))
    return table(("path", "what it holds"), rows)


def api(module: str) -> str:
    """Return the public names of a module, for mkdocstrings to fill in."""
    names = importlib.import_module(module).__all__
    # `runners.api` imports its functions when they are first used: they are found where they are defined.
    home = {"runners.api": "runners.api.verbs"}.get(module, module)
    return "".join(f"\n::: {home}.{name}\n" for name in sorted(names, key=str.lower))


PARTS: Mapping[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        settings,
        layer_options,
        studies,
        datasets,
        networks,
        layers,
        presets,
        verbs,
        study_keys,
        placements,
        runs_folder,
        api,
    )
}
"""The functions that a marker may name."""
