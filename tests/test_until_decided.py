"""`run --until-decided` as a user runs it: looks in order, an early end, options that contradict it, going on later."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pypdf import PdfReader

from ablations.planning.frozen_plan import FrozenPlan, write_frozen
from ablations.planning.plan import Plan
from reports.collect.results import Results
from runners.api.plans import as_last_time, find_plan
from runners.api.selection import Selection
from runners.cli import until_decided
from runners.cli.options.frozen import FrozenOptions
from runners.console.progress import Failure, Summary
from runners.estimates.forecast import Forecaster, HoursLeft
from tests.command_line import Invoke
from tests.reports.everything import results_of

STUDY = """
name: {name}
question: Is a dynamic network better than a static one?
reference: static
size_of_interest: 0.001
baseline: {{train.epochs: 1, data.train_images: 64}}
variants:
  static: {{model.layer: static}}
  dynamic: {{}}
claims:
  - name: dynamic is better
    statement: Dynamic beats static.
    contrasts: [{{better: [dynamic], worse: [static]}}]
"""
FAR = (3.0, 3.1, 2.9, 3.0, 3.2, 2.8, 3.0, 3.1)
NEAR = (0.5, -0.4, 0.3, -0.2, 0.4, -0.5, 0.2, -0.3)


def write_study(name: str = "mine") -> str:
    Path(f"{name}.yaml").write_text(STUDY.format(name=name), encoding="utf-8")
    return f"{name}.yaml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ended(*, failures: Sequence[Failure] = (), interrupted: bool = False, untracked: str | None = None) -> Summary:
    return Summary(1, tuple(failures), 0, interrupted, 1.0, untracked)


class Steps:
    """Takes the place of launches and of the store: the studies' differences by seed, and the seeds of launches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, differences: dict[str, Sequence[float | None]]) -> None:
        self._differences = differences
        self.launched: list[dict[str, int]] = []
        monkeypatch.setattr(until_decided, "collect", self._collect)

    def _collect(self, plan: Plan, uri: str) -> Results:
        frames = []
        for study, values in self._differences.items():
            of_study = results_of(plan, {"static": (0.0,) * len(values), "dynamic": values}).cells
            frames.append(of_study[of_study["study"] == study])
        whole = results_of(plan, {"static": (0.0,) * 8, "dynamic": (0.0,) * 8})
        return Results(pd.concat(frames), whole.curves, whole.runs)

    def run(self, selection: Selection, *, hours: float | None = None, end: Callable[[], Summary] = ended) -> Plan:
        """Carries out the loop after a first launch, and returns the plan at its end."""
        plan = until_decided.find_plan(selection)

        def launch(next_plan: Plan) -> Summary:
            self.launched.append({study.name: next_plan.request.seeds_of(study) for study in next_plan.studies})
            return end()

        left = HoursLeft(hours, 0.0, Forecaster(selection.runs_dir))
        return until_decided.add_seeds(plan, ended(), selection, launch, left)[0]


def selection_of(*studies: str, max_seeds: int = 8) -> Selection:
    files = tuple(write_study(study) for study in studies)
    return Selection(files, preset="smoke", until_decided=True, max_seeds=max_seeds, runs_dir=Path("runs").absolute())


def test_only_studies_that_are_undecided_go_on_to_the_last_look(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(monkeypatch, {"far": FAR, "near": NEAR})
    plan = steps.run(selection_of("far", "near"))
    assert steps.launched == [{"far": 3, "near": 5}, {"far": 3, "near": 8}]
    assert plan.request.seeds_by_study["near"] == 8
    text = " ".join(capsys.readouterr().out.split())
    assert "far, “dynamic is better”, 3 seeds: reproduced; +3.00 points" in text
    assert "Going on: near with 5 seeds." in text
    assert "Undecided at the last look (--max-seeds): near, “dynamic is better”." in text
    # The record of the last run and the looks follow the steps.
    assert json.loads((here / "runs" / "last_run.json").read_text())["seeds_by_study"] == {"far": 3, "near": 8}
    assert len(list((here / "runs" / "looks").glob("near-*.json"))) == 3


def test_it_ends_as_soon_as_all_are_decided(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(monkeypatch, {"far": FAR})
    plan = steps.run(selection_of("far"))
    assert steps.launched == []
    assert plan.request.seeds_by_study == {}
    assert "All primary claims are decided." in capsys.readouterr().out


@pytest.mark.parametrize(
    "end",
    [
        lambda: ended(failures=[Failure("a", "it broke", Path("log"))]),
        lambda: ended(interrupted=True),
        lambda: ended(untracked="the store is away"),
    ],
    ids=["failed", "interrupted", "untracked"],
)
def test_no_look_follows_a_launch_that_is_not_whole(
    end: Callable[[], Summary], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch, {"near": NEAR})
    steps.run(selection_of("near"), end=end)
    assert [step["near"] for step in steps.launched] == [5]


def test_a_missing_repeat_gets_no_further_seeds(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(monkeypatch, {"near": (0.5, None, *NEAR[2:])})
    steps.run(selection_of("near"))
    assert steps.launched == []
    assert "No further seeds, as they cannot decide it: near, “dynamic is better”: missing repeat." in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_step_that_exceeds_the_time_is_not_taken(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(monkeypatch, {"near": NEAR})
    # Nothing was timed here, so that no time is known to suffice.
    steps.run(selection_of("near"), hours=1.0)
    assert steps.launched == []
    assert "No further look: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-seeds", 8), "--max-seeds needs --until-decided"),
        (("--until-decided", "--max-seeds", 3), "leaves nothing to add"),
        (("--until-decided", "--offline"), "--offline tracks nothing"),
        (("--until-decided", "--max-hours", 1, "--trim"), "--trim takes seeds away"),
        (("--until-decided", "--force", "mine/static"), "--force trains anew"),
    ],
    ids=["alone", "three", "offline", "trim", "force"],
)
def test_what_contradicts_it_is_refused(options: tuple[object, ...], message: str, invoke: Invoke, here: Path) -> None:
    code, text = invoke.unwrapped("run", write_study(), "--preset", "smoke", *options)
    assert (code, message in text) == (2, True), text
    assert not (here / "runs" / "state").exists()


def test_a_frozen_plan_brings_its_rule(here: Path) -> None:
    selection = selection_of("mine", max_seeds=12)
    frozen = FrozenPlan.of(find_plan(selection), 1e9, "c" * 40, modified=False, named=selection.studies)
    path = write_frozen(frozen, here / "frozen")
    completed = FrozenOptions(path).completed(Selection(runs_dir=selection.runs_dir))
    assert (completed.until_decided, completed.max_seeds) == (True, 12)
    assert find_plan(completed).cells == find_plan(selection).cells
    # A later look is as planned.
    later = find_plan(replace(completed, seeds_by_study={"mine": 5}))
    assert frozen.differences(later) == ()


def test_a_report_that_names_nothing_has_the_seeds_of_the_last_look() -> None:
    previous = Selection(("a",), preset="smoke", until_decided=True, max_seeds=8, seeds_by_study={"a": 5})
    completed = as_last_time(Selection(), previous)
    assert (completed.until_decided, completed.max_seeds, completed.seeds_by_study) == (True, 8, {"a": 5})
    # Another scale is another question.
    other = as_last_time(Selection(seeds=4), previous)
    assert (other.until_decided, other.seeds_by_study) == (False, {})


@pytest.mark.slow
def test_from_the_first_look_to_a_report_that_verifies(
    invoke: Invoke, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So short a training learns nothing, and what never learned would get no further seeds.
    monkeypatch.setattr("reports.collect.runs.why_unlearned", lambda *_: "")
    monkeypatch.setattr("reports.analysis.claims.is_at_chance", lambda *_: False)
    command = ("run", write_study(), "--preset", "smoke", "--until-decided", "--max-seeds", 5, "--dispatch", "inline")
    code, text = invoke.unwrapped(*command)
    assert code == 0, text
    assert "Going on: mine with 5 seeds." in text
    assert "4 finished" in text
    pdf = here / "runs/reports/mine-smoke.pdf"
    pages = " ".join(" ".join(page.extract_text().split()) for page in PdfReader(pdf).pages)
    assert "looks at 3 and 5 seeds" in pages
    assert "protected against looking" in pages
    assert "2 looks at the results" in pages
    report = pdf.read_bytes()

    code, text = invoke.unwrapped("verify", pdf)
    assert (code, "no differences" in text) == (0, True), text

    # The report alone has the seeds of the last look: by the record of the last run, and by the tracked summary.
    assert invoke("report")[0] == 0
    assert pdf.read_bytes() == report
    (here / "runs" / "last_run.json").unlink()
    code, text = invoke.unwrapped("report", "mine.yaml")
    assert code == 0, text
    assert pdf.read_bytes() == report

    # The same command repeats the looks and trains nothing.
    code, text = invoke.unwrapped(*command)
    assert code == 0, text
    assert "finished" not in text
    assert pdf.read_bytes() == report
