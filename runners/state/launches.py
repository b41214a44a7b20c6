"""This module keeps the history of a runs folder: each launch, and the plan that it carried out. No torch or mlflow.

`plans/<digest>.json` lists the cells of a plan's studies and the nodes that measure them; launches of the same plan
share it. `launches/<launch>.json` names the process, the times and the commit of a launch. Both are kept, because a
study file that was edited or removed no longer tells which nodes were measured for it.

`launches/order/<number>.json` holds the order in which launches began. Each launch creates the file of its number,
which one process alone can do, so the order does not rest on clocks. Clocks are for people to read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, NotRequired, Self

from pydantic import Field
from typing_extensions import TypedDict

from ablations.errors import OutputError
from ablations.planning.plan import Cell, Plan
from ablations.spec.fingerprint import digest
from ablations.spec.parts import SPEC_VERSION
from runners.processes import Process
from runners.provenance import Commit
from runners.state.failures import FailurePolicy
from runners.state.files import exclusively, write_json, write_json_once
from runners.state.layout import RunsFolder
from runners.state.schemas import Count, Damage, FileKind, Name, Seconds

# Of the digest in hexadecimal: unique, and short enough for the name of a file.
_DIGITS = 32
_UNKNOWN = Commit("unknown", dirty=False)

# A name that begins with a dot is that of a temporary or a damaged file.
_FILES = "[!.]*.json"


@dataclass(frozen=True)
class PlannedNode:
    """A node of a plan, as far as a table of nodes needs it.

    Attributes:
        trial: The training whose checkpoint an evaluation measures; empty for other kinds.
    """

    kind: str
    title: str
    trial: str = ""


@dataclass(frozen=True)
class PlanRecord:
    """A plan as data: the request, its cells and the nodes that measure them, by fingerprint.

    Attributes:
        seeds: Repeats per variant, or `None` if the request leaves the number to the preset.
        cells: Canaries and the costs of networks are among them.
        tuned: True if variants were trained with the settings that they had been tuned to.
        rows: By study, the keys of the rows that were asked for; a study that is not among them is whole.
        seed: The one repeat that was asked for, or `None`.
    """

    preset: str
    overrides: Mapping[str, Any]
    seeds: int | None
    canary: bool
    spec_version: int
    cells: tuple[Cell, ...]
    nodes: Mapping[str, PlannedNode]
    tuned: bool = False
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Return a plan as data."""
        nodes: dict[str, PlannedNode] = {}
        for node in plan.nodes:
            nodes[node.fingerprint] = PlannedNode(node.kind, node.title, node.depends_on or "")
        request = plan.request
        return cls(
            preset=request.preset.name,
            overrides=dict(request.overrides),
            seeds=request.seeds,
            canary=request.canary,
            spec_version=SPEC_VERSION,
            cells=plan.all_cells,
            nodes=nodes,
            tuned=request.tuned is not None,
            rows={name: tuple(keys) for name, keys in plan.rows_by_study.items()},
            seed=request.seed,
        )

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies, in the order of their cells."""
        return tuple(dict.fromkeys(cell.study for cell in self.cells))

    @property
    def subject(self) -> str:
        """The studies for people, those of which some rows were asked for with the number of these."""
        phrases: list[str] = []
        for study in self.studies:
            rows = self.rows.get(study)
            phrases.append(study if rows is None else f"{study} ({len(rows)} row{'s' if len(rows) > 1 else ''})")
        return ", ".join(phrases)

    @property
    def scale(self) -> str:
        """The request without the studies, for people: `preset quick, --set train.epochs=4`."""
        options = [f"preset {self.preset}"]
        for key, value in self.overrides.items():
            options.append(f"--set {key}={value}")
        if self.seeds is not None:
            options.append(f"--seeds {self.seeds}")
        if self.seed is not None:
            options.append(f"--seed {self.seed}")
        if self.canary:
            options.append("--canary")
        if self.tuned:
            options.append("--tuned")
        return ", ".join(options)

    def of_study(self, study: str) -> set[str]:
        """Return the nodes that a study needs, with the trainings that its evaluations rest on."""
        fingerprints: set[str] = set()
        for cell in self.cells:
            if cell.study == study:
                fingerprints.update(self._needed_by(cell))
        return fingerprints

    def _needed_by(self, cell: Cell) -> list[str]:
        """Return the node that measures a cell, and of an evaluation the training whose checkpoint it measures."""
        node = self.nodes.get(cell.fingerprint)
        if node is None or not node.trial:
            return [cell.fingerprint]
        return [cell.fingerprint, node.trial]

    def serves(self, fingerprint: str) -> list[str]:
        """Return `study/variant` of all rows that a node measures, itself or through nodes that rest on it."""
        return self._serves.get(fingerprint, [])

    @cached_property
    def _serves(self) -> dict[str, list[str]]:
        variants: dict[str, list[str]] = {}
        for cell in self.cells:
            for fingerprint in self._needed_by(cell):
                names = variants.setdefault(fingerprint, [])
                if f"{cell.study}/{cell.key}" not in names:
                    names.append(f"{cell.study}/{cell.key}")
        return variants

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON, for `from_json`."""
        cells = [[cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint] for cell in self.cells]
        # A list, as JSON files here are sorted by key, and the order is that in which a person reads them.
        nodes = [[key, node.kind, node.title, node.trial] for key, node in self.nodes.items()]
        content = {**{name: getattr(self, name) for name in _SCALE}, "cells": cells, "nodes": nodes}
        if self.tuned:
            # The digest of a plan without tuning stays that of earlier versions, which had no such entry.
            content["tuned"] = True
        if self.rows:
            content["rows"] = {study: list(keys) for study, keys in self.rows.items()}
        if self.seed is not None:
            content["seed"] = self.seed
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the plan that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: If `content` is something else.
        """
        cells = tuple(Cell(*cell) for cell in content["cells"])
        nodes = {key: PlannedNode(*fields) for key, *fields in content["nodes"]}
        scale = {name: content[name] for name in _SCALE}
        rows = {study: tuple(keys) for study, keys in content.get("rows", {}).items()}
        tuned, seed = bool(content.get("tuned", False)), content.get("seed")
        return cls(**scale, cells=cells, nodes=nodes, tuned=tuned, rows=rows, seed=seed)


# The fields that a file has as they are; nodes and cells have a form of their own there.
_SCALE = ("preset", "overrides", "seeds", "canary", "spec_version")


@dataclass(frozen=True)
class LaunchRecord:
    """A launch: its plan, process and commit, and its policy of retries.

    Attributes:
        launch: Its name, which is in the attempts that it makes.
        plan: The digest of its plan.
        began: Seconds since the epoch, by the clock of its machine.
        ended: Likewise; `None` if it goes on or was killed.
        retries: The most times that a node is tried again.
        wait_seconds: The wait before the first of these.
    """

    launch: str
    plan: Name
    began: Seconds = 0.0
    ended: Seconds | None = None
    process: Process = field(default_factory=Process)
    commit: Commit = _UNKNOWN
    retries: Annotated[int, Field(ge=0, le=1000)] = 0
    wait_seconds: Seconds = 0.0

    @property
    def is_alive(self) -> bool:
        """True if it goes on, as far as can be known of a launch on another machine."""
        return self.ended is None and not self.process.is_dead

    @property
    def policy(self) -> FailurePolicy:
        """The policy by which it tries nodes again."""
        return FailurePolicy(retries=self.retries, wait_seconds=self.wait_seconds)


@dataclass(frozen=True)
class Turn:
    """The position of a launch in the order in which launches of its folder began.

    Attributes:
        number: Launches that began later have higher numbers; infinite if nothing is known.
        is_exact: True if the number is its own. Otherwise it is known only that the launch had begun by then, so it
            may be older than launches with lower numbers.
    """

    number: float = math.inf
    is_exact: bool = False


class History:
    """The launches and plans of a runs folder. Files that cannot be read are left out, and `damages` names them."""

    def __init__(self, runs_dir: Path) -> None:
        self._folder = RunsFolder(runs_dir)
        self._plans: dict[str, PlanRecord | None] = {}

    def begin(self, plan: Plan, launch: str, commit: Commit, policy: FailurePolicy) -> LaunchRecord:
        """Record that a launch of this process begins to carry out a plan.

        Raises:
            OutputError: If the folder cannot be written.
        """
        plan_record = PlanRecord.of(plan)
        plan_content = plan_record.as_json()
        plan_digest = digest(plan_content)[:_DIGITS]
        record = LaunchRecord(
            launch,
            plan_digest,
            began=time.time(),
            process=Process.current(),
            commit=commit,
            retries=policy.retries,
            wait_seconds=policy.wait_seconds,
        )
        with self.exclusively():
            self._make(self._folder.plans)
            self._make(self._folder.launches)
            # The comparison also replaces a damaged file of this name.
            if self._read_plan(plan_digest) != plan_record:
                write_json(self._plan_file(plan_digest), plan_content)
            self._take_turn(launch)
            # Last, so that no record of a launch names a plan or a turn that is not there.
            self._write(record)
        return record

    def _take_turn(self, launch: str) -> None:
        """Record that a launch begins after all launches that have begun before.

        Launches without a number, which earlier versions have left, are recorded as begun before now.
        """
        turns = self._read_turns()
        recorded = {path.stem for path in self._folder.launches.glob("*.json")}
        unnumbered = sorted(recorded - turns.keys() - {launch})
        if unnumbered:
            # One entry for all of them: their order among each other is not known.
            self._append_to_order({"launches": unnumbered, "exact": False})
        self._append_to_order({"launches": [launch], "exact": True})

    def _append_to_order(self, entry: Mapping[str, Any]) -> None:
        folder = self._folder.launch_order
        folder.mkdir(exist_ok=True)
        number = max(_numbers(folder), default=0) + 1
        # The lock does not hold on every network file system; the creation of a file does.
        while not write_json_once(folder / f"{number:06d}.json", entry):
            number += 1

    def _read_turns(self) -> dict[str, Turn]:
        """Return the recorded turns of launches, by name."""
        turns: dict[str, Turn] = {}
        for number in sorted(_numbers(self._folder.launch_order)):
            entry = _ORDER_FILE.find(self._folder.launch_order / f"{number:06d}.json")
            if entry is None:
                continue
            for launch in entry["launches"]:
                # The first entry counts: by then the launch had begun.
                turns.setdefault(launch, Turn(number, entry["exact"]))
        return turns

    @contextmanager
    def recording(
        self,
        plan: Plan,
        launch: str,
        commit: Commit,
        policy: FailurePolicy,
        patient: Callable[[Callable[[], LaunchRecord]], LaunchRecord] = lambda write: write(),
    ) -> Iterator[None]:
        """Record that a launch of this process begins, and at the end of the block that it has ended.

        Args:
            plan, launch, commit, policy: See `begin`.
            patient: Calls what writes, again if need be; see `runners.state.failures.patiently`.

        Raises:
            OutputError: If the folder cannot be written at its beginning.
        """
        record = patient(partial(self.begin, plan, launch, commit, policy))
        try:
            yield
        finally:
            # Without this record the launch counts as ended when its process is gone.
            with suppress(OutputError):
                self._write(replace(record, ended=time.time()))

    def exclusively(self) -> AbstractContextManager[None]:
        """Return a context in which no launch begins.

        Raises:
            OutputError: If the folder cannot be written.
        """
        # The lock is a file in that folder, which is not there before the first launch.
        self._make(self._folder.root)
        return exclusively(self._folder.launches_lock)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder.root}: {error.strerror or error}.", error.errno) from None

    def _write(self, record: LaunchRecord) -> None:
        write_json(self._folder.launches / f"{record.launch}.json", asdict(record))

    def _plan_file(self, plan_digest: str) -> Path:
        return self._folder.plans / f"{plan_digest}.json"

    def _read_plan(self, plan_digest: str) -> PlanRecord | None:
        content = _PLAN.find(self._plan_file(plan_digest))
        if content is None:
            return None
        return PlanRecord.from_json(content)

    @cached_property
    def launches(self) -> Sequence[LaunchRecord]:
        """All launches, the last one first. Those whose order is not known are ordered by their clocks."""
        contents = map(_LAUNCH.find, self._folder.launches.glob(_FILES))
        records = [record for record in contents if record is not None]
        # The name decides between equal times: the order must be the same at each look.
        return sorted(records, key=lambda record: (self.turn(record).number, record.began, record.launch), reverse=True)

    def turn(self, record: LaunchRecord) -> Turn:
        """Return the turn of a launch among the others."""
        # A launch that is not in the order sorts as the newest: its number is infinite.
        return self._turns.get(record.launch, Turn())

    @cached_property
    def _turns(self) -> dict[str, Turn]:
        return self._read_turns()

    def damages(self) -> list[Damage]:
        """Return the files of launches and plans that cannot be read."""
        damages = _LAUNCH.damages(sorted(self._folder.launches.glob(_FILES)))
        damages += _PLAN.damages(sorted(self._folder.plans.glob(_FILES)))
        damages += _ORDER_FILE.damages(sorted(self._folder.launch_order.glob(_FILES)))
        return damages

    def launch(self, name: str) -> LaunchRecord | None:
        """Return the launch of this name, or `None`."""
        for record in self.launches:
            if record.launch == name:
                return record
        return None

    def plan(self, record: LaunchRecord) -> PlanRecord | None:
        """Return the plan of a launch, or `None` if it cannot be read."""
        if record.plan not in self._plans:
            self._plans[record.plan] = self._read_plan(record.plan)
        return self._plans[record.plan]

    def plans(self) -> Iterator[tuple[LaunchRecord, PlanRecord]]:
        """Yield each plan once, with its last launch, the last one first."""
        seen: set[str] = set()
        for record in self.launches:
            # The first record of a plan is its last launch, as the last launch comes first.
            if record.plan in seen:
                continue
            seen.add(record.plan)
            plan = self.plan(record)
            if plan is not None:
                yield record, plan

    def serves(self, fingerprint: str) -> list[str]:
        """Return `study/variant` of all rows that ever needed a node, those of the last plan first."""
        rows: dict[str, None] = {}
        for _, plan in self.plans():
            rows.update(dict.fromkeys(plan.serves(fingerprint)))
        return list(rows)


class _PlanFile(TypedDict):
    """A file of `plans/`; see `PlanRecord`."""

    preset: str
    overrides: dict[str, Any]
    seeds: Count | None
    canary: bool
    spec_version: Count
    tuned: NotRequired[bool]
    rows: NotRequired[dict[str, list[str]]]
    seed: NotRequired[Count]
    cells: list[tuple[str, str, str, Count, Name]]
    nodes: list[tuple[Name, str, str, Annotated[str, Field(pattern=r"^[\w.-]{0,128}$")]]]


class _OrderFile(TypedDict):
    """A file of `launches/order/`: launches that had begun by then, or began exactly then."""

    launches: list[str]
    exact: bool


def _numbers(folder: Path) -> list[int]:
    # Six digits or more, as `_append_to_order` writes them.
    return [int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal() and len(path.stem) >= 6]


_LAUNCH: FileKind[LaunchRecord] = FileKind(LaunchRecord)
_PLAN: FileKind[dict[str, Any]] = FileKind(_PlanFile)
_ORDER_FILE: FileKind[_OrderFile] = FileKind(_OrderFile)
