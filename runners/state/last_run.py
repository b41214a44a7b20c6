"""This module keeps `last_run.json`: the request of the last `run` in a runs folder, and its launch's duration.

A `retry` that names no studies reads the request from there. No result depends on the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict

from ablations.errors import OutputError
from runners.state.files import write_json
from runners.state.layout import RunsFolder
from runners.state.schemas import Count, Damage, FileKind


class _LastRun(TypedDict):
    """`last_run.json`: the studies and options of the last `run`, and the duration of its launch."""

    # Later versions may write more fields; these are kept.
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    studies: NotRequired[list[str]]
    all_studies: NotRequired[bool]
    preset: NotRequired[str | None]
    overrides: NotRequired[list[str]]
    seeds: NotRequired[Count | None]
    seed: NotRequired[Count | None]
    canary: NotRequired[bool]
    tuned: NotRequired[bool]
    tuned_from: NotRequired[str | None]
    until_decided: NotRequired[bool]
    max_seeds: NotRequired[Count | None]
    seeds_by_study: NotRequired[dict[str, Count]]
    plugins: NotRequired[list[str]]
    launch: NotRequired[dict[str, Any]]


_FILE: FileKind[dict[str, Any]] = FileKind(_LastRun)


def remember_run(runs_dir: Path, studies: Sequence[str], options: Mapping[str, Any]) -> None:
    """Write down the request of a `run`, for a `retry` that names nothing."""
    write_json(RunsFolder(runs_dir).last_run, {"studies": list(studies), **options})


def remember_launch(runs_dir: Path, launch: Mapping[str, Any]) -> None:
    """Add to the request of the last `run` the estimate of its launch and, later, the time that it took.

    Skip it where nothing can be written: the launch and its results do not depend on it.
    """
    with suppress(OutputError):
        write_json(RunsFolder(runs_dir).last_run, {**last_run(runs_dir), "launch": dict(launch)})


def last_run(runs_dir: Path) -> dict[str, Any]:
    """Return the request of the last `run` in a folder; empty if there was none."""
    return _FILE.find(RunsFolder(runs_dir).last_run) or {}


def last_run_damage(runs_dir: Path) -> Damage | None:
    """Return the damage of `last_run.json`, or `None` if it can be read or is missing."""
    return _FILE.damage(RunsFolder(runs_dir).last_run)
