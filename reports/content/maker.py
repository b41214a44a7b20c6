"""This module names the code that a report is made with. It is light, so that the command line need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Maker:
    """The code that a report was made with; modified if it had changes that no commit holds."""

    commit: str = "unknown"
    modified: bool = False
