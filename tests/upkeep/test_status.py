"""`status`: what is done, runs, waits, has failed or was left, from disk alone."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import runners.cli.status
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import get_study
from runners.state.launches import LaunchRecord, PlanRecord
from runners.upkeep.status import look, render
from tests.command_line import Invoke
from tests.test_cli import HEAVY, start
from tests.upkeep.made_up import DEAD, ELSEWHERE, Folder


def _nodes(out: str) -> dict[str, Any]:
    """Returns the nodes of `status --json` by the variants they serve."""
    return {name: node for node in json.loads(out)["nodes"] for name in node["serves"][:1]}


def test_status_without_a_run_says_so(invoke: Invoke) -> None:
    code, said = invoke("status")
    assert (code, "nothing was run here yet" in said) == (2, True)


def test_status_of_the_last_run_needs_neither_its_study_file_nor_anything_heavy(
    folder: Folder, invoke: Invoke, tmp_path: Path
) -> None:
    plan = folder.plan()
    folder.launch(plan)
    folder.finish(plan, "calm")
    folder.owe(plan, "calm")
    (tmp_path / "tiny.yaml").unlink()
    code, said = invoke("status")
    assert code == 0
    assert "tiny at preset smoke · no launch goes on" in said
    assert "tiny: 1 of 2 trainings done, 0 of 1 evaluations done, 2 waiting" in said
    assert "Not in the tracking store yet: 1 lines of 1 nodes." in said
    script = (
        "import sys; from run_ablation import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    ended = start("status", "--runs-dir", str(folder.root), code=script)
    assert ended.stderr == "[]\n"


def test_status_tells_each_way_in_which_a_node_can_stand(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan(seeds=3)
    folder.launch(plan, alive=True)
    nodes = [folder.states[node.fingerprint] for node in plan.trials.values()]
    for state in nodes:
        state.describe(plan.node(state.fingerprint))
    running, dead, silent, failed, again, interrupted = nodes
    with folder.lease(running, process=ELSEWHERE):
        running.report_progress(epoch=1, epochs=4, step=10, steps=40, images_per_second=12.0, loss=1.0)
    running_path = running.folder / "attempts" / "000001.json"
    running_path.write_text(json.dumps({**json.loads(running_path.read_text()), "outcome": "running"}))
    folder.lease(dead, process=DEAD)
    folder.lease(silent, process=ELSEWHERE)
    long_ago = time.time() - 500
    os.utime(silent.folder / "attempts" / "000001.json", (long_ago, long_ago))
    folder.fail(failed, "training")
    folder.fail(again, "killed")
    folder.lease(interrupted).end("interrupted")
    code, out = invoke("status", "--json")
    assert code == 1
    found = {node["fingerprint"]: node for node in json.loads(out)["nodes"]}
    expected = ["running", "orphaned", "orphaned", "failed", "waiting", "waiting"]
    assert [found[state.fingerprint]["status"] for state in nodes] == expected
    one = found[running.fingerprint]
    assert (one["attempt"]["host"], one["attempt"]["pid"], one["progress"]["epoch"]) == ("far", 4711, 1)
    # Thirty steps of eight images at twelve images per second.
    assert one["seconds_left"] == pytest.approx(20.0)
    assert one["attempt"]["silence"] < 60
    assert "is dead" in found[dead.fingerprint]["remark"]
    assert found[silent.fingerprint]["attempt"]["silence"] == pytest.approx(500, abs=60)
    assert found[failed.fingerprint]["failure"]["cause"] == "training"
    assert found[failed.fingerprint]["log"].endswith("log.txt")
    assert "tried again in" in found[again.fingerprint]["remark"]
    assert "interrupted" in found[interrupted.fingerprint]["remark"]
    evaluations = {node["remark"] for node in found.values() if node["kind"] == "evaluation"}
    assert evaluations <= {"its training is not done", "its training failed"}
    assert json.loads(out)["counts"] == {"running": 1, "orphaned": 2, "failed": 1, "waiting": 5, "done": 0}
    code, said = invoke("status")
    assert code == 1
    assert "far:4711  sign of life" in said
    assert "epoch 1/4  12 images/s  about 0:20 left" in said
    assert f"log: {failed.log_file}" in said
    assert "launch first goes on" in said
    assert "SomeError: it did not work (cause: training)" in said


def test_what_an_earlier_attempt_has_reported_does_not_tell_how_far_this_one_is(folder: Folder, invoke: Invoke) -> None:
    plan = folder.plan()
    folder.launch(plan)
    state = folder.state(plan, "wide")
    state.report_progress(epoch=3, epochs=4, step=30, steps=40, images_per_second=12.0, loss=1.0)
    with folder.lease(state):
        assert "starting" in invoke("status")[1]
        assert _nodes(invoke("status", "--json")[1])["tiny/wide"]["progress"] == {}


def test_what_may_pass_is_failed_when_its_launch_is_gone_or_has_tried_often_enough(
    folder: Folder, invoke: Invoke
) -> None:
    plan = folder.plan()
    folder.launch(plan)
    state = folder.state(plan, "wide")
    folder.fail(state, "killed")
    assert _nodes(invoke("status", "--json")[1])["tiny/wide"]["status"] == "failed"
    folder.launch(plan, "second", alive=True)
    folder.fail(state, "killed", "second")
    node = _nodes(invoke("status", "--json")[1])["tiny/wide"]
    assert (node["status"], node["attempts"]) == ("waiting", 2)
    folder.fail(state, "killed", "second")
    assert _nodes(invoke("status", "--json")[1])["tiny/wide"]["status"] == "failed"


def test_status_of_named_studies_and_of_what_others_run(folder: Folder, invoke: Invoke) -> None:
    other, plan = folder.plan(train__epochs=2), folder.plan()
    folder.launch(other, "other", alive=True)
    folder.launch(plan)
    folder.finish(plan, "calm", "averaged", "wide")
    folder.lease(folder.state(other, "wide"), "other", ELSEWHERE)
    code, said = invoke("status")
    assert code == 0
    assert "tiny: 2 of 2 trainings done, 1 of 1 evaluations done\n" in said
    assert "running " in said
    code, said = invoke("status", "tiny.yaml", "--preset", "smoke")
    assert "running " not in said
    code, said = invoke("status", "tiny.yaml", "--preset", "smoke", "--set", "train.epochs=2", "--nodes")
    assert "0 of 2 trainings done, 0 of 1 evaluations done, 1 running, 2 waiting" in said
    assert said.count("waiting ") >= 2


def test_status_watches_until_ctrl_c(folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = folder.plan()
    folder.launch(plan)

    def pause(seconds: float) -> None:
        if folder.states[folder.cell(plan, "wide").fingerprint].is_done:
            raise KeyboardInterrupt
        folder.finish(plan, "wide")

    monkeypatch.setattr(runners.cli.status.time, "sleep", pause)
    code, said = invoke("status", "--watch")
    assert code == 0
    assert [line.split(" trainings")[0] for line in said.splitlines() if "trainings done" in line] == [
        "tiny: 0 of 2",
        "tiny: 1 of 2",
    ]


def test_status_watches_until_the_launch_ends(folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = folder.plan()
    folder.launch(plan, alive=True)
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        # In the first pause a node ends, in the second the launch, and a third there is not.
        if len(looks) == 1:
            folder.finish(plan, "wide")
        else:
            folder.launch(plan)

    monkeypatch.setattr(runners.cli.status.time, "sleep", pause)
    code, said = invoke("status", "--watch")
    assert (code, len(looks)) == (0, 2)
    assert said.count("goes on at") == 2
    assert said.count("no launch goes on") == 1


def test_a_watch_of_what_is_done_ends_at_once(folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = folder.plan()
    folder.launch(plan)
    for cell in plan.cells:
        folder.finish(plan, cell.variant)
    monkeypatch.setattr(runners.cli.status.time, "sleep", lambda seconds: pytest.fail("there is nothing to wait for"))
    assert invoke("status", "--watch")[0] == 0


def test_status_on_a_terminal_is_a_table(folder: Folder, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = folder.plan()
    folder.launch(plan)
    folder.fail(folder.state(plan, "wide"), "spec")

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runners.cli.status.time, "sleep", stop)
    monkeypatch.setattr(runners.cli.status, "console", lambda: Console(file=sys.stdout, force_terminal=True, width=150))
    for arguments in (["status"], ["status", "--watch"]):
        code, said = invoke(*arguments)
        assert code == 1
        assert "trainings done" in said
        assert "0 / 2" in said
        assert "SomeError" in said


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_breaks_no_name_and_no_heading(folder: Folder, width: int) -> None:
    request = Request(get_preset("smoke"))
    names = ("temperature", "aggregation", "squeeze_excitation", "attention_profile", "cost")
    plan = make_plan([get_study(name, request.base()) for name in names], request)
    folder.fail(folder.state(plan, "tau_5"), "spec")
    overview = look(folder.root, PlanRecord.of(plan), "sqlite:///nowhere.db", others=False)
    output = io.StringIO()
    Console(file=output, width=width).print(render(overview, folder.states), crop=False)
    said = output.getvalue()
    for word in (*names, "trainings", "evaluations", "networks", "failed", "waiting"):
        assert word in said
    assert "…" not in said
    (line,) = (
        line for line in said.splitlines() if "squeeze_excitation" in line and ("0/8" in line or "0 / 8" in line)
    )
    # Where there is nothing to evaluate, none is counted.
    assert "0/0" not in line.replace(" ", "")
    assert ("orphaned" in said) == (width == 120)


def test_a_launch_of_another_machine_counts_as_alive_until_it_says_otherwise() -> None:
    assert LaunchRecord("a", "p", process=ELSEWHERE).is_alive
    assert not LaunchRecord("a", "p", process=ELSEWHERE, ended=1.0).is_alive
    assert not LaunchRecord("a", "p", process=DEAD).is_alive
