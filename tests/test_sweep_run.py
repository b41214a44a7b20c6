"""A sweep from end to end: it runs, ends with its table, is reported and verified, and trains nothing twice."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import Invoke
from tests.upkeep.made_up import STUDY

RUN = ("--preset", "smoke", "--dispatch", "inline", "--format", "html")


def test_a_sweep_is_run_reported_and_verified(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    code, said = invoke("run", "tiny.yaml/calm", "--set", "train.label_smoothing=0.0,0.1", "--seeds", "2", *RUN, "-q")
    assert code == 0, said
    (report,) = (tmp_path / "runs" / "reports").glob("*.html")
    # Quietly: how it ended, where the report is, and what came out.
    assert "Plan at preset" not in said
    lines = [line.rstrip() for line in said.splitlines()]
    assert f"report (html): {report}" in lines
    assert "calm by train.label_smoothing (tiny.calm-by-train.label_smoothing)" in lines
    (first, second) = (line for line in lines if line.startswith("label_smoothing = "))
    assert first.startswith("label_smoothing = 0.0  2  ")
    assert "reference" in first
    assert second.startswith("label_smoothing = 0.1  2  ")
    code, said = invoke("verify", report)
    assert code == 0, said
    # Without options, the last run; and a further value goes on from what is there.
    document = json.loads(invoke.apart("results", "--json")[1])
    assert [row["n"] for row in document["studies"][0]["rows"]] == [2, 2]
    more = ("tiny.yaml/calm", "--set", "train.label_smoothing=0.0,0.1,0.2", "--seeds", "2", "--preset", "smoke")
    plan = json.loads(invoke.apart("plan", *more, "--json")[1])
    assert (plan["needed"]["trainings"], plan["missing"]["trainings"]) == (6, 2)
    assert "tiny.calm-by-train.label_smoothing: 4 of 4 trainings done" in invoke("status")[1]
