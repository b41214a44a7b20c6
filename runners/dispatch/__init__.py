"""This package carries tasks to workers: one interface, and one implementation per kind of place.

The implementations have the names of `--dispatch`. They are imported when asked for, as some need an optional package.
No dispatcher knows studies or reads results.
"""

from __future__ import annotations

from runners.dispatch.base import Completion, Dispatcher
from runners.dispatch.settings import DISPATCHERS, DispatchSettings

__all__ = ["DISPATCHERS", "Completion", "DispatchSettings", "Dispatcher", "make_dispatcher", "prepare_workers"]


def prepare_workers(settings: DispatchSettings) -> None:
    """Let workers of this machine import their modules while a launch is still being planned."""
    if settings.name == "processes":
        from runners.dispatch.processes import start_server

        start_server(settings.threads)


def make_dispatcher(settings: DispatchSettings) -> Dispatcher:
    """Return the dispatcher that the settings describe, with nothing started yet."""
    if settings.name == "inline":
        from runners.dispatch.inline import InlineDispatcher

        return InlineDispatcher(settings)
    if settings.name == "ray":
        from runners.dispatch.ray import RayDispatcher

        return RayDispatcher(settings)
    if settings.name == "slurm":
        from runners.dispatch.slurm.dispatcher import SlurmDispatcher

        return SlurmDispatcher(settings)
    from runners.dispatch.processes import ProcessDispatcher

    return ProcessDispatcher(settings)
