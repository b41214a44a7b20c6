"""This module reads the tracked attention profiles of trainings: the entropy per layer and class on the test split."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from ablations import vocabulary as names
from reports.collect.identity import check_owner
from reports.collect.stores.base import Store
from reports.collect.tracked_runs import TrackedRun

ProfileRow = tuple[str, int, int, float, str, float]
"""Layer, index from the input, resolution in px, depth, class (empty for all images), entropy: 0 to 1."""


def attention_rows(store: Store, runs: Sequence[TrackedRun]) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Return the rows of all profiles, the fingerprint in front, and a sentence about each that cannot be read."""
    rows: list[tuple[Any, ...]] = []
    unreadable = []
    for run, profile in zip(runs, store.read_each(_profile, runs), strict=True):
        if isinstance(profile, str):
            unreadable.append(f"{names.ATTENTION_FILE} of run {run.run_id} is left out: {profile}.")
        else:
            for row in profile:
                rows.append((run.fingerprint, *row))
    return rows, unreadable


def _profile(store: Store, run: TrackedRun) -> list[ProfileRow] | str:
    """Return the rows of a run's profile, or the reason why it is left out."""
    # A static network has no dynamic layer and so no profile.
    if not store.has_artifact(run, names.ATTENTION_FILE):
        return []
    try:
        text = store.artifact(run, names.ATTENTION_FILE)
        check_owner(text, run.fingerprint)
        return profile_rows(text)
    except ValueError as error:
        return str(error)


def profile_rows(text: str) -> list[ProfileRow]:
    """Return the rows of one tracked attention profile: per layer one over all images, then one per class.

    Raises:
        ValueError: If the text is no such profile.
    """
    try:
        profile = json.loads(text)
        classes = list(map(str, profile["classes"]))
        rows: list[ProfileRow] = []
        for index, layer in enumerate(profile["layers"], start=1):
            rows += _layer_rows(index, layer, classes)
        return rows
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it is no attention profile ({type(error).__name__}: {error})") from None


def _layer_rows(index: int, layer: dict[str, Any], classes: list[str]) -> Iterator[ProfileRow]:
    layer_columns = (str(layer["name"]), index, int(layer["resolution"]), float(layer["depth"]))
    yield (*layer_columns, "", float(layer["entropy"]))
    for name, entropy in zip(classes, layer["per_class"], strict=True):
        # A class without a test image has no entropy.
        if entropy is None:
            yield (*layer_columns, name, math.nan)
        else:
            yield (*layer_columns, name, float(entropy))
