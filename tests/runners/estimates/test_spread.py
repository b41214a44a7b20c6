"""The spread that likely seeds rest on: what was measured in the runs folder, else what is typical of the preset."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.claims import better_than
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import get_study
from runners.cli.plan import likely_seeds_lines
from runners.estimates.spread import TYPICAL, spread_of
from runners.state.files import write_json
from runners.state.nodes import StateStore

CONTRAST = better_than("tau_30", "tau_1")[0]


def temperature(preset: str = "quick", **overrides: object) -> Plan:
    request = Request(PRESETS[preset], dict(overrides))
    return make_plan([get_study("temperature", request.base())], request)


def measured(plan: Plan, states: StateStore, values: dict[str, tuple[float, ...]]) -> Plan:
    """Returns the plan with results of some rows, seed by seed, in the folder of states."""
    done = set()
    for variant, row_values in values.items():
        cells = plan.cells_of_row("temperature", "", variant)
        for cell, value in zip(cells, row_values, strict=False):
            states[cell.fingerprint].describe(plan.node(cell.fingerprint))
            result = {"metrics": {"test/top1": value}, "seconds": 1.0, "time": 1.0, "fingerprint": cell.fingerprint}
            write_json(states[cell.fingerprint].result_file, result)
            done.add(cell.fingerprint)
    return replace(plan, done=frozenset(done))


def test_without_results_it_is_typical_of_the_preset(tmp_path: Path) -> None:
    plan = temperature()
    spread = spread_of(plan, StateStore(tmp_path), plan.studies[0], CONTRAST, "")
    assert spread is not None
    assert (spread.sd, spread.is_typical) == (TYPICAL["quick"], True)
    # At this preset, two temperatures on which no claim rests are left out.
    assert spread.rows == len(plan.studies[0].variants)


def test_the_typical_spread_is_that_of_the_measurements_in_the_documentation() -> None:
    # Half widths of the 95 % intervals of *methods*, three seeds each (docs/presets.md).
    half_widths = (2.7, 2.3, 2.3, 1.0, 1.6, 0.5, 1.0, 1.2)
    sds = [half * math.sqrt(3) / 4.3027 for half in half_widths]
    assert math.sqrt(statistics.fmean(sd**2 for sd in sds)) == pytest.approx(TYPICAL["quick"], abs=0.05)


def test_what_was_measured_here_comes_first(tmp_path: Path) -> None:
    states = StateStore(tmp_path)
    plan = measured(temperature(), states, {"tau_30": (80.0, 81.0, 85.0), "tau_1": (79.0, 81.5)})
    spread = spread_of(plan, states, plan.studies[0], CONTRAST, "")
    assert spread is not None
    # Of the two seeds that both rows have: the differences are 1 and −0.5.
    assert spread.sd == pytest.approx(statistics.stdev([1.0, -0.5]))
    assert spread.source == "measured with 2 seeds here"


@pytest.mark.parametrize("preset", ["smoke", "small"])
def test_of_other_presets_nothing_is_known(preset: str, tmp_path: Path) -> None:
    plan = temperature(preset)
    assert spread_of(plan, StateStore(tmp_path), plan.studies[0], CONTRAST, "") is None


def test_other_settings_than_the_presets_have_no_typical_spread(tmp_path: Path) -> None:
    plan = temperature(**{"train.epochs": 5})
    assert spread_of(plan, StateStore(tmp_path), plan.studies[0], CONTRAST, "") is None


def test_evaluations_of_one_checkpoint_have_none_either(tmp_path: Path) -> None:
    request = Request(PRESETS["quick"])
    plan = make_plan([get_study("aggregation", request.base())], request)
    study = plan.studies[0]
    claim = study.primary_claim
    assert claim is not None
    assert spread_of(plan, StateStore(tmp_path), study, claim.contrasts[0], study.inspect[0]) is None


def test_the_lines_name_the_seeds_for_each_truth_and_the_looks(tmp_path: Path) -> None:
    text = "\n".join(likely_seeds_lines(temperature(), StateStore(tmp_path)))
    assert "“τ = 1 is worse than τ = 30”: 5 if the true difference is 1 point; " in text
    assert "if it is as published" in text
    assert "spread 0.7 points (typical of preset quick)" in text
    assert "--until-decided" not in text


def test_a_claim_without_a_spread_says_how_to_get_one(tmp_path: Path) -> None:
    text = "\n".join(likely_seeds_lines(temperature("small"), StateStore(tmp_path)))
    assert "temperature: not known" in text
    assert "--seeds 2" in text
