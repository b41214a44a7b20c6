"""A request holds the options of a user for a plan beside the studies: preset, repeats, overrides, tuned values.

The command line makes it once, with `make_request`; `ablations.planning.rows` applies it to studies.
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
    """The options of a user for a plan beside the studies.

    Attributes:
        preset: The weakest layer of settings, and the default number of seeds.
        overrides: Settings over those of preset and study; also `inspect`, a list of network names.
        tuned: The tuned values of the variants, or `None` to train with the settings as they are.
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
        """Return the spec of preset and overrides alone, from which a study may build its rows."""
        try:
            return resolve([self.preset.settings, self.settings], {}, seed=0)
        except SpecError as error:
            raise SpecError(f"{error}{who_set(str(error), self.sources())}") from None

    def sources(self) -> dict[str, Settings]:
        """Return the general settings by their source, such as `--set`, the strongest first."""
        return {"--set": self.settings, f"preset {self.preset.name!r}": self.preset.settings}

    def seeds_of(self, study: Study) -> int:
        """Return the number of repeats of each variant of `study`; to count a network once is enough."""
        if study.is_about_cost:
            return 1
        return self.seeds or study.seeds or self.preset.seeds


def who_set(message: str, sources: Mapping[str, Settings]) -> str:
    """Return a clause that names the sources of the settings in a message, to follow it; "" if none has a source.

    Args:
        message: The message. A setting is in it under its dotted name.
        sources: Settings by their source, the strongest first.
    """
    keys_by_source: dict[str, list[str]] = {}
    # Messages name settings by their dotted keys.
    for key in dict.fromkeys(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", message)):
        for source, settings in sources.items():
            if key in settings:
                keys_by_source.setdefault(source, []).append(key)
                # Only the strongest source has an effect, so only it is named.
                break
    if not keys_by_source:
        return ""
    clauses = [f"{', '.join(keys)} by {source}" for source, keys in keys_by_source.items()]
    return f" (set: {'; '.join(clauses)})"


def make_request(
    preset: str | None,
    overrides: Sequence[str],
    seeds: int | None,
    canary: bool = False,
    tuned_from: Path | None = None,
) -> Request:
    """Return the request that options of the command line make; without a preset it is `quick`."""
    from ablations.files.yaml_source import parse_override
    from ablations.planning.tuned_values import read_tuned
    from ablations.presets import get_preset

    chosen = get_preset("quick" if preset is None else preset)
    tuned = read_tuned(tuned_from) if tuned_from is not None else None
    return Request(chosen, dict(map(parse_override, overrides)), seeds, canary, tuned)
