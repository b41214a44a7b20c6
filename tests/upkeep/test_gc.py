"""`gc`: what no table needs goes, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from runners.redo import begin_anew
from tests.upkeep.made_up import ELSEWHERE, STUDY, Folder, Invoke


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
    assert "Nothing was removed. With --yes it is." in said
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
