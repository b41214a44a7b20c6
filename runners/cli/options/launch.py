"""Defines the options of verbs that start workers: where work is carried out, how failures are handled, how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from runners.cli.completion import candidates
from runners.cli.options.groups import grouped
from runners.dispatch import DISPATCHERS, DispatchSettings
from runners.dispatch.slurm.options import read_slurm_options
from runners.launching.settings import LaunchSettings
from runners.state.failures import FailurePolicy

_TASK_OPTIONS = (
    click.option(
        "--workers",
        type=click.IntRange(1, 100_000),
        help="Tasks at once (default: one per core, or as many as the GPUs or the cluster take).",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        shell_complete=candidates.choices("auto", "cpu", "cuda"),
        help="cpu, cuda, cuda:1 or auto.",
    ),
    click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads per task."),
)


@dataclass(frozen=True)
class TaskOptions:
    """The values of `task_options`: the number of tasks at once and their device."""

    workers: int | None
    device: str
    threads: int

    def dispatch_settings(self, runs_dir: Path) -> DispatchSettings:
        """Return the settings of a dispatcher on this machine."""
        return DispatchSettings(workers=self.workers, threads=self.threads, device=self.device, folder=runs_dir)


task_options = grouped("tasks", TaskOptions, *_TASK_OPTIONS)


@dataclass(frozen=True)
class BudgetOptions:
    """The values of `budget_options`, which limit how long a plan may take.

    Raises:
        UsageError: If `--trim` is given without `--max-hours`.
    """

    max_hours: float | None
    trim: bool

    def __post_init__(self) -> None:
        # Without a budget there is nothing to trim to, and `--trim` would be ignored in silence.
        if self.trim and self.max_hours is None:
            raise click.UsageError("--trim needs --max-hours: to how many hours?")


budget_options = grouped(
    "budget",
    BudgetOptions,
    click.option(
        "--max-hours",
        type=click.FloatRange(0, 100_000, min_open=True),
        help="The longest that it may take by estimate; otherwise it is refused, or trimmed with --trim.",
    ),
    click.option(
        "--trim", is_flag=True, help="Make it fit: fewer seeds first, down to 2, then without the studies named last."
    ),
)


@dataclass(frozen=True)
class LaunchOptions(TaskOptions):
    """The values of `launch_options`: where work is carried out, how failures are handled, and whether it is tracked.

    Attributes:
        again: No option: `retry` sets it, to run again what failed for a lasting reason, too.
    """

    dispatch: str
    trials_per_gpu: int
    ray_address: str | None
    slurm: tuple[str, ...]
    retries: int
    retry_wait: float
    fail_fast: bool
    lease_seconds: float
    offline: bool
    again: bool = False

    def dispatch_settings(self, runs_dir: Path) -> DispatchSettings:
        """Return the settings of the dispatcher.

        Raises:
            AblationError: If the options contradict each other.
        """
        return DispatchSettings(
            self.dispatch,
            workers=self.workers,
            threads=self.threads,
            device=self.device,
            trials_per_gpu=self.trials_per_gpu,
            ray_address=self.ray_address,
            # Checked here, before a plan is made: a mistyped option must not cost minutes.
            slurm=read_slurm_options(self.slurm),
            folder=runs_dir,
        )

    @property
    def policy(self) -> FailurePolicy:
        """The failures after which a node is tried again."""
        return FailurePolicy(retries=self.retries, wait_seconds=self.retry_wait)

    def launch_settings(self, dispatch: DispatchSettings, plugins: tuple[str, ...]) -> LaunchSettings:
        """Return the settings of a launch with a dispatcher, whose workers import `plugins` first."""
        return LaunchSettings(dispatch, plugins, self.policy, self.again, self.fail_fast, self.lease_seconds)


launch_options = grouped(
    "options",
    LaunchOptions,
    click.option(
        "--dispatch",
        default="processes",
        show_default=True,
        shell_complete=candidates.choices(*DISPATCHERS),
        help="processes, ray, slurm, or inline for debugging.",
    ),
    *_TASK_OPTIONS,
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
        multiple=True,
        metavar="KEY=VALUE",
        help="What a job asks for: partition, account, time, gpus, mem, … Repeatable.",
    ),
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
    click.option("--offline", is_flag=True, help="Track nothing now; bring it to the tracking store later with sync."),
)
