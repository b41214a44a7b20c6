"""Makes the pages of the reference from the code: what it has is on the page, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import click

import dyconv
from ablations.datasets.registry import DATASETS, FOLDERS
from ablations.files.schema import setting_description, study_schema
from ablations.presets import PRESETS
from ablations.spec.layers import LAYERS, kinds_by_option, option_of
from ablations.spec.names import NETWORKS
from ablations.spec.settings import DEFAULTS
from runners.cli.app import cli
from runners.state.layout import RunsFolder

OPTIONS = "model.options."


def pages() -> dict[str, str]:
    """Return the Markdown of every generated page, by its path below `docs/`."""
    made = {
        "settings": settings_page(),
        "datasets": datasets_page(),
        "networks": networks_page(),
        "layers": layers_page(),
        "presets": presets_page(),
        "verbs": verbs_page(),
        "study-file": study_file_page(),
        "files": files_page(),
        "python": python_page(),
    }
    return {f"reference/{name}.md": text for name, text in made.items()}


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; bars within cells are escaped."""
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for row in rows:
        # A bar would end the cell, and so would a line break.
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def code(value: Any) -> str:
    """Return a value as YAML has it, in code; a dash for none."""
    if value is None:
        return "–"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def allowed(schema: dict[str, Any]) -> str:
    """Return the values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(filter(None, (allowed(part) for part in schema["anyOf"] if part.get("type") != "null")))
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if "$ref" in schema:
        return "a choice of convolutions ([placements](study-file.md#placements))"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}[schema["type"]]
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum", schema.get("lt")))
    if low is not None:
        words += f", {'more than' if 'exclusiveMinimum' in schema else 'at least'} {low:g}"
    if high is not None and high < 1e9:
        words += f", {'at most' if 'maximum' in schema else 'less than'} {high:g}"
    return words


def settings_page() -> str:
    """Return the page of all settings of a trial."""
    properties = study_schema()["properties"]["baseline"]["properties"]
    text = (
        "# Settings\n\nEverything that can change a result is a setting: of a study's baseline and variants, or of every "
        "variant by `--set KEY=VALUE`. A preset sets some of them for its scale ([presets](presets.md)); what nothing sets "
        "has the default of this page. A setting that nothing reads is an error.\n"
    )
    titles = {"model": "The network", "data": "The images", "train": "The training"}
    for group, title in titles.items():
        text += f"\n## {title}\n\n"
        rows = []
        for key, default in DEFAULTS.items():
            if not key.startswith(f"{group}.") or key.startswith(OPTIONS):
                continue
            if key == "model.where":
                shown = "all but the stem and the last 1×1 convolution"
            else:
                shown = code(default)
            rows.append((f"`{key}`", setting_description(key), allowed(properties[key]), shown))
        text += table(("setting", "meaning", "values", "default"), rows)
    text += "\n## Options of layer kinds\n\n"
    rows = []
    for name, kinds in kinds_by_option().items():
        for kind in kinds:
            option = option_of(kind, name)
            assert option is not None
            rows.append((f"`{OPTIONS}{name}`", f"[{kind}](layers.md#{kind})", code(option.default)))
    text += table(("setting", "layer kind", "default"), rows)
    return text


def datasets_page() -> str:
    """Return the page of all data sets."""
    text = (
        "# Data sets\n\n`data.name` chooses one. Sets in files need `data.root`, the folder of their files. "
        "[A data set of your own](../extending.md) is registered by a plug-in.\n"
    )
    for name, facts in DATASETS.items():
        counts = (
            f"{facts.train_images:,} images for training, {facts.validation_images:,} for validation, "
            f"{facts.test_images:,} for the test"
        )
        text += f"\n## {name}\n\n{facts.title}: {facts.num_classes} classes, {facts.image_size} px, "
        text += f"{'grey' if facts.channels == 1 else 'colour'}; {counts}.\n\n"
        text += f"- Source: {facts.source}.\n- Licence: {facts.licence}.\n"
        if facts.downloads:
            text += "- Can be downloaded: `data.download: true`.\n"
    for name, folder in FOLDERS.items():
        text += f"\n## {name}\n\n{folder.title}, as image files, {folder.image_size} px unless `data.image_size` says otherwise.\n\n"
        text += f"- `data.root`: {folder.how_to_get}.\n- Source: {folder.source}.\n- Licence: {folder.licence}.\n"
        if folder.expected is not None:
            text += (
                f"- {folder.expected.num_classes} classes; {folder.expected.train_images:,} images for training, "
                f"{folder.expected.validation_images:,} for validation, {folder.expected.test_images:,} for the test.\n"
            )
    return text


def networks_page() -> str:
    """Return the page of all networks."""
    rows = []
    for name, network in NETWORKS.items():
        options = ", ".join(f"`model.{option}`" for option in sorted(network.options))
        rows.append((f"`{name}`", network.title, options))
    return (
        "# Networks\n\n`model.name` chooses the network; `model.layer`, `model.where` and the settings of the layers say "
        "which of its convolutions are dynamic, and how. Each also has the settings of its column.\n\n"
        + table(("name", "network", "settings"), rows)
        + "\nAny classifier of timm is there as `timm/<name>` where timm is installed (`pip install "
        "dyconv-ablations[timm]`); it reads no setting but those of its layers. [A network of your "
        "own](../extending.md) is registered by a plug-in.\n"
    )


def layers_page() -> str:
    """Return the page of all layer kinds."""
    text = (
        "# Layer kinds\n\n`model.layer` chooses the kind of the convolutions that `model.where` means. "
        "[A layer kind of your own](../tutorial/own-layer.md) is registered by a plug-in.\n"
    )
    for name, kind in LAYERS.items():
        text += f"\n## {name}\n\n"
        if name not in dyconv.available_layers():
            text += f"{_WITHOUT_CLASS[name]}\n"
            continue
        layer = dyconv.layer_kind(name).layer
        text += f"{paragraph(layer)}\n\nClass: [`dyconv.{layer.__name__}`](python.md#dyconv.{layer.__name__}). "
        reads = ", ".join(f"`model.{setting}`" for setting in sorted(kind.reads))
        text += f"Settings: {reads or 'none'}.\n"
        for option in kind.options:
            text += f"\n- `{OPTIONS}{option.name}`, by default {code(option.default)}."
        text += "\n" if kind.options else ""
    return text


_WITHOUT_CLASS = {
    "static": "The network as it is: every convolution has one kernel.",
    "adopted": "The layers that a network of somebody else's has already, taken over as they are "
    "([networks that were trained elsewhere](../networks.md)).",
}


def presets_page() -> str:
    """Return the page of all presets with their settings."""
    text = "# Presets\n\nA preset sets the scale of a study. [How they were chosen](../presets.md) has the measurements.\n"
    for name, preset in PRESETS.items():
        text += f"\n## {name}\n\n{preset.summary}.\n\n"
        rows = [(f"`{key}`", code(value)) for key, value in preset.settings.items()]
        text += table(("setting", "value"), [*rows, ("seeds", str(preset.seeds))])
    return text


def paragraph(item: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join(inspect.getdoc(item).partition("\n\n")[0].split()) if inspect.getdoc(item) else ""


def verbs_page() -> str:
    """Return the page of all verbs with their options."""
    text = (
        "# Verbs\n\n`run-ablation VERB` is the installed command; `python run_ablation.py VERB` is the same in a checkout. "
        "`--help` after any verb prints what stands here.\n"
    )
    context = click.Context(cli, info_name="run-ablation")
    for verb in cli.list_commands(context):
        command = cli.get_command(context, verb)
        assert command is not None
        inner = click.Context(command, info_name=verb, parent=context)
        usage = " ".join(command.collect_usage_pieces(inner))
        text += f"\n## {verb}\n\n```text\nrun-ablation {verb} {usage}\n```\n\n{inspect.cleandoc(command.help or '')}\n\n"
        rows = []
        for parameter in command.get_params(inner):
            record = parameter.get_help_record(inner)
            if record is not None:
                rows.append((f"`{record[0]}`", record[1]))
        text += table(("option", "meaning"), rows)
    return text


def study_file_page() -> str:
    """Return the page of the keys of a study file."""
    schema = study_schema()
    rows = []
    for key, value in schema["properties"].items():
        rows.append((f"`{key}`", value.get("description", ""), "yes" if key in schema["required"] else ""))
    text = (
        "# Study files\n\nA study of one's own is a YAML file: `run-ablation run my_study.yaml`. [The README](../index.md) has "
        "one of twenty lines, and `run-ablation schema` prints the JSON schema by which editors complete and check it. "
        "The keys of `baseline` and of variants are the [settings](settings.md).\n\n"
    )
    text += table(("key", "meaning", "required"), rows)
    text += "\n## Placements\n\n`model.where` and the `where` of an intervention choose convolutions. "
    placement = importlib.import_module("ablations.spec.parts").Placement
    described = importlib.import_module("ablations.spec.descriptions").field_descriptions(placement)
    names = {"any_of": "any", "all_of": "all", "exclude": "not"}
    text += f"{paragraph(placement)}\n\n"
    return text + table(("key", "meaning"), [(f"`{names.get(key, key)}`", words) for key, words in described.items()])


def files_page() -> str:
    """Return the page of the files that the project writes."""
    text = (
        "# Files that are written\n\n## The runs folder\n\n`--runs-dir` names it, by default `runs/`. It may be copied or moved as a "
        "whole, but for the tracking store, whose artifact paths are absolute ([move results "
        "home](../howto/results-home.md)).\n\n"
    )
    folder = RunsFolder(PurePosixPath("runs"))  # type: ignore[arg-type]
    rows = []
    for name, item in vars(RunsFolder).items():
        if isinstance(item, property):
            rows.append((f"`{getattr(folder, name)}`", _without_modules(paragraph(item.fget))))
    text += table(("path", "what it holds"), rows)
    text += "\n## A state folder\n\n`runs/state/<fingerprint>/` is all of one training or evaluation:\n\n"
    text += table(("file", "what it holds"), STATE_FILES.items())
    text += "\n## A report\n\n"
    rows = []
    for name, words in REPORT_FORMATS.items():
        rows.append((f"`{name}`", words))
    return text + table(("format", "file"), rows)


def _without_modules(sentence: str) -> str:
    """Return a sentence without its reference to a module."""
    return re.sub(r"; see `[\w.]+`", "", sentence)


STATE_FILES = {
    "`node.json`": "what is trained or evaluated: the resolved settings, the fingerprint and what it is made of",
    "`origin.json`": "the machine, versions and commit that made it",
    "`attempts/`": "a file per attempt: where, when, how it ended; the last one is the lease of the process that runs it",
    "`progress.json`": "epoch, speed and loss of the running attempt",
    "`events.jsonl`": "metrics, a line per epoch",
    "`checkpoint-….safetensors`": "what a training that is not finished goes on from",
    "`model.safetensors`": "the trained network",
    "`correctness.json`": "which test images were right",
    "`attention.json`": "the attention profile, where one was asked for",
    "`result.json`": "the result; it is written last, so a node that has it is done",
    "`failure.json`": "how the last attempt failed",
    "`tracking.json`": "what the tracking store has got of it",
}

REPORT_FORMATS = {
    "pdf": "the report, with the manifest of its runs inside",
    "html": "the same on one page, with the manifest inside",
    "md": "the same as Markdown, with figures beside it",
    "tex": "the same as LaTeX, with figures beside it",
}


def python_page() -> str:
    """Return the page of the public Python API, which mkdocstrings fills."""
    text = (
        "# Python\n\n`runners.api` does what the command line does ([from Python](../python.md)); `dyconv` has the layers and "
        "what can be done with networks of them.\n\n## runners.api\n"
    )
    api = importlib.import_module("runners.api")
    # `runners.api` imports its functions when they are first used, so that they are found where they are defined.
    for module, names in (("runners.api.verbs", api.__all__), ("dyconv", dyconv.__all__)):
        if module == "dyconv":
            text += "\n## dyconv\n"
        for name in sorted(names, key=str.lower):
            text += f"\n::: {module}.{name}\n"
    return text
