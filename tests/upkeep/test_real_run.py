"""The verbs of upkeep after a real run, which is told, explained, tidied and taken up again."""

from __future__ import annotations

import os
from pathlib import Path

from runners.state.launches import History
from tests.command_line import Invoke
from tests.upkeep.made_up import STUDY, Folder

ALL_DONE = "tiny at preset smoke · no launch goes on\ntiny: 2 of 2 trainings done, 1 of 1 evaluations done\n"


def test_a_run_is_told_explained_tidied_and_trained_anew_when_removed_weights_are_needed(
    invoke: Invoke, folder: Folder, tmp_path: Path
) -> None:
    run = ("run", "tiny.yaml", "--preset", "smoke", "--dispatch", "inline", "--format", "md")
    assert invoke(*run)[0] == 0
    code, said = invoke("status")
    assert code == 0
    assert "tiny: 2 of 2 trainings done, 1 of 1 evaluations done\n" in said
    assert "tracking store" not in said
    (record,) = History(folder.root).launches
    assert (record.is_alive, record.process.pid) == (False, os.getpid())
    assert f"by launch {record.launch} on" in invoke("explain", "tiny/averaged")[1]
    calm = folder.states[folder.cell(folder.plan(), "calm").fingerprint]
    # The study is given up for another one, and taken up again with another evaluation.
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("train.epochs: 1", "train.epochs: 2"))
    assert "train.epochs: 1 → 2" in invoke("explain", "tiny/calm")[1]
    assert "1 of 2" not in invoke("status")[1], "the last run was of the study as it was"
    assert invoke("gc", "--yes", "--forget", "tiny")[0] == 0
    assert not calm.weights_file.exists()
    # The tracking store has the weights.
    first, others = calm.result(), set(folder.states.fingerprints())
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("aggregation: average", "aggregation: max"))
    code, said = invoke(*run)
    assert code == 0, said
    assert "Training anew" not in said
    assert calm.weights_file.exists()
    assert calm.result() == first
    # Without it the training is done anew, and so are all evaluations of what it had trained.
    calm.weights_file.unlink()
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("aggregation: average", "aggregation: shuffle_per_image"))
    code, said = invoke(*run, "--offline")
    assert code == 0, said
    assert "Training anew: 1 networks" in said
    again = calm.result()
    assert calm.weights_file.exists()
    assert first is not None
    assert again is not None
    assert again["time"] > first["time"]
    assert again["metrics"] == first["metrics"]
    evaluations = {key for key in others if (folder.states[key].earlier.about() or {}).get("kind") == "evaluation"}
    assert len(evaluations) == 1
    assert not any(folder.states[key].is_done for key in evaluations)
    assert "Not in the tracking store yet" in invoke("status")[1]
    assert invoke("sync")[0] == 0
    assert invoke("status") == (0, ALL_DONE)
