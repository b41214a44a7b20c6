"""Builds the output of `status`: an overview as data, then as tables, plain lines or JSON.

`node_status` reads the disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, OverflowMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ablations.invocation import suggested_command
from runners.console.display import clock
from runners.state.launches import History, LaunchRecord, PlannedNode, PlanRecord
from runners.state.layout import RunsFolder
from runners.state.nodes import StateStore
from runners.tracking import sync_notes
from runners.upkeep.damages import damages_of
from runners.upkeep.node_status import STATUSES, NodeStatus, running_nodes, survey

_KINDS = {
    "trial": "trainings",
    "network": "networks trained elsewhere",
    "evaluation": "evaluations",
    "cost": "networks",
}
_UNDONE = STATUSES[:-1]
_ENDLESS = 10_000


@dataclass(frozen=True)
class Overview:
    """The status of the nodes of a plan.

    Attributes:
        launches: The launches that go on, the last one first.
        planned: Its nodes, in the order of the plan.
        unplanned: Nodes outside the plan that run or are orphaned.
        unsynced: Lines of metrics that the tracking store has not got yet, per node.
        damages: Files of the runs folder that cannot be read, a sentence each.
    """

    plan: PlanRecord
    launches: Sequence[LaunchRecord]
    planned: Sequence[NodeStatus]
    unplanned: Sequence[NodeStatus] = ()
    unsynced: Mapping[str, int] = field(default_factory=dict)
    damages: Sequence[str] = ()

    @property
    def has_failures(self) -> bool:
        """True if a node of the plan has failed for good."""
        return any(node.status == "failed" for node in self.planned)

    @property
    def is_done(self) -> bool:
        """True if every node of the plan is done."""
        return all(node.status == "done" for node in self.planned)

    @property
    def nodes(self) -> list[NodeStatus]:
        """All nodes, those of the plan first."""
        return [*self.planned, *self.unplanned]


def look(runs_dir: Path, plan: PlanRecord, uri: str, *, others: bool) -> Overview:
    """Return the present status of the nodes of a plan, from disk.

    Args:
        others: True to look for running nodes of other plans, too.
    """
    states, launches = StateStore(RunsFolder(runs_dir).state), History(runs_dir).launches
    unplanned: dict[str, PlannedNode] = {}
    if others:
        unplanned = running_nodes(states, plan.nodes)
    fingerprints = [*plan.nodes, *unplanned]
    return Overview(
        plan,
        [record for record in launches if record.is_alive],
        survey(states, plan.nodes, launches),
        survey(states, unplanned, launches),
        sync_notes.unsynced(states, uri, fingerprints),
        damages_of(runs_dir, fingerprints),
    )


def render(overview: Overview, states: StateStore, *, every: bool = False, is_live: bool = False) -> RenderableType:
    """Return the overview for a terminal.

    Args:
        states: The state folders, for the log files.
        every: True to list done and waiting nodes, too.
        is_live: True if it is redrawn, so that a line per node matters more than a path that can be copied.
    """
    overflow: OverflowMethod = "ellipsis" if is_live else "ignore"
    page: list[RenderableType] = [Text(_headline(overview)), _CountTable(overview)]
    for line in _rows(overview, states, every=every):
        page.append(Text(line, no_wrap=True, overflow=overflow))
    return Group(*page)


def plain(overview: Overview, states: StateStore, *, every: bool = False) -> list[str]:
    """Return the overview as lines, see `render`."""
    lines = [_headline(overview)]
    for study, counts in _by_study(overview).items():
        items = [f"{count} of {total} {kind} done" for kind, (count, total) in counts.done.items()]
        line = f"{study}: {', '.join(items)}"
        for status in _UNDONE:
            if counts.statuses[status]:
                line += f", {counts.statuses[status]} {status}"
        lines.append(line)
    return lines + _rows(overview, states, every=every)


def as_json(overview: Overview, states: StateStore) -> dict[str, Any]:
    """Return the overview as plain data: counts, and every node of the plan or under way."""
    return {
        "asked": overview.plan.scale,
        "studies": list(overview.plan.studies),
        "rows": {study: list(keys) for study, keys in overview.plan.rows.items()},
        "launches": [_launch_as_json(record) for record in overview.launches],
        "counts": dict(_statuses(overview.planned)),
        "unsynced": sum(overview.unsynced.values()),
        "damaged": list(overview.damages),
        "nodes": [_as_json(node, overview, states) for node in overview.nodes],
    }


@dataclass
class _Counts:
    done: dict[str, tuple[int, int]]
    statuses: Counter[str]


def _by_study(overview: Overview) -> dict[str, _Counts]:
    """Return the counts of each study and, if there are several, of all nodes, each once."""
    counts: dict[str, _Counts] = {}
    for study in overview.plan.studies:
        fingerprints = overview.plan.of_study(study)
        counts[study] = _count([node for node in overview.planned if node.fingerprint in fingerprints])
    if len(counts) > 1:
        # A node that serves several studies counts once in the sum.
        counts["together"] = _count(overview.planned)
    return counts


def _count(nodes: Sequence[NodeStatus]) -> _Counts:
    done_counts, totals = Counter[str](), Counter[str]()
    # Trainings of a tuning or a search have no kind here; they are among the statuses alone.
    for node in nodes:
        totals[node.planned.kind] += 1
        done_counts[node.planned.kind] += node.status == "done"
    done_by_kind: dict[str, tuple[int, int]] = {}
    for kind, label in _KINDS.items():
        if totals[kind]:
            done_by_kind[label] = (done_counts[kind], totals[kind])
    return _Counts(done_by_kind, _statuses(nodes))


def _statuses(nodes: Sequence[NodeStatus]) -> Counter[str]:
    # In the order of `STATUSES`, those of no node too.
    counts = Counter[str](dict.fromkeys(STATUSES, 0))
    counts.update(node.status for node in nodes)
    return counts


def _headline(overview: Overview) -> str:
    items = [f"{overview.plan.subject} at {overview.plan.scale}"]
    if not overview.launches:
        return f"{items[0]} · no launch goes on"
    for record in overview.launches:
        items.append(f"launch {record.launch} goes on at {record.process.host}:{record.process.pid}")
    return " · ".join(items)


class _CountTable:
    """The counts of each study; a narrow terminal gets no column of a status that no node has, and no lines."""

    def __init__(self, overview: Overview) -> None:
        self._counts = _by_study(overview)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table(is_narrow=False)
        # Measured as if there were room for everything, as a table is never wider than its terminal.
        endless = options.update(max_width=_ENDLESS)
        if console.measure(table, options=endless).maximum > options.max_width:
            table = self._table(is_narrow=True)
        yield table

    def _table(self, *, is_narrow: bool) -> Table:
        table = Table(title_justify="left")
        if is_narrow:
            table.box, table.show_edge, table.pad_edge, table.padding = SIMPLE_HEAD, False, False, (0, 1, 0, 0)
        table.add_column("study", overflow="fold")
        rows: dict[str, list[str]] = {study: [] for study in self._counts}
        separator = "/" if is_narrow else " / "
        # The status done has a column by kind.
        for kind in _KINDS.values():
            if any(kind in of_study.done for of_study in self._counts.values()):
                table.add_column("\n".join([kind, "done"]) if is_narrow else f"{kind} done", justify="right")
                for study, of_study in self._counts.items():
                    done, total = of_study.done.get(kind, (0, 0))
                    rows[study].append(f"{done}{separator}{total}" if total else "–")
        for status in _UNDONE:
            if is_narrow and not any(of_study.statuses[status] for of_study in self._counts.values()):
                continue
            table.add_column(status, justify="right")
            for study, of_study in self._counts.items():
                rows[study].append(str(of_study.statuses[status] or "–"))
        for study, cells in rows.items():
            table.add_row(Text(study), *cells)
        return table


def _rows(overview: Overview, states: StateStore, *, every: bool) -> list[str]:
    """Return a line per node that needs attention, then remarks on lines that are not tracked and on damages."""
    # Nodes of one status stay in the order of the plan, as sorting is stable.
    nodes = sorted(overview.nodes, key=lambda node: STATUSES.index(node.status))
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


def _lines(node: NodeStatus, states: StateStore) -> list[str]:
    items = [f"{node.status:8}", node.planned.title, *_process(node), *_progress(node)]
    if node.failure is not None:
        items.append(reason(node.failure))
    if node.attempts > 1:
        items.append(f"{node.attempts} attempts")
    if node.remark:
        items.append(node.remark)
    lines = ["  ".join(items)]
    log = states[node.fingerprint].log_file
    if node.failure is not None and log.exists():
        lines.append(f"          log: {log}")
    return lines


def reason(failure: Mapping[str, Any]) -> str:
    """Return the reason of a failure in words, with its cause."""
    return f"{failure.get('kind')}: {failure.get('message')} (cause: {failure.get('cause', 'error')})"


def _process(node: NodeStatus) -> list[str]:
    if node.status not in ("running", "orphaned") or node.attempt is None:
        return []
    process = node.attempt.process
    items = [f"{process.host}:{process.pid}"]
    if node.silence is not None:
        items.append(f"sign of life {node.silence:.0f} s ago")
    return items


def _progress(node: NodeStatus) -> list[str]:
    latest = node.progress
    if node.status != "running":
        return []
    if node.planned.kind != "trial":
        return ["measuring"]
    if not {"epoch", "epochs", "images_per_second"} <= latest.keys():
        return ["starting"]
    items = [f"epoch {latest['epoch']:.0f}/{latest['epochs']:.0f}", f"{latest['images_per_second']:.0f} images/s"]
    if node.seconds_left is not None:
        items.append(f"about {clock(node.seconds_left)} left")
    return items


def _as_json(node: NodeStatus, overview: Overview, states: StateStore) -> dict[str, Any]:
    log_file = states[node.fingerprint].log_file
    return {
        "fingerprint": node.fingerprint,
        "kind": node.planned.kind,
        "title": node.planned.title,
        "serves": overview.plan.serves(node.fingerprint),
        "status": node.status,
        "remark": node.remark,
        "attempts": node.attempts,
        "attempt": _attempt_as_json(node),
        "progress": dict(node.progress),
        "seconds_left": node.seconds_left,
        "failure": dict(node.failure) if node.failure is not None else None,
        "log": str(log_file) if log_file.exists() else None,
        "unsynced": overview.unsynced.get(node.fingerprint, 0),
    }


def _attempt_as_json(node: NodeStatus) -> dict[str, Any] | None:
    attempt = node.attempt
    if attempt is None:
        return None
    return {
        "launch": attempt.launch,
        "host": attempt.process.host,
        "pid": attempt.process.pid,
        "outcome": attempt.outcome,
        "began": attempt.began,
        "ended": attempt.ended,
        "silence": node.silence,
        "lease_seconds": attempt.lease_seconds,
    }


def _launch_as_json(record: LaunchRecord) -> dict[str, Any]:
    process = {"host": record.process.host, "pid": record.process.pid}
    return {"launch": record.launch, "began": record.began, **process}
