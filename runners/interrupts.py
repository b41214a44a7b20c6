"""Handles Ctrl-C, SIGTERM and SIGHUP: answers at once, ends within seconds, and prints how to go on.

The first signal raises `KeyboardInterrupt` in the main thread, so that what is under way is ended in order. What does
not end within seconds, such as the import of a large library or a store that does not answer, is left: the state
folders lose nothing by a kill. A second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SECONDS = 12.0
"""The longest that an orderly end may take."""

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _State:
    """The signal that this process has received, and its farewell. Global: signal handlers get no other arguments."""

    received: int | None = None
    farewell: Callable[[], list[str]] | None = None
    stop_seconds = STOP_SECONDS


def exit_code(default: int) -> int:
    """Return the exit code of a process that was ended by a signal: 128 and its number, else `default`."""
    return default if _State.received is None else 128 + _State.received


def heed_signals() -> None:
    """Have signals end this process in order. A signal that the parent has it ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    _State.received, _State.farewell, _State.stop_seconds = None, None, STOP_SECONDS
    for number in _SIGNALS:
        # nohup and shells that start something in the background have it ignore some of them.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def leave_at_once(number: int, frame: FrameType | None) -> None:
    """End the process while nothing has begun: a handler of signals for the time of imports."""
    _write("Interrupted before anything was begun.\n")
    os._exit(128 + number)


def set_farewell(lines: Callable[[], list[str]], stop_seconds: float = STOP_SECONDS) -> None:
    """Set the lines to print when a signal ends this process: what is kept, and how to go on.

    Args:
        lines: Returns the lines. Called in any thread.
        stop_seconds: The longest that an orderly end may take.
    """
    _State.farewell, _State.stop_seconds = lines, stop_seconds


def take_farewell() -> list[str]:
    """Return the lines of the farewell at the first call, and none later: it is printed once."""
    lines, _State.farewell = _State.farewell, None
    return lines() if lines is not None else []


def interruptible(action: Callable[[], object], code: int) -> None:
    """Call `action`; if a signal ends it, print the farewell and leave with `code`, or with the code of the signal.

    Args:
        code: Exit code after Ctrl-C.
    """
    # Not imported above: handlers are set before anything large is imported.
    from click import Abort

    try:
        action()
    except (KeyboardInterrupt, Abort):
        _say_farewell()
        # A thread or a library that hangs at exit must not delay the end.
        if _State.received is not None:
            _leave(exit_code(code))
        sys.exit(code)
    except SystemExit as end:
        if _State.received is not None:
            _leave(end.code if isinstance(end.code, int) else code)
        raise


def _leave(code: int) -> None:
    # `os._exit` flushes nothing.
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _say_farewell() -> None:
    with suppress(Exception):
        _write("\n".join(take_farewell() or ["Interrupted."]) + "\n")


def _stop(number: int, frame: FrameType | None) -> None:
    if _State.received is not None:
        _say_farewell()
        os._exit(128 + number)
    _State.received = number
    # The thread ends the process if the orderly end, which the exception begins, takes too long.
    _write("Stopping… (once more ends it at once)\n")
    threading.Thread(target=_leave_late, args=[number], name="end", daemon=True).start()
    raise KeyboardInterrupt


def _leave_late(number: int) -> None:
    time.sleep(_State.stop_seconds)
    _say_farewell()
    os._exit(128 + number)


def _write(text: str) -> None:
    """Write to standard error, past buffers and locks that the main thread may hold."""
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    try:
        data = text.encode(encoding, errors=getattr(sys.stderr, "errors", None) or "replace")
    except (LookupError, UnicodeError):
        data = text.encode("ascii", errors="replace")
    with suppress(OSError):
        os.write(2, data)


@contextmanager
def signals_withheld() -> Iterator[None]:
    """Start a process within the block that none of these signals reaches: its parent decides when it ends.

    A terminal sends them to every process that it has started. They are withheld from before the process begins, as it
    would otherwise die of them, with a traceback, while it is being started. Those that arrive meanwhile reach this
    process afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
