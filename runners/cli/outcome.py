"""Says how a launch ended, and picks the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.addresses import shown
from ablations.invocation import suggested_command
from runners import interrupts
from runners.cli.options import INTERRUPTED, UNSYNCED
from runners.console.terminal import console

if TYPE_CHECKING:
    from runners.console.progress import Failure, Summary


def tell(summary: Summary, uri: str | None, verb: str = "run") -> None:
    """Says how a launch ended and what can be done about it.

    Args:
        summary: How it ended.
        uri: The tracking store.
        verb: The verb that goes on with what was interrupted.
    """
    from rich.markup import escape

    from runners.console.display import clock

    out = console()
    if summary.finished or summary.failures:
        out.print(f"{summary.finished} finished, {len(summary.failures)} failed in {clock(summary.seconds)}")
    for failure in summary.failures:
        told = f"  {_attempts(failure)}: {failure.title}\n    {failure.reason}\n    log: {failure.log_file}"
        # A path that is broken into lines cannot be copied.
        out.print(escape(told), soft_wrap=True)
    if summary.blocked:
        out.print(f"  {summary.blocked} evaluations were left out because their training failed")
    if summary.failures:
        again = suggested_command("retry" if verb == "run" else verb)
        out.print(escape(f"  To try again what failed: {again}"), soft_wrap=True)
    if summary.stopped:
        out.print(f"  {summary.stopped} were not tried, as --fail-fast was given")
    if summary.untracked:
        told = f"Not all of it is in the tracking store {shown(uri or '')}: {summary.untracked}."
        out.print(escape(f"{told} Nothing is lost. To bring it over: {suggested_command('sync', ())}"), soft_wrap=True)
    if summary.interrupted:
        for line in interrupts.take_farewell():
            out.print(line, markup=False, soft_wrap=True)


def exit_code(summary: Summary) -> int:
    """Returns what a launch leaves with."""
    if summary.interrupted:
        return interrupts.exit_code(INTERRUPTED)
    if summary.failures:
        return 1
    return UNSYNCED if summary.untracked else 0


def _attempts(failure: Failure) -> str:
    if failure.attempts == 0:
        return "failed earlier for a reason that does not pass, and not tried again"
    return "failed" if failure.attempts == 1 else f"failed {failure.attempts} times"
