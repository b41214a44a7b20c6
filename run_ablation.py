"""Starts the command line, which is in `runners.cli`."""

from __future__ import annotations

import signal

from runners.interrupts import leave_at_once

if __name__ == "__main__":
    # Before the other imports, which take most of a second: Ctrl-C in them would be a traceback.
    signal.signal(signal.SIGINT, leave_at_once)

from runners.cli.app import cli, main

__all__ = ["cli", "main"]

if __name__ == "__main__":
    main()
