"""`applicable` leaves out of a study the rows that an override took the meaning from.

A study varies settings that the layer kind of its preset reads. Where an override chooses another kind (`--set
model.layer=mine`), some of these settings may be read by nothing: rows that differ in them alone are then one row, and
a study of nothing else has no question left.
"""

from __future__ import annotations

from typing import Any

from ablations.planning.request import Request
from ablations.spec.settings import Settings, merge, unread
from ablations.study import Study, Variant


def applicable(study: Study, request: Request) -> Study | None:
    """Return a study with the rows that an override leaves different, or `None` if nothing is left to compare.

    Changes that nothing reads because of an override are left out of variants, and of variants that are alike then the
    first is kept, or the reference. A variant that nothing would read without the override either is a mistake of the
    study; it stays, and is reported as such.
    """
    if not request.settings:
        return study
    changed = {variant.name: _read_changes(variant, study, request) for variant in study.variants}
    if all(changed[variant.name] == variant.changes for variant in study.variants):
        return study
    # The reference first, so that it is what rows like it are merged into.
    reference = study.variant(study.reference)
    kept: dict[str, Variant] = {}
    seen: set[str] = set()
    for variant in (reference, *(variant for variant in study.variants if variant is not reference)):
        changes = changed[variant.name]
        settings = merge([*_general(study, request), changes])
        nobody_reads = unread(settings)
        # What is read decides: a row may set what another has from the preset.
        read = sorted((key, value) for key, value in settings.items() if key not in nobody_reads)
        row = repr((read, variant.intervention))
        if row not in seen:
            seen.add(row)
            kept[variant.name] = variant.model_copy(update={"changes": changes})
    if len(kept) < 2:
        return None
    in_order = tuple(kept[variant.name] for variant in study.variants if variant.name in kept)
    cut = study.model_copy(update={"variants": in_order})
    # Reports say which rows are left out of the whole study.
    cut._whole = study.whole
    return cut


def _general(study: Study, request: Request) -> list[Settings]:
    return [request.preset.settings, study.baseline, request.settings]


def _read_changes(variant: Variant, study: Study, request: Request) -> dict[str, Any]:
    """Return the changes of a variant without those that nothing reads because of an override."""
    with_overrides = unread(merge([*_general(study, request), variant.changes]))
    without = unread(merge([request.preset.settings, study.baseline, variant.changes]))
    changes = {}
    for key, value in variant.changes.items():
        if key not in with_overrides or key in without:
            changes[key] = value
    return changes
