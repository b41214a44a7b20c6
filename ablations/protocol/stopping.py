"""This module defines the stopping rule of a plan whose seeds are added until its primary claims are decided."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ablations.errors import OptionError

FEWEST_SEEDS = 3
"""The first look comes no earlier: two seeds leave one degree of freedom, which decides nothing."""

_GROWTH = 1.5
"""Each look has about half as many seeds again as the one before: a look is worth its share of the error then."""


@dataclass(frozen=True)
class StoppingRule:
    """Seeds are added, look by look, until a study's primary claim is decided, or to `max_seeds` at most.

    Raises:
        OptionError: If `max_seeds` leaves no second look.
    """

    max_seeds: int

    def __post_init__(self) -> None:
        if self.max_seeds <= FEWEST_SEEDS:
            raise OptionError(
                f"--max-seeds {self.max_seeds} leaves nothing to add: the first look takes {FEWEST_SEEDS} seeds. "
                f"Allow {FEWEST_SEEDS + 1} or more, or leave --until-decided out."
            )

    def looks(self, first: int) -> tuple[int, ...]:
        """Return the numbers of seeds at which a study is judged, given the number that it begins with.

        They are fixed before anything is trained: a look that was chosen by what the last one saw could be chosen to
        please.
        """
        # A study that begins with more than --max-seeds has a single look there: the user's limit wins.
        seeds = min(max(first, FEWEST_SEEDS), self.max_seeds)
        looks = [seeds]
        while seeds < self.max_seeds:
            seeds = math.ceil(_GROWTH * seeds)
            # A last step of a seed or two would be a look for nothing.
            if _GROWTH * seeds > self.max_seeds + seeds / 4:
                seeds = self.max_seeds
            looks.append(min(seeds, self.max_seeds))
        return tuple(looks)
