"""This module freezes a plan: what will be run, which claims decide, and when it is stopped, in a dated, hashed file.

A frozen plan is written before the runs. `FrozenPlan.differences` says in which points another plan departs from it;
what only the results can tell (repeats that are missing, looks that were not planned) is for `reports.analysis`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from ablations.atomic import write_bytes
from ablations.errors import AblationError, OutputError, StudyError
from ablations.planning.plan import Cell, Plan
from ablations.planning.plan_data import Json, plan_of, request_data
from ablations.spec.fingerprint import SHORT, digest
from ablations.study import Study
from ablations.vocabulary import slug

FORMAT = 1
"""Version of the layout of the file."""

_DIGEST = "sha256"
_NAMED = 5
"""The most seeds or settings that one sentence names."""


# Files are validated against these types, but stay the data that was read: the digest is of their very content.
class _Claim(TypedDict):
    study: str
    claim: str
    statement: str
    metric: str
    size_of_interest: float


class _Stopping(TypedDict):
    rule: Literal["fixed", "until decided"]
    seeds: NotRequired[dict[str, int]]
    max_seeds: NotRequired[int]
    looks: NotRequired[dict[str, Annotated[list[int], Field(min_length=1)]]]


class _Named(TypedDict):
    name: str


class _Request(TypedDict):
    """What of the request is read without making the plan."""

    preset: str
    overrides: dict[str, Any]
    seeds: int | None
    canary: bool
    tuned: list[Any] | None
    studies: list[_Named]


class _Content(TypedDict):
    """The content of the file."""

    format: int
    frozen_at: str
    commit: str
    modified: bool
    named: list[str]
    request: _Request
    primary_claims: list[_Claim]
    stopping: _Stopping
    cells: list[tuple[str, str, str, int, str]]
    sha256: str


_CONTENT: TypeAdapter[_Content] = TypeAdapter(_Content)


@dataclass(frozen=True)
class FrozenPlan:
    """A plan as it was frozen.

    Attributes:
        content: All of the file, its digest included.
    """

    content: Json

    @classmethod
    def of(cls, plan: Plan, when: float, commit: str, *, modified: bool, named: Sequence[str] = ()) -> FrozenPlan:
        """Return a plan, frozen.

        Args:
            when: Seconds since 1970.
            commit: The commit of the code at hand.
            modified: Whether tracked files differ from it.
            named: The studies as they were named on the command line; a file is named by its path.
        """
        request = plan.request
        seeds = {study.name: request.seeds_of(study) for study in plan.studies}
        stopping: Json = {"rule": "fixed", "seeds": seeds}
        if request.stopping is not None:
            # A study without a primary claim has no looks by the rule: it is looked at once, with all of its seeds.
            looks = {study.name: list(request.looks_of(study) or (seeds[study.name],)) for study in plan.studies}
            stopping = {"rule": "until decided", "max_seeds": request.stopping.max_seeds, "looks": looks}
        content: Json = {
            "format": FORMAT,
            # In whole seconds and UTC, so that the text does not depend on the zone of the machine.
            "frozen_at": datetime.datetime.fromtimestamp(int(when), tz=datetime.UTC).isoformat(),
            "commit": commit,
            "modified": modified,
            # A study file is found again by its path alone, which the name of the study does not tell.
            "named": list(named) or [study.name for study in plan.studies],
            "request": request_data(plan),
            "primary_claims": _primary_claims(plan.studies),
            "stopping": stopping,
            # Fingerprints pin every setting, seed and data digest, so that a later change of the code's defaults shows.
            "cells": [[cell.study, cell.network, cell.variant, cell.seed, cell.fingerprint] for cell in plan.cells],
        }
        return cls({**content, _DIGEST: digest(content)})

    @property
    def digest(self) -> str:
        """The SHA-256 of its content, as the file says."""
        return str(self.content[_DIGEST])

    @property
    def is_intact(self) -> bool:
        """True if its digest is that of its content; otherwise it was edited after it was frozen."""
        content = dict(self.content)
        # A digest cannot be part of what it is a digest of.
        del content[_DIGEST]
        return self.digest == digest(content)

    @property
    def frozen_at(self) -> float:
        """The time when it was frozen, in seconds since 1970, by the clock of the machine."""
        return datetime.datetime.fromisoformat(self.content["frozen_at"]).timestamp()

    @property
    def when(self) -> str:
        """That time for people: `2026-11-30 20:15 UTC`."""
        return f"{datetime.datetime.fromtimestamp(self.frozen_at, tz=datetime.UTC):%Y-%m-%d %H:%M} UTC"

    @property
    def commit(self) -> str:
        """The commit of the code that it was frozen with."""
        return str(self.content["commit"])

    @cached_property
    def plan(self) -> Plan:
        """The plan, made anew by the code at hand.

        Raises:
            AblationError: If it names something that is not known here.
        """
        return plan_of(self.content["request"], "the frozen plan")

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of its studies."""
        return tuple(str(study["name"]) for study in self.content["request"]["studies"])

    @property
    def seeds(self) -> dict[str, int]:
        """The planned seeds by study; the most of them where seeds are added until claims are decided."""
        stopping = self.content["stopping"]
        if "looks" in stopping:
            # The last look is the most that may be trained, so that any seed beyond it was added.
            return {study: max(looks) for study, looks in stopping["looks"].items()}
        return dict(stopping["seeds"])

    def looks_of(self, study: str) -> tuple[int, ...]:
        """Return the numbers of seeds at which a study was to be looked at: all of its seeds, or those of the rule."""
        stopping = self.content["stopping"]
        if "looks" in stopping:
            return tuple(stopping["looks"].get(study, ()))
        return (self.seeds[study],) if study in self.seeds else ()

    @property
    def adds_seeds(self) -> bool:
        """True if seeds are added until the primary claims are decided."""
        return "looks" in self.content["stopping"]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The planned cells of its studies' tables; where seeds are added, those of the first look."""
        return tuple(Cell(*cell) for cell in self.content["cells"])

    def concerns(self, plan: Plan) -> bool:
        """Return True if it is about some study of a plan, at the same preset and on the same data set."""
        request = self.content["request"]
        # One common study is enough: a report on a part of the plan must say that the rest was left out.
        same_studies = set(self.studies) & {study.name for study in plan.studies}
        if not same_studies or request["preset"] != plan.request.preset.name:
            return False
        # A plan that cannot be made here is shown rather than passed over.
        try:
            return self.plan.request.data_name == plan.request.data_name
        except AblationError:
            return True

    def differences(self, plan: Plan) -> tuple[str, ...]:
        """Return the points in which a plan departs from the frozen one, a sentence each; none if it is as planned."""
        sentences: list[str] = []
        if not self.is_intact:
            sentences.append(
                "The frozen plan was edited after it was frozen: its SHA-256 is not that of its content, so nothing "
                "shows what was planned."
            )
        sentences += self._of_request(plan)
        sentences += self._of_studies(plan)
        sentences += self._of_seeds(plan)
        sentences += self._of_cells(plan)
        return tuple(sentences)

    def _of_request(self, plan: Plan) -> Iterator[str]:
        frozen, current = self.content["request"], request_data(plan)
        # Seeds have sentences of their own, which say which ones were dropped or added.
        for key in ("overrides", "canary", "tuned", "seed"):
            if frozen.get(key) != current.get(key):
                yield f"The request was changed after freezing: {_change(key, frozen.get(key), current.get(key))}."
        frozen_rule, rule = frozen.get("stopping"), current.get("stopping")
        if frozen_rule != rule:
            yield f"The stopping rule was changed after freezing: {_change('rule', frozen_rule, rule)}."

    def _of_studies(self, plan: Plan) -> Iterator[str]:
        frozen = {study["name"]: study for study in self.content["request"]["studies"]}
        current = {study["name"]: study for study in request_data(plan)["studies"]}
        for name in frozen:
            if name not in current:
                yield f"Study {name} was planned and is not reported here."
        for name in current:
            if name not in frozen:
                yield f"Study {name} is not part of the frozen plan: its results are exploratory."
            elif frozen[name] != current[name]:
                changes = list(_changes(frozen[name], current[name]))
                yield f"Study {name} was changed after freezing: {_listed(changes)}."
            else:
                yield from self._of_rows(name, plan)

    def _of_rows(self, study: str, plan: Plan) -> Iterator[str]:
        """Yield a sentence each on planned rows that were not asked for, and on rows beyond the planned ones."""
        planned = dict.fromkeys(cell.key for cell in self.cells if cell.study == study)
        asked = dict.fromkeys(cell.key for cell in plan.cells_of(study))
        rows, frozen_rows = request_data(plan).get("rows", {}), self.content["request"].get("rows", {})
        # Rows that came or went with an override are told as its change.
        if rows.get(study) == frozen_rows.get(study):
            return
        dropped = [key for key in planned if key not in asked]
        added = [key for key in asked if key not in planned]
        if dropped:
            yield f"Study {study}: planned rows were left out after freezing: {_listed(dropped)}."
        if added:
            yield f"Study {study}: rows that were not planned are exploratory: {_listed(added)}."

    def _of_seeds(self, plan: Plan) -> Iterator[str]:
        for study in plan.studies:
            planned, seeds = self.seeds.get(study.name), plan.request.seeds_of(study)
            if planned is None or planned == seeds:
                continue
            name = f"Study {study.name}: {planned} seeds were planned, {seeds} are reported"
            # A run that stopped at an earlier look has dropped nothing: the rule allows it to end there.
            if seeds < planned and not (self.adds_seeds and seeds in self.looks_of(study.name)):
                yield f"{name}; {_numbers(range(seeds, planned))} dropped."
            elif seeds > planned:
                yield f"{name}; {_numbers(range(planned, seeds))} added."

    def _of_cells(self, plan: Plan) -> Iterator[str]:
        fingerprints = {_place(cell): cell.fingerprint for cell in plan.cells}
        changed: dict[str, list[int]] = {}
        for cell in self.cells:
            fingerprint = fingerprints.get(_place(cell))
            # A cell that is not there at all is told as a dropped seed, a changed study or a missing repeat.
            if fingerprint is not None and fingerprint != cell.fingerprint:
                changed.setdefault(f"{cell.study}, {cell.key}", []).append(cell.seed)
        if changed:
            rows = _listed(list(changed))
            yield (
                f"Settings, data or plug-ins of {sum(map(len, changed.values()))} planned cells are not those that "
                f"were frozen: {rows}."
            )


def _place(cell: Cell) -> tuple[str, str, str, int]:
    return cell.study, cell.network, cell.variant, cell.seed


def _primary_claims(studies: Sequence[Study]) -> list[Json]:
    claims = []
    for study in studies:
        claim = study.primary_claim
        # Rows that a claim needs and that were not asked for leave it without a verdict: it decides nothing.
        is_asked = claim is not None and (study.before_rows is None or study.contrasts_of(claim))
        if claim is not None and is_asked:
            claims.append(
                {
                    "study": study.name,
                    "claim": claim.name,
                    "statement": claim.statement,
                    "metric": study.metric,
                    "size_of_interest": study.smallest_of_interest,
                }
            )
    return claims


def _changes(frozen: Any, current: Any, name: str = "") -> Iterator[str]:
    """Yield the differences of two values, each by the names on the way to it."""
    if isinstance(frozen, Mapping) and isinstance(current, Mapping):
        # In the order of the files and not of a set: sentences of a report must not change from process to process.
        # Sorted: the copy in a store lists its keys in another order than the file.
        for key in sorted({*frozen, *current}):
            if frozen.get(key) != current.get(key):
                yield from _changes(frozen.get(key), current.get(key), f"{name}.{key}" if name else str(key))
    # Lists of different lengths have no partners item by item, and are shown as a whole.
    elif isinstance(frozen, list) and isinstance(current, list) and len(frozen) == len(current):
        for number, (frozen_item, current_item) in enumerate(zip(frozen, current, strict=True), start=1):
            if frozen_item != current_item:
                yield from _changes(frozen_item, current_item, f"{name} {number}")
    else:
        yield _change(name, frozen, current)


def _change(name: str, frozen: Any, current: Any) -> str:
    return f"{name} was {_words(frozen)}, is {_words(current)}"


def _words(value: Any) -> str:
    if value is None:
        return "not set"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if len(text) > 60:
        return f"{text[:59]}…"
    return text


def _numbers(seeds: Sequence[int]) -> str:
    """Return consecutive seeds as `seed 2 was` or `seeds 2 to 4 were`."""
    if len(seeds) == 1:
        return f"seed {seeds[0]} was"
    return f"seeds {seeds[0]} to {seeds[-1]} were"


def _listed(items: Sequence[str]) -> str:
    listing = "; ".join(items[:_NAMED])
    if len(items) > _NAMED:
        listing += f"; and {len(items) - _NAMED} more"
    return listing


def write_frozen(frozen: FrozenPlan, folder: Path) -> Path:
    """Write a frozen plan into a folder, under a name of its studies, its date and its digest, and return the path.

    Raises:
        OutputError: If it cannot be written.
    """
    name = slug("--".join(frozen.studies))
    # Date first and digest last: files sort by time, and two plans of one second do not overwrite each other.
    date = datetime.datetime.fromtimestamp(frozen.frozen_at, tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    path = folder / f"{name}-{date}-{frozen.digest[:SHORT]}.json"
    # Indented for people and for diffs: the digest is of the canonical form, whatever the layout of the file.
    text = json.dumps(frozen.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode())
    except OSError as error:
        raise OutputError(f"cannot write the frozen plan {path}: {error.strerror or error}.", error.errno) from None
    return path


def read_frozen(path: Path) -> FrozenPlan:
    """Return the frozen plan in a file, edited or not (`FrozenPlan.is_intact`).

    Raises:
        StudyError: If it cannot be read, or is no frozen plan.
    """
    try:
        return frozen_from_data(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise StudyError(f"cannot read the frozen plan {path}: {error.strerror or error}.") from None
    # Deeply nested JSON from elsewhere exhausts the parser's stack before any schema sees it.
    except (ValueError, RecursionError, StudyError) as error:
        raise StudyError(f"{path} is no frozen plan: {error}. `plan --freeze` writes one.") from None


def frozen_from_data(content: Any) -> FrozenPlan:
    """Return the frozen plan of which this is the content.

    Raises:
        StudyError: If it is no frozen plan.
    """
    try:
        _CONTENT.validate_python(content)
        # As it was read: the digest is one of lists, and not of the tuples of the schema.
        frozen = FrozenPlan(dict(content))
        if content["format"] != FORMAT:
            raise StudyError(f"it has format {content['format']!r}, this version reads {FORMAT}")
        # What is computed from the content later is computed once here: a broken file is an error at the door.
        for study in frozen.studies:
            frozen.looks_of(study)
        datetime.datetime.fromisoformat(content["frozen_at"])
        digest(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        lines = str(error).splitlines()
        raise StudyError(f"it is not laid out like one ({type(error).__name__}: {' '.join(lines[:3])})") from None
    return frozen


def frozen_plans(folder: Path, plan: Plan) -> tuple[FrozenPlan, ...]:
    """Return the frozen plans in a folder that concern a plan, the oldest first; files that are none are left out."""
    frozen = []
    for path in sorted(folder.glob("*.json")):
        try:
            candidate = read_frozen(path)
        except StudyError:
            # The verbs that are given such a file say so; one that lies about must not stop a report.
            continue
        if candidate.concerns(plan):
            frozen.append(candidate)
    # By the time that they state and not by the names of files, which anyone can change.
    return tuple(sorted(frozen, key=lambda candidate: (candidate.frozen_at, candidate.digest)))
