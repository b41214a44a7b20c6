"""Shows the progress of a launch: a live display on a terminal, plain lines in a log file or CI."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runners.console.progress import Progress, Running

# A log file of a night keeps a readable length.
_PLAIN_SECONDS = 30.0


def make_display(console: Console) -> LiveDisplay | PlainDisplay:
    """Return a live display for a terminal, a plain one for anything else."""
    if console.is_terminal:
        return LiveDisplay(console)
    return PlainDisplay(console)


class LiveDisplay:
    """Redraws overall progress, time left and a line per running trial."""

    def __init__(self, console: Console) -> None:
        # Transient: at the end the summary takes the place of the display.
        self._live = Live(Text("starting workers"), console=console, refresh_per_second=4, transient=True)

    def update(self, progress: Progress) -> None:
        """Redraw the display."""
        self._live.update(render(progress))

    def note(self, message: str) -> None:
        """Print a line above the display."""
        self._live.console.print(escape(message), highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class PlainDisplay:
    """Prints a line when something ends, and the overall progress now and then."""

    def __init__(self, console: Console) -> None:
        # As if something had just been printed: the launch announces itself, and then there is nothing to add yet.
        self._console, self._last = console, time.monotonic()

    def update(self, progress: Progress) -> None:
        """Print the overall progress, at most every 30 seconds."""
        if time.monotonic() - self._last < _PLAIN_SECONDS:
            return
        self._last = time.monotonic()
        self._print(headline(progress))
        for running in progress.running:
            if running.is_trial:
                self._print("  " + "  ".join(cells(running)))

    def note(self, message: str) -> None:
        """Print a line."""
        self._print(message)

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def headline(progress: Progress) -> str:
    """Return overall progress and time left in one line."""
    seconds_left = progress.seconds_left
    items = [f"{progress.finished} of {progress.total} done", f"{progress.share:.0%}"]
    # Nothing is said of what does not occur: the line must fit into a terminal.
    if progress.failed:
        items.append(f"{progress.failed} failed")
    if progress.put_off:
        items.append(f"{progress.put_off} to be tried again")
    if progress.elsewhere:
        items.append(f"{progress.elsewhere} run by other launches")
    items.append(f"{clock(progress.seconds)} passed")
    if seconds_left is not None:
        items.append(f"about {clock(seconds_left)} left")
    else:
        items.append("time left not known yet")
    return " · ".join(items)


def cells(running: Running) -> tuple[str, str, str, str, str]:
    """Return a running node's title, epoch, loss, validation accuracy and speed."""
    latest = running.progress
    if not running.is_trial:
        return (running.title, "evaluating", "", "", "")
    # A training reports nothing before its first step, and no accuracy before the end of its first epoch.
    if "epoch" not in latest:
        return (running.title, "starting", "", "", "")
    val_top1 = latest.get("val_top1")
    accuracy = ""
    if val_top1 is not None:
        accuracy = f"val {val_top1:.1f} %"
    return (
        running.title,
        f"epoch {latest['epoch']:.0f}/{latest['epochs']:.0f}",
        f"loss {latest['loss']:.3f}",
        accuracy,
        f"{latest['images_per_second']:.0f} images/s",
    )


def clock(seconds: float) -> str:
    """Return a duration as `1:02:03` or `2:03`."""
    hours, remainder = divmod(round(seconds), 3600)
    minutes, seconds_left = divmod(remainder, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"


def render(progress: Progress) -> RenderableType:
    """Return the content of the live display."""
    lines = Table.grid(padding=(0, 2))
    for running in progress.running:
        # As `Text`: a title may hold brackets, which rich would take for markup.
        lines.add_row(*map(Text, cells(running)))
    bar = ProgressBar(total=1.0, completed=progress.share, width=60)
    return Group(Text(headline(progress)), bar, lines)
