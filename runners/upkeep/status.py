"""Builds the output of `status`: an overview as data, then as tables, plain lines or JSON.

`node_status` reads the disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text

from ablations.invocation import suggested_command
from runners.console.display import clock
from runners.state.attempts import Attempt
from runners.state.launches import AskedPlan, History, LaunchRecord
from runners.state.nodes import StateStore
from runners.tracking import sync_notes
from runners.upkeep.damages import damages_of
from runners.upkeep.node_status import STATUSES, Standing, survey, underway

_KINDS = {"trial": "trainings", "evaluation": "evaluations", "cost": "networks"}


@dataclass(frozen=True)
class Overview:
    """The status of the nodes of a plan.

    Attributes:
        asked: The plan.
        launches: The launches that go on, the last one first.
        standings: Per node, in the order of the plan.
        others: Nodes outside the plan that run or are orphaned.
        unsynced: Lines of metrics that the tracking store has not got yet, per node.
        damages: Files of the runs folder that cannot be read, a sentence each.
    """

    asked: AskedPlan
    launches: Sequence[LaunchRecord]
    standings: Sequence[Standing]
    others: Sequence[Standing] = ()
    unsynced: Mapping[str, int] = field(default_factory=dict)
    damages: Sequence[str] = ()

    @property
    def has_failures(self) -> bool:
        """Whether a node of the plan has failed for good."""
        return any(standing.status == "failed" for standing in self.standings)


def look(runs_dir: Path, asked: AskedPlan, uri: str, *, others: bool) -> Overview:
    """Return the present status of the nodes of a plan, from disk.

    Args:
        runs_dir: The runs folder.
        asked: The plan.
        uri: The tracking store.
        others: Whether to look for running nodes of other plans, too.
    """
    states, launches = StateStore(runs_dir / "state"), History(runs_dir).launches
    unplanned = underway(states, asked.nodes) if others else {}
    return Overview(
        asked,
        [record for record in launches if record.is_alive],
        survey(states, asked.nodes, launches),
        survey(states, unplanned, launches),
        sync_notes.unsynced(states, uri, [*asked.nodes, *unplanned]),
        damages_of(runs_dir, [*asked.nodes, *unplanned]),
    )


def render(overview: Overview, states: StateStore, *, every: bool = False, is_live: bool = False) -> RenderableType:
    """Return the overview for a terminal.

    Args:
        overview: The overview.
        states: The state folders, for the log files.
        every: Whether to list done and waiting nodes, too.
        is_live: Whether it is redrawn, so that a line per node matters more than a path that can be copied.
    """
    overflow: OverflowMethod = "ellipsis" if is_live else "ignore"
    rows = [Text(line, no_wrap=True, overflow=overflow) for line in _rows(overview, states, every=every)]
    return Group(Text(_headline(overview)), _table(overview), *rows)


def plain(overview: Overview, states: StateStore, *, every: bool = False) -> list[str]:
    """Return the overview as lines, see `render`."""
    lines = [_headline(overview)]
    for study, counts in _by_study(overview).items():
        done_counts = ", ".join(f"{n} of {total} {kind} done" for kind, (n, total) in counts.done.items())
        lines.append(f"{study}: {done_counts}{_others(counts.statuses)}")
    return lines + _rows(overview, states, every=every)


def as_json(overview: Overview, states: StateStore) -> dict[str, Any]:
    """Return the overview as plain data: counts, and every node of the plan or under way."""
    nodes = [*overview.standings, *overview.others]
    return {
        "asked": overview.asked.scale,
        "studies": list(overview.asked.studies),
        "launches": [_launch_as_json(record) for record in overview.launches],
        "counts": dict(_statuses(overview.standings)),
        "unsynced": sum(overview.unsynced.values()),
        "damaged": list(overview.damages),
        "nodes": [_as_json(node, overview, states) for node in nodes],
    }


@dataclass
class _Counts:
    done: dict[str, tuple[int, int]]
    statuses: Counter[str]


def _by_study(overview: Overview) -> dict[str, _Counts]:
    """Return the counts of each study and, if there are several, of all nodes, each once."""
    standings = {standing.fingerprint: standing for standing in overview.standings}
    counted = {
        study: _count([standings[key] for key in overview.asked.of_study(study) if key in standings])
        for study in overview.asked.studies
    }
    # A node that serves several studies counts once in the sum.
    return counted | ({"together": _count(overview.standings)} if len(counted) > 1 else {})


def _count(standings: Sequence[Standing]) -> _Counts:
    done_by_kind: dict[str, tuple[int, int]] = {}
    for kind, label in _KINDS.items():
        of_kind = [standing for standing in standings if standing.part.kind == kind]
        if of_kind:
            done_by_kind[label] = (sum(standing.status == "done" for standing in of_kind), len(of_kind))
    return _Counts(done_by_kind, _statuses(standings))


def _statuses(standings: Sequence[Standing]) -> Counter[str]:
    return Counter({status: sum(standing.status == status for standing in standings) for status in STATUSES})


def _others(statuses: Mapping[str, int]) -> str:
    return "".join(f", {statuses[status]} {status}" for status in STATUSES if status != "done" and statuses[status])


def _headline(overview: Overview) -> str:
    items = [f"{', '.join(overview.asked.studies)} at {overview.asked.scale}"]
    if not overview.launches:
        return f"{items[0]} · no launch goes on"
    for record in overview.launches:
        items.append(f"launch {record.launch} goes on at {record.process.host}:{record.process.pid}")
    return " · ".join(items)


def _table(overview: Overview) -> Table:
    table = Table(title_justify="left")
    table.add_column("study", overflow="fold")
    counts = _by_study(overview)
    kinds = [label for label in _KINDS.values() if any(label in of_study.done for of_study in counts.values())]
    # The last status, done, has columns by kind.
    for heading in (*(f"{kind} done" for kind in kinds), *STATUSES[:-1]):
        table.add_column(heading, justify="right")
    for study, of_study in counts.items():
        done_cells = ["{} / {}".format(*of_study.done.get(kind, (0, 0))) for kind in kinds]
        table.add_row(Text(study), *done_cells, *(str(of_study.statuses[status] or "–") for status in STATUSES[:-1]))
    return table


def _rows(overview: Overview, states: StateStore, *, every: bool) -> list[str]:
    """Return a line per node that needs attention, then remarks on lines that are not tracked and on damages."""
    nodes = sorted([*overview.standings, *overview.others], key=lambda node: STATUSES.index(node.status))
    lines: list[str] = []
    for node in nodes:
        if every or node.status in ("running", "orphaned", "failed") or (node.failure and node.status == "waiting"):
            lines += _lines(node, states)
    if overview.unsynced:
        count, total = len(overview.unsynced), sum(overview.unsynced.values())
        lines.append(
            f"Not in the tracking store yet: {total} lines of {count} nodes. To bring them over: "
            f"{suggested_command('sync', ())}"
        )
    return [*lines, *overview.damages]


def _lines(node: Standing, states: StateStore) -> list[str]:
    items = [f"{node.status:8}", node.part.title, *_where(node), *_how_far(node)]
    if node.failure is not None:
        items.append(reason(node.failure))
    if node.attempts > 1:
        items.append(f"{node.attempts} attempts")
    items += [node.remark] if node.remark else []
    log = states[node.fingerprint].log_file
    return ["  ".join(items)] + ([f"          log: {log}"] if node.failure is not None and log.exists() else [])


def reason(failure: Mapping[str, Any]) -> str:
    """Return the reason of a failure in words, with its cause."""
    return f"{failure.get('kind')}: {failure.get('message')} (cause: {failure.get('cause', 'error')})"


def _where(node: Standing) -> list[str]:
    if node.status not in ("running", "orphaned") or node.attempt is None:
        return []
    process = node.attempt.process
    silence = [] if node.silence is None else [f"sign of life {node.silence:.0f} s ago"]
    return [f"{process.host}:{process.pid}", *silence]


def _how_far(node: Standing) -> list[str]:
    latest = node.progress
    if node.status != "running":
        return []
    if node.part.kind != "trial":
        return ["measuring"]
    if not {"epoch", "epochs", "images_per_second"} <= latest.keys():
        return ["starting"]
    items = [f"epoch {latest['epoch']:.0f}/{latest['epochs']:.0f}", f"{latest['images_per_second']:.0f} images/s"]
    return items + ([] if node.seconds_left is None else [f"about {clock(node.seconds_left)} left"])


def _as_json(node: Standing, overview: Overview, states: StateStore) -> dict[str, Any]:
    attempt, state = node.attempt, states[node.fingerprint]
    return {
        "fingerprint": node.fingerprint,
        "kind": node.part.kind,
        "title": node.part.title,
        "serves": overview.asked.serves(node.fingerprint),
        "status": node.status,
        "remark": node.remark,
        "attempts": node.attempts,
        "attempt": _attempt_as_json(attempt, node.silence) if attempt is not None else None,
        "progress": dict(node.progress),
        "seconds_left": node.seconds_left,
        "failure": dict(node.failure) if node.failure is not None else None,
        "log": str(state.log_file) if state.log_file.exists() else None,
        "unsynced": overview.unsynced.get(node.fingerprint, 0),
    }


def _attempt_as_json(attempt: Attempt, silence: float | None) -> dict[str, Any]:
    return {
        "launch": attempt.launch,
        "host": attempt.process.host,
        "pid": attempt.process.pid,
        "outcome": attempt.outcome,
        "began": attempt.began,
        "ended": attempt.ended,
        "silence": silence,
        "lease_seconds": attempt.lease_seconds,
    }


def _launch_as_json(record: LaunchRecord) -> dict[str, Any]:
    process = {"host": record.process.host, "pid": record.process.pid}
    return {"launch": record.launch, "began": record.began, **process}
