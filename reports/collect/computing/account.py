"""This module classifies the tracked runs of a plan's studies: the part that is counted in a report, and the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

from ablations import vocabulary as names
from ablations.planning.plan import Plan
from reports.collect.computing.accounted import KINDS, AccountedRun, Computing, Outcome
from reports.collect.tracked_runs import TrackedRun, integer, json_object

# Only these kinds use the devices that their settings ask for.
_TRAININGS = frozenset({"trial", "tuning", "search"})
_LONGEST_SECONDS = 1e9
_MOST_BYTES = 2**60
_OUTCOMES: dict[str, Outcome] = {"finished": "finished", "failed": "failed", "killed": "aborted"}


def account(plan: Plan, tracked: Iterable[TrackedRun], counted: Collection[str]) -> Computing:
    """Return the computing of a plan's studies.

    A run belongs to them if it is tagged with one of the studies, whatever its settings and its seed, if it is of a
    node of the plan, or if it is a trial of a tuning whose values the plan uses.

    Args:
        tracked: The runs of the plan's experiments, the newest first.
        counted: The ids of the runs that the report's numbers come from.
    """
    tags = {names.study_tag(study.name) for study in plan.studies}
    fingerprints = {node.fingerprint for node in plan.nodes}
    # Trials of a tuning are tagged with their group and not with the studies that use its values.
    tunings = {entry.fingerprint for entry in plan.tuned.values()}
    runs = []
    for run in tracked:
        if run.kind not in KINDS:
            # Summaries and the runs above a tuning compute nothing themselves.
            continue
        is_tagged = not tags.isdisjoint(run.tags)
        if is_tagged or run.fingerprint in fingerprints or run.tags.get(names.TAG_GROUP) in tunings:
            runs.append(_accounted(run, counted))
    return Computing(tuple(runs))


def _accounted(run: TrackedRun, counted: Collection[str]) -> AccountedRun:
    # Many runs have equal texts in this tag.
    machine, gpu = _machine(run.tags.get(names.TAG_VERSIONS, ""))
    memory = json_object(run.tags.get(names.TAG_PEAK_MEMORY))
    attempts = run.value(names.ATTEMPTS)
    return AccountedRun(
        run_id=run.run_id,
        kind=run.kind,
        outcome=_outcome(run, counted),
        seconds=_device_seconds(run),
        ended=run.ended,
        attempts=int(attempts) if attempts >= 1 else 1,
        machine=machine,
        gpu=gpu,
        memory=_bytes(memory.get("main")),
        gpu_memory=_bytes(memory.get("gpu")),
    )


def _outcome(run: TrackedRun, counted: Collection[str]) -> Outcome:
    # Being in the report comes first: a run that was superseded after it was read still gave its number.
    if run.run_id in counted:
        return "counted"
    # A run that was done anew may have failed before: what it was replaced by counts more.
    if run.superseded_by is not None:
        return "superseded"
    return _OUTCOMES.get(run.status, "running")


def _device_seconds(run: TrackedRun) -> float | None:
    """Return the wall seconds of all attempts times the devices, or `None` if they are not known."""
    seconds = _wall_seconds(run)
    if seconds is None:
        return None
    devices = 1
    # An evaluation carries the settings of its training, but runs on one device.
    if run.kind in _TRAININGS:
        devices = integer(run.params.get("train.devices")) or 1
    return seconds * devices


def _wall_seconds(run: TrackedRun) -> float | None:
    # Attempts were not tracked by earlier versions, and of a single attempt that succeeded its result has the time.
    candidates = [run.value(names.ATTEMPT_SECONDS), run.value(names.SECONDS)]
    known = [seconds for seconds in candidates if 0 <= seconds < _LONGEST_SECONDS]
    if known:
        # The sum holds the time of the result if it is up to date; if not, the longer one is the better bound.
        return max(known)
    # From the first attempt to the end, with the time between attempts. A run without an end has no length.
    if run.status in ("failed", "killed") and run.ended > run.began:
        return (run.ended - run.began) / 1000
    return None


@cache
def _machine(versions: str) -> tuple[str, bool]:
    """Return the machine in a tag of versions, in words, and True if it is a GPU."""
    entries = json_object(versions)
    if "gpu" in entries:
        return str(entries["gpu"]), True
    if not entries.get("processor"):
        return "", False
    machine = str(entries["processor"])
    if "threads" in entries:
        noun = "thread" if str(entries["threads"]) == "1" else "threads"
        machine += f", {entries['threads']} {noun}"
    return machine, False


def _bytes(value: object) -> int:
    # Anybody can edit a tag in MLflow's UI.
    if isinstance(value, int) and 0 <= value < _MOST_BYTES:
        return int(value)
    return 0
