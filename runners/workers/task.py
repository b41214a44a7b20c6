"""This module defines the task that a dispatcher carries to a worker: a node, its state folder, and its resources."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from runners.state.attempts import LEASE_SECONDS


@dataclass(frozen=True)
class Task:
    """One node to be run.

    Attributes:
        state_root: Folder of the state folders.
        fingerprint: The node.
        device: `cpu`, `cuda`, `cuda:1` or `auto`.
        plugins: Modules to import first.
        launch: The launch that the lease is for.
        lease_seconds: The time that the lease outlives the worker.
        watched: Token of an attempt by another launch that was seen to stand still, so that it may be taken over.
        attempt: The attempt under way, 0 before there is one.
        gpus: Numbers of the GPUs that it trains on, if there are several; none means the first ones.
        code_root: Folder of the launcher's code; empty means that any code may run it.
        code_digest: Digest of the launcher's code.
    """

    state_root: Path
    fingerprint: str
    device: str = "auto"
    threads: int = 1
    plugins: tuple[str, ...] = ()
    checkpoint_seconds: float = 60.0
    launch: str = ""
    lease_seconds: float = LEASE_SECONDS
    watched: str = ""
    attempt: int = 0
    devices: int = 1
    gpus: tuple[int, ...] = ()
    code_root: str = ""
    code_digest: str = ""

    def as_arguments(self) -> list[str]:
        """Return the task as arguments of a command."""
        # One argument of JSON, so that no shell or scheduler takes the values apart.
        return [json.dumps({**asdict(self), "state_root": str(self.state_root)})]

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> Task:
        """Return the task that `as_arguments` wrote."""
        values = json.loads(arguments[0])
        # JSON has neither paths nor tuples.
        values["state_root"] = Path(values["state_root"])
        values["plugins"], values["gpus"] = tuple(values["plugins"]), tuple(values["gpus"])
        return cls(**values)
