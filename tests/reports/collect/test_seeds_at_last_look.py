"""The seeds of a study's last look, read from its tracked summaries: of the same rule alone, the newest first."""

from __future__ import annotations

from collections.abc import Callable

from ablations import vocabulary as names
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.protocol.stopping import StoppingRule
from ablations.registry import get_study
from reports.collect.summary_runs import latest_request, seeds_at_last_look
from tests.reports.made_up import Store


def kernels(max_seeds: int | None) -> Plan:
    rule = None if max_seeds is None else StoppingRule(max_seeds)
    request = Request(PRESETS["quick"], stopping=rule)
    return make_plan([get_study("kernels", request.base())], request)


def track(store: Store, start: int, seeds: int, **tags: str) -> None:
    common = {
        names.TAG_KIND: "study",
        names.TAG_STUDY_NAME: "kernels",
        names.TAG_PRESET: "quick",
        names.TAG_OVERRIDES: "{}",
        names.TAG_SEEDS: str(seeds),
    }
    store.raw(names.experiment_name("quick", "fashion_mnist_mini"), "summary", common | tags, {}, start=start)


def test_the_newest_summary_under_the_same_rule_counts(make_store: Callable[[], Store]) -> None:
    store = make_store()
    rule = {names.TAG_STOPPING: "20", names.TAG_FIRST_SEEDS: "3"}
    track(store, 1, 5, **rule)
    track(store, 2, 12, **rule)
    # Another end, another beginning and a fixed number are other rules.
    track(store, 3, 9, **{**rule, names.TAG_STOPPING: "9"})
    track(store, 4, 4, **{**rule, names.TAG_FIRST_SEEDS: "4"})
    track(store, 5, 7)
    assert seeds_at_last_look(kernels(20), store.uri) == {"kernels": 12}
    assert seeds_at_last_look(kernels(40), store.uri) == {}
    assert seeds_at_last_look(kernels(None), store.uri) == {}


def test_the_latest_request_has_the_rule_and_the_seeds_of_the_first_look(make_store: Callable[[], Store]) -> None:
    store = make_store()
    track(store, 1, 12, **{names.TAG_STOPPING: "20", names.TAG_FIRST_SEEDS: "3"})
    request = latest_request("kernels", store.uri)
    assert request is not None
    assert (request["seeds"], request["max_seeds"]) == (3, 20)
