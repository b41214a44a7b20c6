"""`gc`: what no table needs goes, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.planning.plan import make_plan
from runners.launching.rerun import begin_anew
from runners.state.launches import PlanRecord
from tests.command_line import Invoke
from tests.upkeep.made_up import ELSEWHERE, STUDY, Folder


def _files(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.name != "launches.lock"}


def test_gc_removes_what_an_edited_study_does_not_need_any_more_and_nothing_else(
    folder: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    old = folder.plan()
    folder.launch(old)
    folder.finish(old, "calm", "averaged", "wide")
    assert invoke("gc") == (0, "There is nothing to remove.\n")
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("width: 0.5", "width: 0.75"))
    assert invoke("gc") == (0, "There is nothing to remove.\n")
    new = folder.plan()
    folder.launch(new, "second")
    folder.finish(new, "wide", launch="second")
    before, weights = _files(folder.root), folder.state(old, "wide").weights_file
    code, said = invoke("gc")
    assert code == 0
    assert "weights and checkpoints of trainings that nothing needs: 1, 0.0 MB" in said
    assert str(weights) in said
    assert "Nothing was removed. To remove it: python run_ablation.py gc --yes" in said
    assert _files(folder.root) == before
    code, said = invoke("gc", "--yes")
    assert (code, "Removed 0.0 MB." in said) == (0, True)
    assert before - _files(folder.root) == {weights.relative_to(folder.root)}
    assert invoke("gc", "--yes")[1] == "Removed 0.0 MB.\n"
    code, said = invoke("gc", "--results", "--yes")
    assert "results that nothing needs: 1" in said
    assert not weights.parent.exists()
    assert folder.state(new, "wide").is_done
    assert folder.state(old, "calm").weights_file.exists()


def test_gc_keeps_what_is_asked_for_at_another_scale_or_named_or_by_a_launch_that_goes_on(
    folder: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    plans = [folder.plan(), folder.plan(train__epochs=2), folder.plan(seeds=2)]
    for number, plan in enumerate(plans):
        folder.launch(plan, f"at scale {number}")
        folder.finish(plan, "calm", "wide")
    assert "nothing to remove" in invoke("gc")[1]
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("width: 0.5", "width: 0.75"))
    folder.launch(folder.plan(), "edited", alive=True)
    assert "trainings that nothing needs" not in invoke("gc")[1], "two seeds need it as well"
    assert "trainings that nothing needs: 3" in invoke("gc", "--forget", "tiny")[1]
    (tmp_path / "same.yaml").write_text(STUDY.replace("name: tiny", "name: same"))
    assert "trainings that nothing needs: 2" in invoke("gc", "same.yaml", "--forget", "tiny")[1]
    both = ("gc", "same.yaml", "--forget", "tiny", "--set", "train.epochs=2")
    assert "trainings that nothing needs: 1" in invoke(*both)[1]
    folder.launch(plans[1], "again", alive=True)
    assert "trainings that nothing needs: 1" in invoke("gc", "--forget", "tiny")[1]
    code, said = invoke("gc", "--forget", "tinny")
    assert (code, "'tiny'" in said) == (2, True)


def test_gc_keeps_the_weights_that_only_evaluations_need(folder: Folder, invoke: Invoke, tmp_path: Path) -> None:
    text = STUDY.replace("reference: calm", "reference: averaged").replace("  calm: {}\n", "")
    (tmp_path / "without.yaml").write_text(text.replace("name: tiny", "name: without"))
    folder.finish(folder.plan(), "calm", "wide")
    folder.launch(folder.plan("without.yaml"))
    assert invoke("gc") == (0, "There is nothing to remove.\n")
    assert "trainings that nothing needs: 2" in invoke("gc", "--forget", "without")[1]


def test_gc_knows_the_registered_studies_at_every_preset(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan("temperature")
    folder.finish(plan, "tau_30")
    assert "nothing to remove" in invoke("gc")[1]
    other = folder.plan("temperature", train__epochs=7)
    folder.finish(other, "tau_30")
    assert "trainings that nothing needs: 1" in invoke("gc")[1]
    assert "nothing to remove" in invoke("gc", "temperature", "--set", "train.epochs=7")[1]


def test_gc_removes_checkpoints_of_what_is_done_and_torn_files_but_nothing_of_what_runs(
    folder: Folder, invoke: Invoke
) -> None:
    plan = folder.plan()
    folder.launch(plan)
    folder.finish(plan, "calm")
    done, running = folder.state(plan, "calm"), folder.state(plan, "wide")
    young, old = ".progress.json.0123456789ab.tmp", ".model.safetensors.ba9876543210.tmp"
    for state in (done, running):
        for name in ("checkpoint-000000007.safetensors", young, old):
            (state.folder / name).write_bytes(b"c" * 10)
        os.utime(state.folder / old, (1, 1))
    (done.folder / "attempts" / old).write_bytes(b"")
    os.utime(done.folder / "attempts" / old, (1, 1))
    lease = folder.lease(running, process=ELSEWHERE)
    before = _files(folder.root)
    code, said = invoke("gc", "--yes")
    assert code == 0
    assert "left alone as it is being run: 1 nodes" in said
    gone = {path.name for path in before - _files(folder.root)}
    assert gone == {"checkpoint-000000007.safetensors", old}
    assert {path.parts[1] for path in before - _files(folder.root)} == {done.fingerprint}
    assert (done.folder / young).exists()
    lease.end("interrupted")
    before = _files(folder.root)
    assert invoke("gc", "--yes")[0] == 0
    # The checkpoint of what is not done yet and is needed stays.
    assert {path.name for path in before - _files(folder.root)} == {old}


def test_gc_takes_nothing_from_under_a_running_evaluation(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan()
    folder.finish(plan, "calm")
    with folder.lease(folder.state(plan, "averaged")):
        assert "trainings that nothing needs" not in invoke("gc")[1]
        assert "results that nothing needs" not in invoke("gc", "--results")[1]
    assert "trainings that nothing needs" in invoke("gc")[1]


def test_gc_empties_what_was_put_aside_when_it_is_done_anew_and_keeps_that_it_was(
    folder: Folder, invoke: Invoke
) -> None:
    plan = folder.plan()
    folder.launch(plan)
    folder.finish(plan, "wide")
    begin_anew(plan, ["tiny/wide"], folder.states)
    state = folder.states[folder.cell(plan, "wide").fingerprint]
    assert "nothing to remove" in invoke("gc", "--results")[1], "it is not done yet"
    folder.finish(plan, "wide")
    assert "what was put aside to be done anew: 1" in invoke("gc", "--yes")[1]
    assert not state.earlier.weights_file.exists()
    assert state.is_anew
    assert state.earlier.is_done
    assert state.weights_file.exists()


def test_gc_leaves_alone_what_the_tracking_store_has_not_got(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan()
    folder.finish(plan, "wide")
    folder.owe(plan, "wide")
    code, said = invoke("gc", "--results", "--yes")
    assert code == 0
    assert "left alone as the tracking store has not got it yet: 1 nodes" in said
    assert folder.state(plan, "wide").weights_file.exists()


def test_gc_where_nothing_was_run_says_so(invoke: Invoke) -> None:
    code, said = invoke("gc")
    assert (code, "there is no folder" in said) == (2, True)


def _set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("runners.state.launches.time.time", lambda: seconds)


@pytest.mark.parametrize("clocks", [(2e9, 1e9, 0.0), (1e9, 1e9, 1e9), (1e9, 0.0, 2e9), (0.0, 1e9, 2e9)])
def test_no_clock_decides_which_launch_was_the_last(
    folder: Folder, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clocks: tuple[float, ...]
) -> None:
    widths, plans = ("0.5", "0.75", "0.25"), []
    for clock, width in zip(clocks, widths, strict=True):
        _set_clock(monkeypatch, clock)
        (tmp_path / "tiny.yaml").write_text(STUDY.replace("width: 0.5", f"width: {width}"))
        plans.append(folder.plan())
        folder.launch(plans[-1], f"at {width}")
        folder.finish(plans[-1], *([] if len(plans) > 1 else ["calm", "averaged"]), "wide", launch=f"at {width}")
    last = plans[-1]
    assert [record.launch for record in folder.history.launches] == [f"at {width}" for width in reversed(widths)]
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("width: 0.5", "width: 0.9"))
    assert "by launch at 0.25 on" in invoke("explain", "tiny.yaml/wide", "--preset", "smoke")[1]
    code, said = invoke("gc", "--results", "--yes")
    assert (code, "results that nothing needs: 2" in said) == (0, True), said
    assert all(folder.states[node.fingerprint].is_done for node in last.nodes)
    (tmp_path / "tiny.yaml").unlink()
    code, said = invoke("status", "--nodes")
    assert "tiny: 2 of 2 trainings done, 1 of 1 evaluations done" in said


def test_gc_keeps_what_any_launch_of_an_earlier_version_was_asked_for_until_a_later_launch_follows(
    folder: Folder, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    for number, width in enumerate(("0.5", "0.75")):
        _set_clock(monkeypatch, 1e9 * (2 - number))
        (tmp_path / "tiny.yaml").write_text(STUDY.replace("width: 0.5", f"width: {width}"))
        plans.append(folder.plan())
        folder.launch(plans[-1], f"launch {number}")
        folder.finish(plans[-1], "wide", launch=f"launch {number}")
    # As a version has left it that did not number launches.
    shutil.rmtree(folder.root / "launches" / "order")
    assert invoke("gc", "--results")[1] == "There is nothing to remove.\n"
    _set_clock(monkeypatch, 1.0)
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("width: 0.5", "width: 0.25"))
    plans.append(folder.plan())
    folder.launch(plans[-1], "numbered")
    folder.finish(plans[-1], "wide", launch="numbered")
    assert "results that nothing needs: 2" in invoke("gc", "--results")[1]
    # A launch whose number is lost is followed by nobody, and follows nobody.
    for path in (folder.root / "launches" / "order").glob("*.json"):
        if "numbered" in path.read_text():
            path.write_text("")
    said = invoke("gc", "--results")[1].splitlines()
    assert "cannot be read: it is empty" in said[0]
    assert said[1:] == ["There is nothing to remove."]
    folder.launch(plans[0], "other")
    assert "results that nothing needs: 2" in invoke("gc", "--results")[1]
    assert folder.history.launches[0].launch == "other"


def test_launches_that_begin_at_once_get_numbers_of_their_own(folder: Folder) -> None:
    plan, history = folder.plan(), folder.history
    order = folder.root / "launches" / "order"
    order.mkdir(parents=True)
    names = [f"launch {number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(history._take_turn, names))
    assert len(list(order.glob("*.json"))) == len(names)
    turns = history._read_turns()
    assert sorted(turns) == sorted(names)
    assert sorted(turn.number for turn in turns.values()) == list(range(1, len(names) + 1))
    folder.launch(plan, "after")
    assert folder.history.launches[0].launch == "after"


def test_a_file_being_written_is_not_torn_because_the_clock_here_is_ahead_of_the_file_system(
    folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = folder.plan()
    folder.launch(plan)
    folder.finish(plan, "calm")
    young = folder.state(plan, "calm").folder / ".tracking.json.0123456789ab.tmp"
    young.write_bytes(b"")
    now = time.time()
    monkeypatch.setattr("runners.upkeep.garbage.time.time", lambda: now + 86400)
    assert invoke("gc", "--yes")[0] == 0
    assert young.exists()


def test_a_launch_of_some_rows_leaves_what_the_whole_study_needs(folder: Folder, invoke: Invoke) -> None:
    whole = folder.plan(train__epochs=2)
    folder.launch(whole)
    folder.finish(whole, "calm", "averaged", "wide")
    some = make_plan(whole.studies, replace(whole.request, rows={"tiny": ("averaged",)}))
    assert {cell.variant for cell in some.cells} == {"calm", "averaged"}
    folder.launch(some, "second")
    assert PlanRecord.of(some) == folder.history.plan(folder.history.launches[0])
    assert invoke("gc") == (0, "There is nothing to remove.\n")
    assert folder.state(whole, "wide").weights_file.exists()
