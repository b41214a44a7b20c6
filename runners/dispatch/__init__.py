"""Where work is carried out: one interface, one implementation per place. Names are those of `--dispatch`."""

from __future__ import annotations

from ablations.errors import UnknownNameError
from runners.dispatch.base import Completion, Dispatcher

DISPATCHERS = ("processes", "inline")

__all__ = ["DISPATCHERS", "Completion", "Dispatcher", "make_dispatcher"]


def make_dispatcher(name: str, workers: int, threads: int = 1) -> Dispatcher:
    """Returns the dispatcher called `name`.

    Raises:
        UnknownNameError: If there is none.
    """
    if name == "inline":
        from runners.dispatch.inline import InlineDispatcher

        return InlineDispatcher()
    if name == "processes":
        from runners.dispatch.processes import ProcessDispatcher

        return ProcessDispatcher(workers, threads)
    raise UnknownNameError("dispatcher", name, DISPATCHERS)
