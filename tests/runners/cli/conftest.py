"""A store of made-up runs, and consoles of a width, for tests of what verbs print."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tests.reports.conftest import make_store, plan, results, store

__all__ = ["make_store", "plan", "results", "store"]


@pytest.fixture(params=[80, 120], ids=["narrow", "wide"])
def width(request: pytest.FixtureRequest) -> int:
    """The columns of a terminal: the narrowest that people use, and one of today."""
    columns: int = request.param
    return columns


@pytest.fixture
def printed(width: int) -> Callable[..., list[str]]:
    """Prints something on a terminal of that width and returns its lines."""

    def on_terminal(shown: RenderableType | Callable[[Console], Any]) -> list[str]:
        output = io.StringIO()
        terminal = Console(file=output, width=width, highlight=False)
        if callable(shown):
            shown(terminal)
        else:
            terminal.print(shown)
        lines = [line.rstrip() for line in output.getvalue().splitlines()]
        assert max(map(len, lines)) <= width
        return lines

    return on_terminal
