"""Says after Ctrl-C what is kept of a command and how to go on; a launch says more, once it has begun."""

from __future__ import annotations

from functools import wraps
from typing import Any

import click

from ablations.invocation import resuming_command
from runners import interrupts

_NOTHING_BEGUN = "Nothing of it was begun, and earlier results are kept."
_WHOLE_FILES = "What was measured is kept, and each file of a report is written as a whole or not at all."
_ENDS = {
    "run": _NOTHING_BEGUN,
    "retry": _NOTHING_BEGUN,
    "tune": _NOTHING_BEGUN,
    "search": _NOTHING_BEGUN,
    "plan": "Nothing is trained by it, and times that were taken are kept.",
    "report": _WHOLE_FILES,
    "bundle": _WHOLE_FILES,
    "sync": "What was brought over stays and is not written twice.",
    "gc": "What was removed stays removed, and the rest is as it was.",
}
"""The verbs that a user takes up again, and what is kept of each."""

_READING = ("list", "status", "explain", "results", "verify", "compare", "schema")


def with_farewell(verb: str, command: click.Command) -> click.Command:
    """Let a verb say after Ctrl-C what is kept."""
    if verb not in _ENDS and verb not in _READING:
        return command
    carry_out = command.callback
    assert carry_out is not None, "a verb does something"

    @wraps(carry_out)
    def carry_out_with_farewell(*arguments: Any, **values: Any) -> Any:
        lines = ["Interrupted. Nothing was changed."]
        if verb in _ENDS:
            # Composed now: the farewell may be printed by another thread, where click has no context.
            lines = [f"Interrupted. {_ENDS[verb]}", f"The same command goes on: {resuming_command()}"]
        interrupts.set_farewell(lambda: lines)
        return carry_out(*arguments, **values)

    command.callback = carry_out_with_farewell
    return command
