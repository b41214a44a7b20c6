"""`explain`: why a cell is reused or not, and in what earlier results of it differ."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ablations.spec.fingerprint import SHORT
from ablations.spec.parts import SPEC_VERSION
from runners import provenance
from runners.processes import Process
from runners.state import schemas
from tests.command_line import Invoke
from tests.upkeep.made_up import STUDY, Folder


def test_explain_tells_by_what_a_cell_was_measured_and_who_shares_it(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan()
    folder.launch(plan)
    folder.finish(plan, "calm")
    state = folder.state(plan, "calm")
    (state.folder / "tracking.json").write_text(json.dumps({"key": {"run_id": "r123"}}))
    code, said = invoke("explain", "tiny.yaml/calm", "--preset", "smoke")
    assert code == 0
    assert "seed 0: reused  tiny/calm  DY-MobileNetV2" in said
    assert f"in 2 s by launch first on {Process.current().host}: {state.folder}" in said
    assert "code: commit c0ffeec0ffee" in said
    assert "MLflow run r123" in said
    assert "shared with tiny/averaged" in said
    code, said = invoke("explain", "tiny.yaml/averaged", "--preset", "smoke")
    assert "seed 0: missing  tiny/averaged" in said
    assert "its training" not in said
    state.weights_file.unlink()
    assert (
        "have been removed: they are taken from the tracking store"
        in invoke("explain", "tiny.yaml", "--preset", "smoke")[1]
    )


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("train.epochs: 1", "train.epochs: 2"), "train.epochs: 1 → 2\n"),
        (("model.depth: 0.25", "model.depth: 0.5"), "model.depth: 0.25 → 0.5\n"),
        (
            ("wide: {model.width: 0.5}", "wide: {model.where: {role: [depthwise]}}"),
            'model.where: {"not": {"role": ["stem", "head", "squeeze_excitation"]}} → {"role": ["depthwise"]}',
        ),
    ],
)
def test_explain_tells_in_what_an_earlier_result_differs(
    folder: Folder, invoke: Invoke, tmp_path: Path, edit: tuple[str, str], told: str
) -> None:
    before = folder.plan()
    folder.launch(before)
    folder.finish(before, "wide")
    (tmp_path / "tiny.yaml").write_text(STUDY.replace(*edit))
    code, said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke")
    assert code == 0
    assert "seed 0: stale  tiny/wide" in said
    assert told in said
    assert "spec version" not in said
    assert "data digest" not in said
    assert folder.cell(before, "wide").fingerprint[:SHORT] in said
    assert "it was asked for at preset smoke" in said
    assert "commit c0ffeec0ffee → commit" in said


def test_explain_tells_a_result_at_another_scale_from_a_stale_one(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan(train__epochs=3)
    folder.launch(plan)
    folder.finish(plan, "wide")
    code, said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke", "--set", "train.learning_rate=0.01")
    assert code == 0
    assert "seed 0: missing" in said
    assert "it was asked for at preset smoke, --set train.epochs=3" in said
    assert "train.epochs: 3 → 1\n" in said
    assert "train.learning_rate: 0.04 → 0.01 (--set)" in said


def test_explain_prefers_what_was_asked_for_in_the_same_way_and_the_newest(
    folder: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    for epochs, name in ((4, "first"), (3, "second")):
        (tmp_path / "tiny.yaml").write_text(STUDY.replace("train.epochs: 1", f"train.epochs: {epochs}"))
        folder.launch(folder.plan(), name)
        folder.finish(folder.plan(), "wide", launch=name)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    at_another_scale = folder.plan(train__label_smoothing=0.1)
    folder.launch(at_another_scale, "third")
    folder.finish(at_another_scale, "wide", launch="third")
    said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke")[1]
    assert "seed 0: stale" in said
    assert "train.epochs: 3 → 1" in said
    assert "label_smoothing" not in said
    assert "; there are 2 more" in said


def test_explain_takes_the_cost_of_a_network_for_no_earlier_result_of_its_training(
    folder: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(f"{STUDY.replace('  averaged', '  # averaged')}with_cost: true\n")
    before = folder.plan(train__label_smoothing=0.1)
    folder.launch(before)
    assert len(folder.count(before)) == 2
    said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke")[1]
    assert "seed 0: missing" in said
    assert "label_smoothing" not in said, "the training itself was never done"
    folder.finish(before, "wide")
    assert "label_smoothing" in invoke("explain", "tiny.yaml/wide", "--preset", "smoke")[1]


def test_explain_tells_that_data_or_code_have_changed(
    folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.plan()
    folder.launch(before)
    folder.finish(before, "wide")
    for module in ("ablations.spec.fingerprint", "runners.state.nodes", "runners.state.launches"):
        monkeypatch.setattr(f"{module}.SPEC_VERSION", 99)
    # No digest is made up that such a description would have.
    monkeypatch.setattr("runners.state.nodes._fits", lambda described: True)
    path = folder.state(before, "wide").folder / "node.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "spec_version": 4, "data_digest": "0ld" * 10}))
    said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke")[1]
    assert "seed 0: stale" in said
    assert "spec version: 4 → 99" in said
    assert f"data digest: {'0ld' * 10} → " in said


def test_explain_finds_the_nearest_result_of_a_folder_without_history(
    folder: Folder, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = folder.plan(train__epochs=2, train__learning_rate=0.02)
    folder.finish(old, "wide", "calm")
    for variant in ("wide", "calm"):
        path = folder.states[folder.cell(old, variant).fingerprint].folder / "node.json"
        told = json.loads(path.read_text())
        del told["spec_version"]
        path.write_text(json.dumps(told))
    monkeypatch.setattr("runners.state.nodes.SPEC_VERSION", 99)
    code, said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke")
    assert code == 0
    assert "seed 0: stale" in said
    assert "nobody has written down" in said
    assert "train.epochs: 2 → 1" in said
    assert "model.width" not in said
    # Found by the fingerprint alone.
    assert f"spec version: {SPEC_VERSION} → 99" in said


def test_explain_finds_a_result_whose_folder_tells_for_what_it_was_measured(folder: Folder, invoke: Invoke) -> None:
    far = {"train__epochs": 2, "train__learning_rate": 0.02, "model__depth": 0.5, "train__momentum": 0.5}
    old, other = folder.plan(**far, train__weight_decay=0.0), folder.plan(train__epochs=3)
    folder.finish(old, "wide")
    folder.owe(old, "wide")
    folder.finish(other, "calm")
    folder.owe(other, "calm")
    said = invoke("explain", "tiny.yaml/wide", "--preset", "smoke")[1]
    assert "its folder says that it was measured for this variant" in said
    assert "train.momentum: 0.5 → 0.9" in said
    assert "model.width" not in said
    assert "code: commit c0ffeec0ffee\n" in said
    # What was measured for another variant is no earlier result of this one, however like it is.
    assert "missing" in invoke("explain", "tiny.yaml/averaged", "--preset", "smoke")[1]


def test_explain_what_runs_waits_and_has_failed(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan()
    folder.launch(plan, alive=True)
    with folder.lease(folder.state(plan, "calm")):
        folder.fail(folder.state(plan, "wide"), "training")
        said = invoke("explain", "tiny.yaml", "--preset", "smoke")[1]
    assert "seed 0: running  tiny/calm" in said
    assert f"attempt 1 by process {os.getpid()}" in said
    assert "seed 0: waiting  tiny/averaged" in said
    assert "is running" in said
    assert "seed 0: failed  tiny/wide" in said
    assert "SomeError: it did not work (cause: training), attempt 1; log: " in said
    assert "To try it all the same: python run_ablation.py retry tiny.yaml" in said


def test_explain_names_networks_and_seeds_as_elsewhere(invoke: Invoke) -> None:
    at = ("--preset", "smoke")
    code, said = invoke("explain", "aggregation/tau_1: average", "--seed", "1", *at)
    assert code == 0
    assert said.count("missing") == 1
    assert "seed 1: missing  aggregation/tau_1: average" in said
    assert invoke("explain", "aggregation/average", *at)[1].count("missing") > 2
    code, said = invoke("explain", "aggregation/tau_1: averge", *at)
    assert (code, "'aggregation/tau_1: average'" in said) == (2, True)
    code, said = invoke("explain", "agregation/average", *at)
    assert (code, "'aggregation'" in said) == (2, True)
    code, said = invoke("explain", "aggregation/average", "--seed", "7", *at)
    assert (code, "There are: 0, 1." in said) == (2, True)


@pytest.mark.parametrize("is_recorded", [True, False])
def test_explaining_takes_no_more_looks_per_cell_where_there_are_more(
    folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
) -> None:
    """Of stale cells: a look at each earlier result for each cell would be 36 times as many for six times the cells."""
    looks = Counter[str]()
    read, commit = schemas.FileKind.read, provenance.project_commit

    def counted(kind: schemas.FileKind[Any], path: Path) -> Any:
        looks[path.name] += 1
        return read(kind, path)

    def asked() -> Any:
        looks["commit"] += 1
        return commit()

    monkeypatch.setattr(schemas.FileKind, "read", counted)
    monkeypatch.setattr("runners.cli.explain.project_commit", asked)
    counts = []
    for seeds in (3, 18):
        earlier = folder.plan(seeds=seeds, train__epochs=2)
        for node in earlier.nodes:
            state = folder.states[node.fingerprint]
            if not state.is_done:
                state.describe(node)
                state.finish({"test/top1": 50.0}, 2.0)
        if is_recorded:
            folder.launch(earlier, f"launch {seeds}")
        looks.clear()
        code, said = invoke("explain", "tiny.yaml", "--preset", "smoke", "--seeds", str(seeds))
        assert (code, "train.epochs: 2 → 1" in said) == (0, True), said
        assert looks["commit"] == 1
        counts.append(looks["node.json"])
    assert counts[1] < 9 * counts[0]
