"""Twice the variants are twice the work: no line of ours runs four times as often. Counted, not timed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ablations.files.study_file import load_study
from ablations.planning.lint import lint, sized_networks
from ablations.planning.optimisation_plans import make_tuning_plan
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from runners.console.tables import plan_overview
from tests.command_line import run_command

ROOT = str(Path(__file__).resolve().parent.parent)
FEW = 40
MUCH = 5
"""Lines that run less often than this for each variant are not looked at."""

Lines = Counter[tuple[str, int]]


def study_file(folder: Path, count: int, **more: str) -> Path:
    """Writes a study whose variants differ in the learning rate, with a claim on each."""
    lines = ["name: mine", "question: Which?", "reference: v0", "equal_size: true", "variants:"]
    lines += [f"  v{i}: {{train.learning_rate: {0.01 + i * 1e-5:.6f}}}" for i in range(count)]
    lines += ["claims:"]
    for i in range(1, count):
        lines.append(f"  - {{name: c{i}, statement: It helps., contrasts: [{{better: [v{i}], worse: [v0]}}]}}")
    path = folder / f"study{count}.yaml"
    path.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in more.items())]) + "\n")
    return path


def lines_run(action: Callable[[], object]) -> Lines:
    """Returns how often each line of this project's files ran, each round of a comprehension included."""
    counts: Lines = Counter()

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            counts[frame.f_code.co_filename, frame.f_lineno] += 1
        return local

    def everywhere(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        return local(frame, event, argument) if name.startswith(ROOT) and "/tests/" not in name else None

    before = sys.gettrace()
    sys.settrace(everywhere)
    try:
        action()
    finally:
        sys.settrace(before)
    return counts


def check_linear(action: Callable[[int], object]) -> None:
    # Caches are filled once, also those whose entries depend on the number of variants.
    for count in (FEW, 2 * FEW):
        action(count)
    once, twice = (lines_run(lambda count=count: action(count)) for count in (FEW, 2 * FEW))  # type: ignore[misc]
    often = {line: count for line, count in twice.items() if count > 2 * FEW * MUCH}
    assert often
    more_than_twice = {line: (once[line], count) for line, count in often.items() if count > 2.8 * once[line]}
    assert not more_than_twice


def plan_and_lint(path: Path) -> None:
    study = load_study(path)
    plan = make_plan([study], Request(get_preset("smoke")))
    lint(plan)
    sized_networks(plan)
    plan_overview(plan)
    for cell in plan.cells:
        plan.node(cell.fingerprint)
        plan.studies_of(cell.fingerprint)
        study.variant(cell.variant)


def test_the_count_notices_what_is_quadratic() -> None:
    def quadratic(count: int) -> None:
        plan = make_plan([], Request(get_preset("smoke")))
        for _ in range(count * count):
            plan.cells_of("mine")

    with pytest.raises(AssertionError):
        check_linear(quadratic)


def test_planning_and_linting(tmp_path: Path) -> None:
    check_linear(lambda count: plan_and_lint(study_file(tmp_path, count)))


def test_planning_of_evaluations(tmp_path: Path) -> None:
    def plan(count: int) -> None:
        path = tmp_path / f"evaluations{count}.yaml"
        variants = [f"  v{i}: {{intervention: {{temperature: {1 + i}}}}}" for i in range(count)]
        path.write_text("\n".join(["name: mine", "question: Which?", "reference: v0", "variants:", *variants]) + "\n")
        plan_and_lint(path)

    check_linear(plan)


def test_planning_a_tuning(tmp_path: Path) -> None:
    def plan(count: int) -> None:
        text = study_file(tmp_path, count).read_text().replace("train.learning_rate", "train.label_smoothing")
        path = tmp_path / f"tuned{count}.yaml"
        path.write_text(text)
        make_tuning_plan([load_study(path)], Request(get_preset("smoke")), 3).as_plan()

    check_linear(plan)


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_a_command(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(count: int) -> None:
        path = study_file(tmp_path, count, allow="{few-seeds: a test}")
        code = run_command(verb, path, "--preset", "smoke", "--runs-dir", tmp_path / "runs")
        assert code == 0, capsys.readouterr()

    check_linear(command)
