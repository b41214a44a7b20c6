"""Defines the options of `verify` that have networks of a report trained again."""

from __future__ import annotations

from dataclasses import dataclass

import click

from runners.cli.options.groups import grouped


@dataclass(frozen=True)
class RetrainOptions:
    """The values of `retrain_options`.

    Attributes:
        retrain: Number of trainings to repeat, or `None` for none.
        draw: Any text of the reader, which decides with the report which ones.
        device: The device, or `None` for the kind that the report's run had.

    Raises:
        UsageError: If an option is given that only counts with `--retrain`.
    """

    retrain: int | None
    draw: str
    device: str | None

    def __post_init__(self) -> None:
        # Silently ignored, they would let a reader believe that something was trained again.
        if not self.retrain and (self.draw or self.device):
            raise click.UsageError("--draw and --device are about --retrain: how many trainings?")


retrain_options = grouped(
    "retraining",
    RetrainOptions,
    click.option(
        "--retrain",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="Train N networks of the report again, and an evaluation of each, and compare the bits.",
    ),
    click.option(
        "--draw",
        default="",
        metavar="TEXT",
        help="A text of your own, which decides with the report's digest which networks: nobody can foresee them.",
    ),
    click.option("--device", default=None, help="cpu, cuda or cuda:1 (default: the kind that the runs had)."),
)
