"""Prints how a launch ended and picks the exit code, for the verbs that launch something."""

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
    """Print how a launch ended and the commands that go on from there.

    Args:
        summary: The end of the launch.
        uri: The tracking store.
        verb: The verb that resumes an interrupted launch.
    """
    from rich.markup import escape

    from runners.console.display import clock

    terminal = console()
    if summary.finished or summary.failures:
        terminal.print(f"{summary.finished} finished, {len(summary.failures)} failed in {clock(summary.seconds)}")
    for failure in summary.failures:
        text = f"  {_attempts(failure)}: {failure.title}\n    {failure.reason}\n    log: {failure.log_file}"
        # A path that is broken into lines cannot be copied.
        terminal.print(escape(text), soft_wrap=True)
    if summary.blocked:
        terminal.print(f"  {summary.blocked} evaluations were left out because their training failed")
    if summary.failures:
        command = suggested_command("retry" if verb == "run" else verb)
        terminal.print(escape(f"  To try again what failed: {command}"), soft_wrap=True)
    if summary.stopped:
        terminal.print(f"  {summary.stopped} were not tried, as --fail-fast was given")
    if summary.untracked:
        text = f"Not all of it is in the tracking store {shown(uri or '')}: {summary.untracked}."
        terminal.print(
            escape(f"{text} Nothing is lost. To bring it over: {suggested_command('sync', ())}"), soft_wrap=True
        )
    if summary.interrupted:
        for line in interrupts.take_farewell():
            terminal.print(line, markup=False, soft_wrap=True)


def exit_code(summary: Summary) -> int:
    """Return the exit code of a launch: an interrupt outranks failures, failures outrank a store that lags behind."""
    if summary.interrupted:
        return interrupts.exit_code(INTERRUPTED)
    if summary.failures:
        return 1
    return UNSYNCED if summary.untracked else 0


def _attempts(failure: Failure) -> str:
    if failure.attempts == 0:
        return "failed earlier for a reason that does not pass, and not tried again"
    return "failed" if failure.attempts == 1 else f"failed {failure.attempts} times"
