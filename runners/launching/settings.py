"""Holds the options of a launch as one object, which the command line makes and a launch and its session read."""

from __future__ import annotations

from dataclasses import dataclass, field

from runners.dispatch import DispatchSettings
from runners.state.attempts import LEASE_SECONDS
from runners.state.failures import FailurePolicy


@dataclass(frozen=True)
class LaunchSettings:
    """The options of a launch; none of them changes a result.

    Attributes:
        dispatch: Where tasks are carried out, on which device and with how many threads.
        plugins: Modules that workers import first.
        policy: The failures after which a node is tried again.
        again: Whether nodes are tried again, too, that failed for a lasting reason.
        fail_fast: Whether the first final failure ends the launch.
        lease_seconds: The time after which the lease of a silent worker ends.
    """

    dispatch: DispatchSettings = field(default_factory=DispatchSettings)
    plugins: tuple[str, ...] = ()
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    again: bool = False
    fail_fast: bool = False
    lease_seconds: float = LEASE_SECONDS
