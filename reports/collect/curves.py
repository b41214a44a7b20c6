"""This module reads every value of a metric over the epochs of finished trials.

A run's record has them all in one file; without it, the store is asked once per metric, which for the attention of each
layer is some thirty requests a run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from reports.collect.identity import check_owner
from reports.collect.store import artifact, read_each

_CURVES = frozenset({names.TRAIN_LOSS, names.VAL_LOSS, names.VAL_TOP1, names.TEMPERATURE})
_HUGE = 1e300

_ByStep = dict[int, float]


def curve_rows(client: MlflowClient, uri: str, runs: Sequence[Run]) -> Iterator[tuple[Any, ...]]:
    """Yield, for finished runs of trials, run id, fingerprint, metric, step and value, by metric and step.

    What was tracked twice for a step counts as it was tracked last.
    """
    for run, recorded in zip(runs, read_each(partial(_recorded, uri), runs), strict=True):
        run_columns = (run.info.run_id, run.data.tags[names.TAG_FINGERPRINT])
        for name in sorted(filter(_is_curve, run.data.metrics)):
            # A record that lacks a metric is not trusted for it: the store is asked instead.
            curve = recorded.get(name) or _history(client, run, name)
            yield from ((*run_columns, name, step, finite(value)) for step, value in sorted(curve.items()))


def finite(value: float) -> float:
    """Return a tracked value, or NaN if it is infinite: MLflow stores an infinity as the largest float there is."""
    return float(value) if abs(value) < _HUGE else math.nan


def _is_curve(name: str) -> bool:
    return name in _CURVES or name.startswith(names.ENTROPY_PREFIX)


def _history(client: MlflowClient, run: Run, name: str) -> _ByStep:
    points = client.get_metric_history(run.info.run_id, name)
    # The last value by time wins a step that was tracked twice.
    return {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}


def _recorded(uri: str, run: Run) -> Mapping[str, _ByStep]:
    """Return the curves in a run's record; none if there is no record, or it is not the one that was tracked."""
    try:
        expected = json.loads(run.data.tags[names.TAG_FILES])[names.RECORD_FILE]
        text = artifact(uri, run, names.RECORD_FILE)
        # A file that was changed after it was tracked, or not wholly written, is not read.
        if hashlib.sha256(text.encode()).hexdigest() != expected:
            return {}
        check_owner(text, run.data.tags[names.TAG_FINGERPRINT])
        curves: dict[str, _ByStep] = {}
        for event in json.loads(text)["events"]:
            for name, value in event["metrics"].items():
                curves.setdefault(name, {})[int(event["step"])] = value
    # Whatever is wrong with the record, the store still has every value.
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OSError, MlflowException):
        return {}
    return curves


Row = tuple[str, int, int, float, str, float]
"""Layer, index from the input, resolution in px, depth, class (empty for all images), entropy: 0 to 1."""


def profile_rows(text: str) -> list[Row]:
    """Return the rows of one tracked attention profile: per layer one over all images, then one per class.

    Raises:
        ValueError: If the text is no such profile.
    """
    try:
        profile = json.loads(text)
        classes = [str(name) for name in profile["classes"]]
        return [
            row for index, layer in enumerate(profile["layers"], start=1) for row in _layer_rows(index, layer, classes)
        ]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it is no attention profile ({type(error).__name__}: {error})") from None


def _layer_rows(index: int, layer: dict[str, Any], classes: list[str]) -> Iterator[Row]:
    layer_columns = (str(layer["name"]), index, int(layer["resolution"]), float(layer["depth"]))
    yield (*layer_columns, "", float(layer["entropy"]))
    for name, entropy in zip(classes, layer["per_class"], strict=True):
        # A class without a test image has no entropy.
        yield (*layer_columns, name, math.nan if entropy is None else float(entropy))
