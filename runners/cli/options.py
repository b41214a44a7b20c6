"""Defines the options that several verbs share, the examples in their help, and exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_FORMATS = "pdf,html,md,tex"
# 128 + SIGINT, as shells report a process that Ctrl-C has ended.
INTERRUPTED = 130
UNSYNCED = 3
"""Exit code of a launch that has measured everything, but has not written all of it to the tracking store."""

preset_option = click.option("--preset", default=None, help="Scale: smoke, quick, small or paper (default: quick).")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of every variant. Repeatable."
)
seeds_option = click.option("--seeds", type=click.IntRange(1, 1000), help="Repeats per variant.")
canary_option = click.option(
    "--canary", is_flag=True, help="Train each study's reference again under other seeds: an A/A test of the report."
)
_TUNED = (
    click.option("--tuned", is_flag=True, help="Train with what `tune` has found for each variant."),
    click.option(
        "--tuned-from",
        type=click.Path(exists=True),
        metavar="PLACE",
        help="The same, with the values in this file or folder instead of tuning/ in the runs folder.",
    ),
)


class GivenPath(click.Path):
    """A path to write to: `~` stands for the home folder, also where no shell has seen it.

    Args:
        file_okay: Whether it may be a file.
    """

    def __init__(self, *, file_okay: bool) -> None:
        super().__init__(path_type=Path, file_okay=file_okay)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, refusing one that would mean the current folder without saying so."""
        text = os.fspath(value)
        if not text.strip():
            self.fail("it is empty. Name a folder, or . for the current one.", param, ctx)
        # A shell expands ~ at the beginning of a word only, and not in --runs-dir=~/runs.
        if text.startswith("~"):
            try:
                value = Path(text).expanduser()
            except RuntimeError:
                self.fail(f"{text!r} names a user who has no home folder here.", param, ctx)
        return super().convert(value, param, ctx)


runs_option = click.option(
    "--runs-dir",
    type=GivenPath(file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder for states, the local tracking store and reports.",
)
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, metavar="MODULE", help="Import your own strategies or studies. Repeatable."
)
all_option = click.option("--all", "all_studies", is_flag=True, help="Every registered study.")
format_option = click.option(
    "--format", "formats", default=DEFAULT_FORMATS, show_default=True, help="Report formats, separated by commas."
)

output_option = click.option(
    "--output",
    type=GivenPath(file_okay=True),
    metavar="PATH",
    help="Write the report there: into a folder that exists, or to files of that name, each with its format's ending.",
)

force_option = click.option(
    "--force",
    "forced",
    multiple=True,
    metavar="STUDY/VARIANT",
    help="Train and evaluate a variant anew; what it was is kept in MLflow. Repeatable.",
)

offline_option = click.option(
    "--offline", is_flag=True, help="Track nothing now; bring it to the tracking store later with sync."
)

_SIDES = tuple(
    option
    for side in ("left", "right")
    for option in (
        click.option(f"--{side}-uri", metavar="URI", help=f"Tracking store or runs folder of the {side}."),
        click.option(f"--{side}-preset", metavar="PRESET", help=f"Preset of the {side}."),
        click.option(f"--{side}-set", multiple=True, metavar="KEY=VALUE", help=f"Change a setting of the {side}."),
        click.option(
            f"--{side}-tuned-from",
            type=click.Path(exists=True, path_type=Path),
            metavar="PLACE",
            help=f"The {side} as trained with the tuned values in this file or folder.",
        ),
    )
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

_TASKS = (
    click.option(
        "--workers",
        type=click.IntRange(1, 100_000),
        help="Tasks at once (default: one per core, or as many as the GPUs or the cluster take).",
    ),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 or auto."),
    click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads per task."),
)
_BUDGET = (
    click.option(
        "--max-hours",
        type=click.FloatRange(0, 100_000, min_open=True),
        help="The longest that it may take by estimate; otherwise it is refused, or trimmed with --trim.",
    ),
    click.option(
        "--trim", is_flag=True, help="Make it fit: fewer seeds first, down to 2, then without the studies named last."
    ),
)
_DISPATCH = (
    click.option(
        "--dispatch", default="processes", show_default=True, help="processes, ray, slurm, or inline for debugging."
    ),
    *_TASKS,
    click.option(
        "--trials-per-gpu",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        help="How many small trials share a GPU.",
    ),
    click.option("--ray-address", metavar="HOST:PORT", help="A Ray cluster that is there (default: start one here)."),
    click.option(
        "--slurm",
        "slurm",
        multiple=True,
        metavar="KEY=VALUE",
        help="What a job asks for: partition, account, time, gpus, mem, … Repeatable.",
    ),
)
_RECOVERY = (
    click.option(
        "--retries",
        type=click.IntRange(0, 1000),
        default=2,
        show_default=True,
        help="Times a node is tried again after what may pass: a killed worker, a lost machine, lack of memory, I/O.",
    ),
    click.option(
        "--retry-wait",
        type=click.FloatRange(0, 86400),
        default=5.0,
        show_default=True,
        help="Seconds before the first of them; each wait is twice the one before, up to five minutes.",
    ),
    click.option("--fail-fast", is_flag=True, help="End the launch with the first node that fails for good."),
    click.option(
        "--lease-seconds",
        type=click.FloatRange(1, 86400),
        default=60.0,
        show_default=True,
        help="How long others wait for a worker of this launch that gives no sign of life.",
    ),
)


def task_options(command: _Command) -> _Command:
    """Add the options for the number of tasks at once and their device."""
    return _with(command, _TASKS)


def budget_options(command: _Command) -> _Command:
    """Add the options that limit how long a plan may take."""
    return _with(command, _BUDGET)


def dispatch_options(command: _Command) -> _Command:
    """Add the options that choose where work is carried out."""
    return _with(command, _DISPATCH)


def recovery_options(command: _Command) -> _Command:
    """Add the options for retries and other handling of failures."""
    return _with(command, _RECOVERY)


def side_options(command: _Command) -> _Command:
    """Add the options that describe the two sides of a comparison: common ones, and those of each side."""
    return preset_option(set_option(_with(command, _SIDES)))


def _with(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    # Decorators apply from the bottom up, so the last option is added first and the help keeps their order.
    for option in reversed(options):
        command = option(command)
    return command


def examples(*lines: str) -> str:
    """Return the epilog of a verb's help: example commands that can be copied."""
    # \b keeps click from wrapping the paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  python run_ablation.py {line}" for line in lines)


def tuned_options(command: _Command) -> _Command:
    """Add the options that choose whether tuned values are used."""
    return _with(command, _TUNED)
