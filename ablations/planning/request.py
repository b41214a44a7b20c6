"""What a user asks for beside the studies: scale, repeats, overrides.

What comes of it is in `ablations.planning.rows`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import SpecError, UnknownNameError
from ablations.presets import Preset
from ablations.spec.settings import DEFAULTS, Settings, check_values
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study

if TYPE_CHECKING:
    from ablations.planning.tuned_values import TunedValues

INSPECT_KEY = "inspect"
"""The override that chooses which trained networks an evaluation-only study inspects."""


@dataclass(frozen=True)
class Request:
    """What a user asks for, beside the studies: scale, repeats and overrides.

    Attributes:
        preset: The weakest layer of settings, and the default number of seeds.
        overrides: Settings over those of preset and study; also `inspect`, a list of network names.
        seeds: Repeats per variant, or `None` for those of the study or the preset.
        tuned: What each variant has been tuned to, or `None` to train with the settings as they are.
        canary: Whether the reference of each study is trained again under other seeds: an A/A test.

    Raises:
        UnknownNameError: If an override is not a setting.
        SpecError: If an override has a value that its setting cannot have.
    """

    preset: Preset
    overrides: Settings = field(default_factory=dict)
    seeds: int | None = None
    canary: bool = False
    tuned: TunedValues | None = None

    def __post_init__(self) -> None:
        for key in self.settings:
            if key not in DEFAULTS:
                raise UnknownNameError("setting", key, [*DEFAULTS, INSPECT_KEY])
        check_values(self.settings)
        if self.seeds is not None and self.seeds < 1:
            raise SpecError(f"seeds = {self.seeds}: at least one repeat is needed")

    @property
    def settings(self) -> dict[str, Any]:
        """The overrides that are settings of a trial."""
        return {key: value for key, value in self.overrides.items() if key != INSPECT_KEY}

    def base(self) -> TrialSpec:
        """Return the trial of preset and overrides alone, on which a study may build its rows."""
        try:
            return resolve([self.preset.settings, self.settings], {}, seed=0)
        except SpecError as error:
            raise SpecError(f"{error}{who_set(str(error), self.sources())}") from None

    def sources(self) -> dict[str, Settings]:
        """Return the general settings by who has set them, in words, the strongest first."""
        return {"--set": self.settings, f"preset {self.preset.name!r}": self.preset.settings}

    def seeds_of(self, study: Study) -> int:
        """Return how many repeats each variant of `study` gets; counting a network once is enough."""
        if study.is_about_cost:
            return 1
        return self.seeds or study.seeds or self.preset.seeds


def who_set(message: str, sources: Mapping[str, Settings]) -> str:
    """Return who has set the settings that a message names, as a sentence to follow it; nothing if nobody has.

    Args:
        message: What is wrong. A setting stands in it under its dotted name.
        sources: Settings by who has set them, in words, the strongest first.
    """
    named: dict[str, list[str]] = {}
    for key in dict.fromkeys(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", message)):
        source = next((words for words, settings in sources.items() if key in settings), None)
        if source is not None:
            named.setdefault(source, []).append(key)
    said = [f"{', '.join(keys)} by {source}" for source, keys in named.items()]
    return f" (set: {'; '.join(said)})" if said else ""


def make_request(
    preset: str | None,
    overrides: Sequence[str],
    seeds: int | None,
    canary: bool = False,
    tuned_from: Path | None = None,
) -> Request:
    """Return what the options ask for."""
    from ablations.files.yaml_source import parse_override
    from ablations.planning.tuned_values import read_tuned
    from ablations.presets import get_preset

    found = get_preset("quick" if preset is None else preset)
    tuned = read_tuned(tuned_from) if tuned_from is not None else None
    return Request(found, dict(map(parse_override, overrides)), seeds, canary, tuned)
