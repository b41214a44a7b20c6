"""`applicable` leaves out of a study what an override took the meaning from.

A study varies settings that the layer kind of its preset reads. Where an override chooses another kind (`--set
model.layer=mine`), some of these settings may be read by nothing: rows that differ in them alone are then one row, and
a study of nothing else has no question left. What remains is called after what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ablations.errors import AblationError
from ablations.planning.request import Request
from ablations.spec.layers import LAYERS
from ablations.spec.settings import DECIDERS, Settings, merge, unread
from ablations.spec.titles import training_title
from ablations.spec.trial import resolve
from ablations.study import InspectedNetwork, Study, Variant


def applicable(study: Study, request: Request) -> Study | None:
    """Return a study with the rows that an override leaves different, or `None` if nothing is left to compare.

    Changes that nothing reads because of an override are left out of variants and of inspected networks, and of those
    that are alike then the first is kept, or the reference. What nothing would read without the override either is a
    mistake of the study; it stays, and is reported as such.
    """
    # Most overrides decide nothing about others, and a plan of thousands of rows need not look at each.
    if not DECIDERS.intersection(request.settings) or study.is_on_checkpoint:
        return study
    networks = _networks(study, request)
    variants = _variants(study, request)
    if networks == list(study.inspected) and variants == list(study.variants):
        return study
    # A study of a single variant is whole with that; any other needs two to compare.
    if len(variants) < min(2, len(study.variants)):
        return None
    cut = study.model_copy(update={"variants": tuple(variants)})
    # A study that trains its variants has `None` in place of networks.
    if None not in networks:
        named = {network.name: network for network in (*study.networks, *networks) if network is not None}
        inspected = tuple(network.name for network in networks if network is not None)
        cut = cut.model_copy(update={"networks": tuple(named.values()), "inspect": inspected})
    # Reports say which rows are left out of the whole study.
    cut._whole = study.whole
    return cut


def _networks(study: Study, request: Request) -> list[InspectedNetwork | None]:
    """Return the networks that a study inspects: trained ones that an override made alike are one."""
    networks: dict[str, InspectedNetwork | None] = {}
    for network in study.inspected:
        if network is None:
            return [None]
        # The settings of a file say which network lies in it, and each of them must be right.
        if network.checkpoint is None:
            changes = _read_changes(network.changes, study, request)
            if network.changes and not changes:
                network = _AS_TRAINED
            elif changes != network.changes:
                network = network.model_copy(update={"changes": changes})
        networks.setdefault(network.name, network)
    return list(networks.values())


_AS_TRAINED = InspectedNetwork(name="as_trained", label="as trained")


def _variants(study: Study, request: Request) -> list[Variant]:
    """Return the variants of a study that an override leaves different, in their order."""
    changes = {variant.name: _read_changes(variant.changes, study, request) for variant in study.variants}
    if all(changes[variant.name] == variant.changes for variant in study.variants):
        return [_renamed(variant, study, request) for variant in study.variants]
    # The reference first, so that it is what rows like it are merged into.
    reference = study.variant(study.reference)
    kept: set[str] = set()
    seen: set[str] = set()
    for variant in (reference, *study.variants):
        settings = merge([*_general(study, request), changes[variant.name]])
        nobody_reads = unread(settings)
        # What is read decides: a row may set what another has from the preset.
        read = sorted((key, value) for key, value in settings.items() if key not in nobody_reads)
        # As text, since values such as placements cannot be hashed.
        row = repr((read, variant.intervention))
        if row not in seen:
            seen.add(row)
            kept.add(variant.name)
    remaining = []
    for variant in study.variants:
        if variant.name not in kept:
            continue
        if changes[variant.name] != variant.changes:
            variant = _called_by_training(variant, changes[variant.name], study, request)
        remaining.append(_renamed(variant, study, request))
    return remaining


def _general(study: Study, request: Request) -> list[Settings]:
    return [request.preset.settings, study.baseline, request.settings]


def _read_changes(changes: Settings, study: Study, request: Request) -> dict[str, Any]:
    """Return changes without those that nothing reads because of an override."""
    with_overrides = unread(merge([*_general(study, request), changes]))
    without = unread(merge([request.preset.settings, study.baseline, changes]))
    return {key: value for key, value in changes.items() if key not in with_overrides or key in without}


def _called_by_training(variant: Variant, changes: Mapping[str, Any], study: Study, request: Request) -> Variant:
    """Return a variant with fewer changes, called by what is trained: its name may tell of a setting that is gone."""
    try:
        title = training_title(resolve(_general(study, request), changes, seed=0))
    except AblationError:
        # The plan resolves the row again and explains what is wrong with it.
        title = variant.title
    update: dict[str, Any] = {"changes": dict(changes), "label": title}
    if variant.cells:
        update["cells"] = (title, *("–" for _ in variant.cells[1:]))
    return variant.model_copy(update=update)


def _renamed(variant: Variant, study: Study, request: Request) -> Variant:
    """Return a variant whose name says "dynamic" or "DY-", called by the layer kind that an override chose instead."""
    layer = request.settings.get("model.layer")
    # A variant that sets its kind itself wins over the override, and keeps its name.
    if layer not in LAYERS or "model.layer" in variant.changes:
        return variant
    if layer == "dynamic":
        return variant
    label, *cells = (_with_kind(text, layer) for text in (variant.title, *variant.cells))
    if (label, *cells) == (variant.title, *variant.cells):
        return variant
    return variant.model_copy(update={"label": label, "cells": tuple(cells)})


def _with_kind(text: str, layer: str) -> str:
    return re.sub(r"\bDY-", LAYERS[layer].title, re.sub(r"\bdynamic\b", layer, text))
