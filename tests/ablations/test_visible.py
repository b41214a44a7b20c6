"""Text of others on a terminal: shown, never acted on."""

from __future__ import annotations

import io
from typing import Any

import click
import pytest
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablations.errors import AblationError
from ablations.visible import visible
from runners.cli.app import run_guarded
from runners.console.terminal import visible_console

HOSTILE = (
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]8;;http://a.example\x1b\\link",
    "\x9b31m",
    "\x90q",
    "\x08\x08\x08",
    "a\rb",
    "\x00",
    "\x7f",
    "\u202egnp.exe",
    "\u2066\u2069",
    "\u061c",
    "\u200b\ufeff",
    "\u2028",
    "\U000e0041",
    "\ud800",
)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_that_a_terminal_acts_on_is_left(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert "[U+" in shown
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "text", ["τ = 30 → 1", "×0.5 ✓", "naïve 深層", "a [bold]b[/bold]", "👩\u200d🔬", "x\u00ady", ""]
)
def test_what_is_to_be_read_stays(text: str) -> None:
    assert visible(text) == text


def test_lines_stay_unless_they_must_not() -> None:
    assert visible("a\n\tb") == "a\n\tb"
    assert visible("a\nb", lines=False) == "a[U+000A]b"


def _printed(*objects: Any, **options: Any) -> str:
    out = io.StringIO()
    visible_console(file=out, width=200, force_terminal=True, **options).print(*objects)
    return out.getvalue()


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "\ud800"], ids=ascii)
def test_the_console_shows_them_in_everything_that_is_printed(text: str) -> None:
    table = Table(title=Text(f"t{text}"))
    table.add_column(Text(f"h{text}"))
    table.add_row(Text(f"c{text}"))
    for shown in (f"plain {text}", Text(f"styled {text}", style="bold"), table, Group(Text(text), f"{text}")):
        out = _printed(shown, color_system=None)
        assert all(char == "\n" or char.isprintable() for char in out.replace("\x1b[1m", "").replace("\x1b[0m", ""))


def test_styles_of_our_own_stay() -> None:
    assert "\x1b[1m" in _printed(Text("a\x1b[5mb", style="bold"), color_system="standard")
    assert "\x1b[5m" not in _printed(Text("a\x1b[5mb", style="bold"), color_system="standard")


def test_a_display_that_is_redrawn_shows_them_too() -> None:
    out = io.StringIO()
    console = visible_console(file=out, width=80, force_terminal=True)
    assert isinstance(console, Console)
    with Live(Text("running \x1b]0;x\x07"), console=console, refresh_per_second=1):
        console.print("finished \x9b2J")
    assert "\x1b]0;" not in out.getvalue()
    assert "\x9b" not in out.getvalue()
    # rich leaves a bell out itself.
    assert "[U+001B]]0;x" in out.getvalue()


@pytest.mark.parametrize(
    "error",
    [AblationError("no \x1b[2J"), click.UsageError("no \x1b[2J"), OSError(2, "no \x1b[2J")],
    ids=lambda error: type(error).__name__,
)
def test_errors_show_them_too(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit):
        run_guarded(fail)
    said = capsys.readouterr().err
    # click leaves sequences out where it does not write to a terminal itself.
    assert "[U+001B][2J" in said or isinstance(error, click.ClickException)
    assert "\x1b" not in said
