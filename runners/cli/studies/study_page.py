"""Shows one study on a terminal: its question, what is compared with what, the published numbers, its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ablations.claims import Claim, Contrast
from ablations.planning.request import Request
from ablations.spec.titles import intervention_title
from ablations.study import InspectedNetwork, Study, Variant
from ablations.visible import visible
from reports.content.published import decimals_of, mark_note, marks_of, published_value, source_of

_KINDS = {"better": "better than", "at_least_as_good": "at least as good as", "same": "the same as"}
_MOST_NAMED = 4
"""Most variants on one side of a contrast that are named; of more, their number."""


def study_page(study: Study, request: Request, *, every: bool) -> RenderableType:
    """Return a study as a page.

    Args:
        study: The whole study; the page says which of its rows the preset of the request leaves out.
        every: Whether presets, lints and nuisance factors are shown, too.
    """
    blocks: list[RenderableType] = [_title(study), Text(visible(study.question, lines=False)), Text("")]
    blocks.append(_facts(study, request))
    if study.baseline:
        blocks += [Text(""), Text("Settings of all variants", style="bold"), _indented(_settings(study.baseline))]
    if study.networks:
        blocks += [Text(""), _network_table(study)]
    blocks += [Text(""), _variant_table(study, request), *_published_lines(study)]
    if study.claims:
        blocks += [Text(""), Text("Claims", style="bold"), *_claims(study)]
    if study.finding:
        blocks += [Text(""), Text.assemble(("Finding of the paper: ", "bold"), visible(study.finding, lines=False))]
    if every:
        blocks += _further(study)
    return Group(*blocks, Text(""))


def _title(study: Study) -> Text:
    words = Text(visible(study.title, lines=False), style="bold")
    if study.title != study.name:
        words.append(f" ({visible(study.name, lines=False)})", style="not bold dim")
    return words


def _facts(study: Study, request: Request) -> Table:
    facts = study.metric_facts
    direction = "higher" if facts.higher_is_better else "lower"
    scaled = study.at(request.preset.name)
    seeds = "counted once" if study.trains_nothing else f"{request.seeds_of(scaled)} at preset {request.preset.name}"
    reference = study.variant(study.reference)
    compared = f"{_named(reference)}, by {facts.heading}: {direction} is better"
    if study.compares_variances:
        compared = f"{_named(reference)}, by the variance of {facts.heading} over seeds"
    unit = facts.unit
    if study.smallest_of_interest == 1:
        unit = unit.removesuffix("s")
    entries = {
        "compared with": compared,
        "seeds": seeds,
        "size of interest": f"{study.smallest_of_interest:g}{unit}",
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in entries.items():
        grid.add_row(Text(name, style="dim"), Text(visible(value, lines=False)))
    return grid


def _named(part: Variant | InspectedNetwork) -> str:
    return part.name if part.title == part.name else f"{part.title} ({part.name})"


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    table.padding = (0, 1, 0, 0)
    return table


def _network_table(study: Study) -> Table:
    table = _table("Networks that are trained and looked into")
    table.add_column("network", overflow="fold")
    table.add_column("changes", overflow="fold")
    for network in study.networks:
        changes = _settings(network.changes)
        if network.checkpoint is not None:
            changes = [f"trained elsewhere: {network.checkpoint}", *changes]
        if network.name not in study.inspect:
            changes.append("(only when it is asked for: --set inspect=…)")
        table.add_row(_two_names(network), Text("\n".join(map(visible, changes)) or "–"))
    return table


def _variant_table(study: Study, request: Request) -> Table:
    kept = {variant.name for variant in study.at(request.preset.name).variants}
    values = {variant.name: published_value(study, variant) for variant in study.variants}
    decimals = max((decimals_of(value.value) for value in values.values() if value), default=1)
    table = _table("Variants")
    table.add_column("variant", overflow="fold")
    table.add_column("changes", overflow="fold")
    if any(values.values()):
        table.add_column("published", justify="right")
    for variant in study.variants:
        changes = list(_changes(variant))
        if variant.name == study.reference:
            changes.append("(reference)")
        if variant.name not in kept:
            changes.append(f"(not at preset {request.preset.name})")
        cells = [_two_names(variant), Text("\n".join(map(visible, changes)) or "–")]
        value = values[variant.name]
        if any(values.values()):
            text = "" if value is None else f"{value.value:.{decimals}f}{''.join(marks_of(value))}"
            cells.append(Text(text))
        table.add_row(*cells)
    return table


def _two_names(part: Variant | InspectedNetwork) -> Text:
    """Return the name by which a row is asked for, and below it the label that tables print."""
    text = Text(visible(part.name, lines=False))
    if part.title != part.name:
        text.append(f"\n{visible(part.title, lines=False)}", style="dim")
    return text


def _changes(variant: Variant) -> Iterator[str]:
    yield from _settings(variant.changes)
    if variant.intervention is not None:
        yield f"evaluated with {intervention_title(variant.intervention)}"


def _settings(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {setting_text(value)}" for key, value in settings.items()]


def setting_text(value: Any) -> str:
    """Return the value of a setting as it is written in a study file."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {setting_text(member)}" for key, member in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting_text, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _published_lines(study: Study) -> Iterator[RenderableType]:
    table = study.published_table
    if table is None:
        return
    marks: set[str] = set()
    for variant in study.variants:
        marks.update(marks_of(published_value(study, variant)))
    notes = [f"Table “{table.title}”. {source_of(table)}"]
    notes += [f"{mark}: {mark_note(mark)}" for mark in sorted(marks)]
    yield Text(" ".join(notes), style="dim")


def _claims(study: Study) -> Iterator[RenderableType]:
    grid = Table.grid(padding=(0, 1))
    for claim in study.claims:
        rank = " (primary)" if claim is study.primary_claim else ""
        lines = Text.assemble((visible(claim.name, lines=False), "bold"), rank)
        lines.append(f"\n{visible(claim.statement, lines=False)}")
        for words in _contrasts(claim):
            lines.append(f"\n{visible(words, lines=False)}", style="dim")
        grid.add_row(Text("•"), lines)
    yield grid


def _contrasts(claim: Claim) -> Iterator[str]:
    for contrast in claim.contrasts:
        yield contrast_text(contrast)


def contrast_text(contrast: Contrast) -> str:
    """Return a contrast in the names of its variants: `tau_30 better than tau_1 by more than 0.5`."""
    words = f"{_side(contrast.better)} {_KINDS[contrast.kind]} {_side(contrast.worse) or '0'}"
    if contrast.margin:
        words += f" by more than {contrast.margin:g}"
    return words


def _side(names: tuple[str, ...]) -> str:
    if len(names) > _MOST_NAMED:
        return f"the mean of {len(names)} variants"
    return " and ".join(names)


def _further(study: Study) -> Iterator[RenderableType]:
    """Yield what only few readers ask for: the form at each preset, allowed lints, nuisance factors."""
    for preset, scale in study.scales.items():
        items = []
        if scale.variants is not None:
            items.append(f"rows: {', '.join(scale.variants)}")
        if scale.seeds is not None:
            items.append(f"seeds: {scale.seeds}")
        items += _settings(scale.baseline)
        for row, changes in scale.rows.items():
            items += [f"{row}: {text}" for text in _settings(changes)]
        yield from (Text(""), Text(f"At preset {preset}", style="bold"), _indented(items))
    if study.allow:
        items = [f"{code}: {reason}" for code, reason in study.allow.items()]
        yield from (Text(""), Text("Lints that are meant", style="bold"), _indented(items))
    if study.nuisance is not None:
        items = [f"{key}: {factor}" for key, factor in study.nuisance.items()]
        yield from (Text(""), Text("Tuned for each variant", style="bold"), _indented(items))


def _indented(lines: list[str]) -> Padding:
    return Padding(Text("\n".join(map(visible, lines))), (0, 0, 0, 2))
