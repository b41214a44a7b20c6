"""Prints how a launch ended and picks the exit code, for the verbs that launch something."""

from __future__ import annotations

from ablations.invocation import suggested_command
from ablations.stores.addresses import shown
from runners import interrupts
from runners.cli.options.groups import INTERRUPTED, UNSYNCED
from runners.console.display import clock
from runners.console.progress import Failure, Summary
from runners.console.terminal import console, print_lines


def tell(summary: Summary, uri: str | None, verb: str = "run") -> None:
    """Print how a launch ended and the commands that go on from there.

    Args:
        verb: The verb that resumes an interrupted launch.
    """
    terminal = console()
    if summary.finished or summary.failures:
        terminal.print(f"{summary.finished} finished, {len(summary.failures)} failed in {clock(summary.seconds)}")
    for failure in summary.failures:
        print_lines([f"  {_attempts(failure)}: {failure.title}\n    {failure.reason}\n    log: {failure.log_file}"])
    if summary.blocked:
        terminal.print(f"  {summary.blocked} evaluations were left out because their training failed")
    if summary.failures:
        # A tuning or a search is tried again by its own verb, which goes on from what is there.
        command = suggested_command("retry" if verb == "run" else verb)
        print_lines([f"  To try again what failed: {command}"])
    if summary.stopped:
        terminal.print(f"  {summary.stopped} were not tried, as --fail-fast was given")
    if summary.untracked:
        text = f"Not all of it is in the tracking store {shown(uri or '')}: {summary.untracked}."
        print_lines([f"{text} Nothing is lost. To bring it over: {suggested_command('sync', ())}"])
    if summary.interrupted:
        print_lines(interrupts.take_farewell())


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
