"""Makes a study of several values of a setting: `--set train.epochs=4,8` asks what changes with the setting.

A sweep of a study that trains its variants has a row per variant and value, or per value of a single row; all are held
against the first value. A study that looks into trained networks has each of its networks at each value, and its rows
are held against the reference on the same network as ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from pydantic import ValidationError

from ablations.claims import Claim
from ablations.errors import SpecError, StudyError
from ablations.files.yaml_source import parse_value
from ablations.planning.inspection import choose_networks
from ablations.planning.request import INSPECT_KEY, INSPECT_TEMPERATURE_KEY, Request, is_checkpoint
from ablations.planning.row_choice import choose_rows
from ablations.spec.settings import explain, merge, unread
from ablations.study import InspectedNetwork, Study, Variant

_MOST_NAMED = 3


@dataclass(frozen=True)
class _Point:
    """One combination of swept values.

    Attributes:
        texts: The values as they were written, by setting.
        short: The settings as names and labels have them: `epochs`, `temperature.start`.
    """

    settings: Mapping[str, Any]
    texts: Mapping[str, str]
    short: Mapping[str, str]

    def name(self, keys: Collection[str]) -> str:
        """Return the values of some of its settings as the name of a row has them: `epochs=4`."""
        return ", ".join(f"{self.short[key]}={text}" for key, text in self.texts.items() if key in keys)

    def label(self, keys: Collection[str]) -> str:
        """Return the values of some of its settings as a table has them: `epochs = 4`."""
        return ", ".join(f"{self.short[key]} = {text}" for key, text in self.texts.items() if key in keys)


def swept(study: Study, request: Request) -> Study:
    """Return the study of the values that a request sweeps, for a study of which it may ask some rows.

    Raises:
        SpecError: If a row that is not alone sets a swept setting itself, or no row reads it.
        StudyError: If the study has no such row, compares variances, or looks into networks from elsewhere.
    """
    if study.compares_variances:
        raise StudyError(f"study {study.name!r} compares variances, of one and the same training. Sweep another one.")
    if any(is_checkpoint(value) for value in request.inspected):
        raise StudyError("networks that were trained elsewhere are as they are: a sweep trains. Leave one of them out.")
    (scaled,) = choose_networks([study], request)
    patterns = request.rows.get(study.name, ())
    if patterns:
        scaled = choose_rows(scaled, patterns, request.preset.name)
    points = _points(request.sweeps)
    try:
        return _with_networks(scaled, points, request) if scaled.networks else _with_rows(scaled, points, request)
    except ValidationError as error:
        raise SpecError(f"study {study.name!r} cannot be swept: {explain(error)}") from None


def without_sweeps(request: Request) -> Request:
    """Return the request for the plan of studies that are swept: their rows and networks are chosen already."""
    chosen = (INSPECT_KEY, INSPECT_TEMPERATURE_KEY)
    overrides = {key: value for key, value in request.overrides.items() if key not in chosen}
    return Request(
        request.preset,
        overrides,
        request.seeds,
        request.canary,
        request.tuned,
        request.stopping,
        request.seeds_by_study,
        seed=request.seed,
        sweeps=request.sweeps,
    )


def _points(sweeps: Mapping[str, Sequence[str]]) -> list[_Point]:
    # A setting is known without the first part of its name, unless two of them are alike then.
    short = {key: key.partition(".")[2] for key in sweeps}
    if len(set(short.values())) < len(short):
        short = {key: key for key in sweeps}
    points = []
    for texts in product(*sweeps.values()):
        by_key = dict(zip(sweeps, texts, strict=True))
        points.append(_Point({key: parse_value(text) for key, text in by_key.items()}, by_key, short))
    return points


def _name(study: Study, rows: Sequence[Variant], request: Request) -> str:
    """Return the name under which results are recorded: values can be added to a sweep, rows make another one."""
    name = study.name
    if request.rows.get(study.name) and not study.networks:
        names = [row.name for row in rows[:_MOST_NAMED]]
        if len(rows) > _MOST_NAMED:
            names.append(f"{len(rows) - _MOST_NAMED} more")
        name += f".{'+'.join(names)}"
    return f"{name}-by-{'-'.join(request.sweeps)}"


def _with_networks(study: Study, points: Sequence[_Point], request: Request) -> Study:
    """Return a study that looks into each of its networks as trained at each value."""
    networks: list[InspectedNetwork] = []
    for network in study.inspected:
        assert network is not None, "a study with networks inspects some"
        if network.checkpoint is not None:
            raise StudyError(f"study {study.name!r}: {network.title} was trained elsewhere, and a sweep trains.")
        for point in points:
            _check_read(study, network.changes, point, request)
            changes = _changes(study, network.changes, point, request)
            name, label = f"{network.name}, {point.name(changes)}", f"{network.title}, {point.label(changes)}"
            networks.append(InspectedNetwork(name=name, label=label, changes=changes))
    keys = ", ".join(request.sweeps)
    rows = {variant.name for variant in study.variants}
    return Study.model_validate(
        {
            **_kept(study),
            "name": _name(study, study.variants, request),
            "title": f"{study.title} by {keys}",
            "question": f"{study.question} And at other values of {keys}?",
            "variants": study.variants,
            "reference": study.reference,
            "networks": tuple(networks),
            "inspect": tuple(network.name for network in networks),
            "columns": study.columns,
            # A claim about rows that were not asked for is in no study of theirs.
            "claims": tuple(claim for claim in study.claims if rows.issuperset(claim.variants)),
            "published": study.published,
        }
    )


def _with_rows(study: Study, points: Sequence[_Point], request: Request) -> Study:
    """Return a study with a row per value, or per variant and value."""
    rows = _rows(study, request)
    is_single = len(rows) == 1
    reference = study.variant(study.reference)
    by_identity: dict[str, Variant] = {}
    names: dict[tuple[str, int], str] = {}
    for row in rows:
        for index, point in enumerate(points):
            if is_single:
                _check_read(study, row.changes, point, request)
            else:
                _check_not_set(study, row, point)
            variant = _at(row, point, study, request, is_single=is_single)
            differs = dict.fromkeys([*reference.changes, *row.changes, *row.differs_in, *point.settings])
            if row.intervention is not None:
                differs["intervention"] = None
            variant = variant.model_copy(update={"differs_in": tuple(differs)})
            # A row that does not read the setting is the same at each value, and stands there once.
            identity = repr((_read(study, variant.changes, request), variant.intervention))
            names[row.name, index] = by_identity.setdefault(identity, variant).name
    variants = tuple(by_identity.values())
    if all(variant.changes.keys().isdisjoint(request.sweeps) for variant in variants):
        _check_read(study, rows[0].changes, points[0], request)
    first = reference if reference in rows else rows[0]
    keys = ", ".join(request.sweeps)
    title = f"{rows[0].title} by {keys}" if is_single else f"{study.title} by {keys}"
    question = f"What changes with {keys}?" if is_single else f"{study.question} And at other values of {keys}?"
    return Study.model_validate(
        {
            **_kept(study),
            "name": _name(study, rows, request),
            "title": title,
            "question": question,
            "variants": variants,
            "reference": names[first.name, 0],
            "columns": (*study.columns, *request.sweeps) if study.columns else (),
            "claims": () if is_single else tuple(_claims(study, points, names, request)),
            "with_cost": study.with_cost,
        }
    )


def _rows(study: Study, request: Request) -> list[Variant]:
    """Return the variants that are swept: those that were asked for by name or pattern, or all."""
    patterns = request.rows.get(study.name, ())
    if not patterns:
        return list(study.variants)
    # Elsewhere the reference comes along with a row; here the first value takes its place.
    return [row for row in study.variants if any(row.name == name or fnmatchcase(row.name, name) for name in patterns)]


def _at(row: Variant, point: _Point, study: Study, request: Request, *, is_single: bool) -> Variant:
    """Return a row at a value, called by it as far as the row reads the setting."""
    changes = _changes(study, row.changes, point, request)
    names, labels = [row.name], [row.title]
    if is_single:
        names, labels = [], []
    if not changes.keys().isdisjoint(point.settings):
        names.append(point.name(changes))
        labels.append(point.label(changes))
    cells: tuple[str, ...] = ()
    if row.cells:
        cells = (*row.cells, *(text if key in changes else "–" for key, text in point.texts.items()))
    update = {"name": ", ".join(names), "label": ", ".join(labels), "changes": changes, "cells": cells}
    return row.model_copy(update={**update, "published": None})


def _general(study: Study, request: Request) -> list[Mapping[str, Any]]:
    return [request.preset.settings, study.baseline, request.settings]


def _changes(study: Study, changes: Mapping[str, Any], point: _Point, request: Request) -> dict[str, Any]:
    """Return the changes of a row with swept values over them, without what nothing reads at these values."""
    at_point = {**changes, **point.settings}
    unread_here = unread(merge([*_general(study, request), at_point]))
    unread_before = unread(merge([*_general(study, request), changes]))
    kept = {}
    for key, value in at_point.items():
        # What nothing read before either is a mistake of the study, which is told as such.
        is_mistake = key in unread_before and key not in point.settings
        if key not in unread_here or is_mistake:
            kept[key] = value
    return kept


def _read(study: Study, changes: Mapping[str, Any], request: Request) -> list[tuple[str, Any]]:
    settings = merge([*_general(study, request), changes])
    nobody_reads = unread(settings)
    return sorted((key, value) for key, value in settings.items() if key not in nobody_reads)


def _check_read(study: Study, changes: Mapping[str, Any], point: _Point, request: Request) -> None:
    reasons = unread(merge([*_general(study, request), changes, point.settings]))
    for key in point.settings:
        if key in reasons:
            raise SpecError(f"nothing reads --set {key} in study {study.name!r}: {reasons[key]}.")


def _check_not_set(study: Study, row: Variant, point: _Point) -> None:
    for key in point.settings:
        if key in row.changes:
            raise SpecError(
                f"row {row.name!r} of study {study.name!r} sets {key} itself, so that a sweep over it would make rows "
                f"alike. Sweep one row: {study.name}/{row.name}."
            )


def _kept(study: Study) -> dict[str, Any]:
    """Return what a sweep has from its study, whatever it looks into."""
    return {
        "baseline": study.baseline,
        "metric": study.metric,
        "seeds": study.seeds,
        "size_of_interest": study.size_of_interest,
        "allow": study.allow,
    }


def _claims(
    study: Study, points: Sequence[_Point], names: Mapping[tuple[str, int], str], request: Request
) -> Iterator[Claim]:
    """Yield the claims of a study at each value; the primary one is primary at the first value."""
    for index, point in enumerate(points):
        for claim in study.claims:
            # Rows that were not asked for are in no study of theirs.
            if any((name, index) not in names for name in claim.variants):
                continue
            contrasts = []
            for contrast in claim.contrasts:
                better = tuple(names[name, index] for name in contrast.better)
                worse = tuple(names[name, index] for name in contrast.worse)
                contrasts.append(contrast.model_copy(update={"better": better, "worse": worse}))
            yield claim.model_copy(
                update={
                    "name": f"{claim.name}, {point.label(request.sweeps)}",
                    "contrasts": tuple(contrasts),
                    "primary": claim is study.primary_claim and index == 0,
                }
            )
