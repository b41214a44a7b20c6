"""Curves come from a run's record, or from the store's histories where the record cannot be trusted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from ablations import vocabulary as names
from reports.collect.curves import curve_rows
from reports.collect.stores.opening import open_store
from tests.reports.made_up import TEMPERATURE, Store, plan_of

MakeStore = Callable[[], Store]

EVENTS = [
    {"step": 1, "time": 1, "metrics": {"val/top1": 50.5, "train/loss": 2.0, "train/images_per_second": 9.0}},
    {"step": 2, "time": 2, "metrics": {"val/top1": 1 / 3, "train/loss": math.inf}},
]
RECORD = json.dumps({"events": EVENTS})
HISTORY = {
    "val/top1": (1.0, 2.0),
    "train/loss": (3.0, 4.0),
    "val/loss": (5.0, 6.0),
    "train/images_per_second": (8.0, 9.0),
}


def _curves(store: Store, files: dict[str, str], told: dict[str, str]) -> dict[tuple[str, int], float]:
    plan = plan_of(TEMPERATURE, seeds=1)
    node = next(iter(plan.trials.values()))
    tags = {names.TAG_FILES: json.dumps(told)}
    run_id = store.add(plan, node, {"test/top1": 70.0}, curves=HISTORY, tags=tags, files=files)
    with open_store(store.uri) as tracking_store:
        run = tracking_store.run(run_id)
        assert run is not None
        rows = list(curve_rows(tracking_store, [run]))
    assert {row[:2] for row in rows} == {(run_id, node.fingerprint)}
    assert [row[2:4] for row in rows] == sorted(row[2:4] for row in rows)
    return {row[2:4]: row[4] for row in rows}


def _digest(text: str) -> dict[str, str]:
    return {names.RECORD_FILE: hashlib.sha256(text.encode()).hexdigest()}


def test_a_record_is_read_instead_of_histories_and_what_it_lacks_is_asked_for(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, get = [], MlflowClient.get_metric_history

    def spy(client: MlflowClient, run_id: str, key: str) -> Any:
        asked.append(key)
        return get(client, run_id, key)

    monkeypatch.setattr(MlflowClient, "get_metric_history", spy)
    found = _curves(make_store(), {names.RECORD_FILE: RECORD}, _digest(RECORD))
    assert asked == ["val/loss"]
    assert math.isnan(found.pop(("train/loss", 2)))
    assert found == {
        ("train/loss", 1): 2.0,
        ("val/loss", 1): 5.0,
        ("val/loss", 2): 6.0,
        ("val/top1", 1): 50.5,
        ("val/top1", 2): 1 / 3,
    }


OTHER = RECORD.replace("50.5", "99.5")
TORN = RECORD[:-9]
WRONG = json.dumps({"events": [{"step": "one", "metrics": {"val/top1": 0.0}}]})


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, _digest(RECORD)),
        ({names.RECORD_FILE: RECORD}, {}),
        ({names.RECORD_FILE: OTHER}, _digest(RECORD)),
        ({names.RECORD_FILE: TORN}, _digest(RECORD)),
        ({names.RECORD_FILE: TORN}, _digest(TORN)),
        ({names.RECORD_FILE: WRONG}, _digest(WRONG)),
        ({names.RECORD_FILE: "[]"}, _digest("[]")),
    ],
    ids=["lost", "untold", "changed", "torn", "torn as tracked", "no step", "no record"],
)
def test_without_a_record_that_is_what_was_tracked_the_store_is_asked(
    make_store: MakeStore, files: dict[str, str], told: dict[str, str]
) -> None:
    found = _curves(make_store(), files, told)
    shown = (name for name in HISTORY if name != "train/images_per_second")
    assert found == {(name, step): value for name in shown for step, value in enumerate(HISTORY[name], start=1)}
