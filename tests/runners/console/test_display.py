"""What a person sees of a launch, on a terminal and in a log file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from runners.console.display import LiveDisplay, PlainDisplay, cells, clock, headline, make_display, render
from runners.launching.launch import Progress, Running

AT = {"epoch": 2.0, "epochs": 5.0, "loss": 0.51234, "val_top1": 81.25, "images_per_second": 431.7}
PROGRESS = Progress(
    total=10,
    finished=3,
    failed=1,
    share=0.25,
    seconds=60.0,
    running=[Running("DY-MobileNetV2 [bold]", AT, True), Running("average", {}, False)],
)


def _text(width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(PROGRESS))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3661, "1:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_the_headline_tells_progress_and_time_left() -> None:
    assert headline(PROGRESS) == "3 of 10 done · 25% · 1 failed · 1:00 passed · about 3:00 left"
    assert "not known yet" in headline(Progress(total=3))


def test_a_running_trial_has_epoch_loss_accuracy_and_speed() -> None:
    assert cells(PROGRESS.running[0])[1:] == ("epoch 2/5", "loss 0.512", "val 81.2 %", "432 images/s")
    assert cells(PROGRESS.running[1])[1] == "evaluating"
    assert cells(Running("new", {}, True))[1] == "starting"


def test_the_live_display_shows_titles_literally() -> None:
    assert "DY-MobileNetV2 [bold]" in _text()
    assert "epoch 2/5" in _text()


def test_a_log_file_gets_plain_lines() -> None:
    output = io.StringIO()
    display = make_display(Console(file=output, width=200))
    assert isinstance(display, PlainDisplay)
    with display:
        display.update(PROGRESS)
        display.note("finished [red]x[/red]")
    assert output.getvalue() == "finished [red]x[/red]\n"


def test_a_terminal_gets_the_live_display() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with make_display(console) as display:
        assert isinstance(display, LiveDisplay)
        display.update(PROGRESS)
        display.note("finished [red]x[/red]")
    output = console.file
    assert isinstance(output, io.StringIO)
    assert "finished [red]x[/red]" in output.getvalue()
