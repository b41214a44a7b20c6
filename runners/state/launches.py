"""What was ever asked for in a runs folder: each launch, and the plan that it carried out. No torch and no mlflow here.

`plans/<digest>.json` says which cells of which studies a plan has and which nodes measure them; launches of the same
plan share it. `launches/<launch>.json` says who carried it out, when and with which code. Both are kept: a study file
that is edited or gone would not tell any more what was measured for it.

`launches/order/<number>.json` says in which order launches began. Each launch creates the file of its number, which one
process alone can do, so the order does not rest on clocks. Clocks are for people to read.
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
from ablations.planning.nodes import EvaluationNode
from ablations.planning.plan import Cell, Plan
from ablations.spec.fingerprint import digest
from ablations.spec.parts import SPEC_VERSION
from runners.processes import Process
from runners.provenance import Commit
from runners.state.failures import FailurePolicy
from runners.state.files import exclusively, write_json, write_json_once
from runners.state.schemas import Count, Damage, Kind, Name, Seconds

_PLANS, _LAUNCHES, _LOCK = "plans", "launches", "launches.lock"
_ORDER = "order"
_DIGITS = 32
_UNKNOWN = Commit("unknown", dirty=False)


@dataclass(frozen=True)
class Part:
    """A node of a plan, as far as a table of nodes needs it.

    Attributes:
        kind: `trial`, `evaluation` or `cost`.
        title: A name that a person can read.
        trial: The training whose checkpoint an evaluation measures; empty for others.
    """

    kind: str
    title: str
    trial: str = ""


@dataclass(frozen=True)
class AskedPlan:
    """A plan as data: what was asked for, which cells that makes and which nodes measure them.

    Attributes:
        preset: Its name.
        overrides: What `--set` has changed.
        seeds: Repeats per variant if they were asked for.
        canary: Whether references were trained again.
        spec_version: Of the code that made the plan.
        cells: Canaries are among them.
        nodes: Per fingerprint.
        tuned: Whether variants were trained with what they had been tuned to.
    """

    preset: str
    overrides: Mapping[str, Any]
    seeds: int | None
    canary: bool
    spec_version: int
    cells: tuple[Cell, ...]
    nodes: Mapping[str, Part]
    tuned: bool = False

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Returns a plan as data."""
        request = plan.request
        nodes = {
            node.fingerprint: Part(
                node.kind, node.title, node.trial.fingerprint if isinstance(node, EvaluationNode) else ""
            )
            for node in plan.nodes
        }
        cells = (*plan.cells, *plan.canaries)
        scale = (request.preset.name, dict(request.overrides), request.seeds, request.canary)
        return cls(*scale, SPEC_VERSION, cells=cells, nodes=nodes, tuned=request.tuned is not None)

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies, in the order of their cells."""
        return tuple(dict.fromkeys(cell.study for cell in self.cells))

    @property
    def scale(self) -> str:
        """What was asked for beside the studies, for people: `preset quick, --set train.epochs=4`."""
        words = [f"preset {self.preset}", *(f"--set {key}={value}" for key, value in self.overrides.items())]
        words += [f"--seeds {self.seeds}"] if self.seeds is not None else []
        words += ["--canary"] if self.canary else []
        return ", ".join(words + (["--tuned"] if self.tuned else []))

    def of_study(self, study: str) -> set[str]:
        """Returns the nodes that a study needs, the trainings that its evaluations rest on among them."""
        measured = {cell.fingerprint for cell in self.cells if cell.study == study}
        return measured | {part.trial for key, part in self.nodes.items() if key in measured and part.trial}

    def serves(self, fingerprint: str) -> list[str]:
        """Returns `study/variant` of all that a node measures, and of what rests on it."""
        return self._serves.get(fingerprint, [])

    @cached_property
    def _serves(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for cell in self.cells:
            part = self.nodes.get(cell.fingerprint)
            for fingerprint in (cell.fingerprint, part.trial if part is not None else ""):
                names = found.setdefault(fingerprint, [])
                if f"{cell.study}/{cell.key}" not in names:
                    names.append(f"{cell.study}/{cell.key}")
        return found

    def as_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes."""
        cells = [[cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint] for cell in self.cells]
        # A list, as JSON files here are sorted by key, and the order is that in which a person reads them.
        nodes = [[key, part.kind, part.title, part.trial] for key, part in self.nodes.items()]
        tuned = {"tuned": True} if self.tuned else {}
        return {**{name: getattr(self, name) for name in _SCALE}, **tuned, "cells": cells, "nodes": nodes}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Returns the plan that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: If it is another text.
        """
        cells = tuple(Cell(*cell) for cell in found["cells"])
        nodes = {key: Part(*part) for key, *part in found["nodes"]}
        scale = {name: found[name] for name in _SCALE}
        return cls(**scale, cells=cells, nodes=nodes, tuned=bool(found.get("tuned", False)))


_SCALE = ("preset", "overrides", "seeds", "canary", "spec_version")


@dataclass(frozen=True)
class LaunchRecord:
    """A launch: who carries out which plan, with which code, and what is tried again meanwhile.

    Attributes:
        launch: Its name, which is in the attempts that it makes.
        plan: The digest of its plan.
        began: When, in seconds since the epoch by the clock of its machine.
        ended: When, or `None` if it goes on or was killed.
        process: The launcher.
        commit: The code's commit.
        retries: How often a node is tried again.
        wait_seconds: Before the first of these.
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
        """Whether it goes on, as far as can be known of a launch on another machine."""
        return self.ended is None and not self.process.is_dead

    @property
    def policy(self) -> FailurePolicy:
        """What it tries again."""
        return FailurePolicy(retries=self.retries, wait_seconds=self.wait_seconds)


@dataclass(frozen=True)
class Turn:
    """When a launch began, in relation to others of its folder.

    Attributes:
        number: Launches that began later have higher numbers; infinite if nothing is known.
        is_exact: Whether the number is its own. Otherwise it is known only that the launch had begun by then, so it
            may be older than launches with lower numbers.
    """

    number: float = math.inf
    is_exact: bool = False


class History:
    """The launches and plans of a runs folder. What cannot be read is left out, and named by `damages`.

    Args:
        runs_dir: The folder.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._plans: dict[str, AskedPlan | None] = {}

    def begin(self, plan: Plan, launch: str, commit: Commit, policy: FailurePolicy) -> LaunchRecord:
        """Writes down that a launch of this process begins to carry out a plan.

        Raises:
            OutputError: If the folder cannot be written.
        """
        asked = AskedPlan.of(plan).as_json()
        named = digest(asked)[:_DIGITS]
        record = LaunchRecord(launch, named, time.time(), None, Process.current(), commit)
        record = replace(record, retries=policy.retries, wait_seconds=policy.wait_seconds)
        with self.exclusively():
            self._make(_PLANS)
            self._make(_LAUNCHES)
            if _plan(_PLAN.find(self._plan_file(named))) != AskedPlan.of(plan):
                write_json(self._plan_file(named), asked)
            self._take_turn(launch)
            self._write(record)
        return record

    def _take_turn(self, launch: str) -> None:
        """Writes down that a launch begins after all that have begun before.

        Of launches without a number, which earlier versions have left, it is written down that they began before now.
        """
        turns = self._read_turns()
        recorded = {path.stem for path in (self._runs_dir / _LAUNCHES).glob("*.json")}
        unnumbered = sorted(recorded - turns.keys() - {launch})
        if unnumbered:
            self._append_to_order({"launches": unnumbered, "exact": False})
        self._append_to_order({"launches": [launch], "exact": True})

    def _append_to_order(self, entry: Mapping[str, Any]) -> None:
        folder = self._runs_dir / _LAUNCHES / _ORDER
        folder.mkdir(exist_ok=True)
        number = max(_numbers(folder), default=0) + 1
        # The lock does not hold on every network file system; the creation of a file does.
        while not write_json_once(folder / f"{number:06d}.json", entry):
            number += 1

    def _read_turns(self) -> dict[str, Turn]:
        """Returns when launches began, by name, as far as that is written down."""
        folder = self._runs_dir / _LAUNCHES / _ORDER
        turns: dict[str, Turn] = {}
        for number in sorted(_numbers(folder)):
            entry = _ORDER_FILE.find(folder / f"{number:06d}.json")
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
        """Writes down that a launch of this process begins, and at the end of the block that it has ended.

        Args:
            plan: What it carries out.
            launch: Its name.
            commit: The code's commit.
            policy: What it tries again.
            patient: Calls what writes, again if need be; see `runners.state.failures.patiently`.

        Raises:
            OutputError: If the folder cannot be written at its beginning.
        """
        record = patient(partial(self.begin, plan, launch, commit, policy))
        try:
            yield
        finally:
            # Without it the launch is known to have ended when its process is gone.
            with suppress(OutputError):
                self._write(replace(record, ended=time.time()))

    def exclusively(self) -> AbstractContextManager[None]:
        """Returns a context in which no launch begins.

        Raises:
            OutputError: If the folder cannot be written.
        """
        self._make("")
        return exclusively(self._runs_dir / _LOCK)

    def _make(self, name: str) -> None:
        try:
            (self._runs_dir / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self._runs_dir}: {error.strerror or error}.", error.errno) from None

    def _write(self, record: LaunchRecord) -> None:
        write_json(self._runs_dir / _LAUNCHES / f"{record.launch}.json", asdict(record))

    def _plan_file(self, named: str) -> Path:
        return self._runs_dir / _PLANS / f"{named}.json"

    @cached_property
    def launches(self) -> Sequence[LaunchRecord]:
        """All launches, the last one first. Those whose order is not known are ordered by their clocks."""
        read = (_LAUNCH.find(path) for path in (self._runs_dir / _LAUNCHES).glob("[!.]*.json"))
        found = [record for record in read if record is not None]
        return sorted(found, key=lambda record: (self.turn(record).number, record.began, record.launch), reverse=True)

    def turn(self, record: LaunchRecord) -> Turn:
        """Returns when a launch began in relation to others."""
        return self._turns.get(record.launch, Turn())

    @cached_property
    def _turns(self) -> dict[str, Turn]:
        return self._read_turns()

    def damages(self) -> list[Damage]:
        """Returns which files of launches and plans cannot be read."""
        found = [_LAUNCH.damage(path) for path in sorted((self._runs_dir / _LAUNCHES).glob("[!.]*.json"))]
        found += [_PLAN.damage(path) for path in sorted((self._runs_dir / _PLANS).glob("[!.]*.json"))]
        orders = self._runs_dir / _LAUNCHES / _ORDER
        found += [_ORDER_FILE.damage(path) for path in sorted(orders.glob("[!.]*.json"))]
        return [damage for damage in found if damage is not None]

    def launch(self, name: str) -> LaunchRecord | None:
        """Returns the launch that is called so, or `None`."""
        return next((record for record in self.launches if record.launch == name), None)

    def plan(self, record: LaunchRecord) -> AskedPlan | None:
        """Returns the plan of a launch, or `None` if it cannot be read."""
        if record.plan not in self._plans:
            self._plans[record.plan] = _plan(_PLAN.find(self._plan_file(record.plan)))
        return self._plans[record.plan]

    def plans(self) -> Iterator[tuple[LaunchRecord, AskedPlan]]:
        """Yields each plan once, with its last launch, the last one first."""
        seen: set[str] = set()
        for record in self.launches:
            asked = self.plan(record) if record.plan not in seen else None
            seen.add(record.plan)
            if asked is not None:
                yield record, asked

    def serves(self, fingerprint: str) -> list[str]:
        """Returns `study/variant` of all that a node was ever asked for, the last one first."""
        return list(dict.fromkeys(name for _, asked in self.plans() for name in asked.serves(fingerprint)))


class _PlanFile(TypedDict):
    """A file of `plans/`; see `AskedPlan`."""

    preset: str
    overrides: dict[str, Any]
    seeds: Count | None
    canary: bool
    spec_version: Count
    tuned: NotRequired[bool]
    cells: list[tuple[str, str, str, Count, Name]]
    nodes: list[tuple[Name, str, str, Annotated[str, Field(pattern=r"^[\w.-]{0,128}$")]]]


class _OrderFile(TypedDict):
    """A file of `launches/order/`: launches that had begun by then, and whether exactly then."""

    launches: list[str]
    exact: bool


def _numbers(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal() and len(path.stem) >= 6]


_LAUNCH: Kind[LaunchRecord] = Kind(LaunchRecord)
_PLAN: Kind[dict[str, Any]] = Kind(_PlanFile)
_ORDER_FILE: Kind[_OrderFile] = Kind(_OrderFile)


def _plan(content: Mapping[str, Any] | None) -> AskedPlan | None:
    return AskedPlan.from_json(content) if content is not None else None
