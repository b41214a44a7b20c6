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
from ablations.files.checkpoint_file import read_checkpoint
from ablations.files.overrides import split_overrides
from ablations.presets import Preset
from ablations.protocol.stopping import StoppingRule
from ablations.spec.fingerprint import digest
from ablations.spec.inspected import resolve_network
from ablations.spec.settings import DEFAULTS, Settings, check_values, merge
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import Study

if TYPE_CHECKING:
    from ablations.planning.tuned_values import TunedValues

INSPECT_KEY = "inspect"
"""The override that chooses which trained networks an evaluation-only study inspects: names, or checkpoint files."""

INSPECT_TEMPERATURE_KEY = "inspect.temperature"
"""The override with τ of an inspected checkpoint whose file does not hold it."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".npz")
"""The endings of files that hold weights."""

CANARY_SEED = 10_000
"""The r-th repeat of a canary has this seed plus r; no variant has so many repeats."""

_SCALE_DIGITS = 16
_INSPECT_KEYS = (INSPECT_KEY, INSPECT_TEMPERATURE_KEY)


@dataclass(frozen=True)
class Request:
    """The options of a user for a plan beside the studies.

    Attributes:
        preset: The weakest layer of settings, and the default number of seeds.
        overrides: Settings over those of preset and study; also `inspect`, a list of network names or of files, and
            `inspect.temperature`.
        tuned: The tuned values of the variants, or `None` to train with the settings as they are.
        canary: Whether the reference of each study is trained again under other seeds: an A/A test.
        stopping: The rule by which seeds are added until the primary claims are decided, or `None` for a fixed number.
        seeds_by_study: The seeds of studies that have their own number by now, over `seeds`: with a stopping rule, some
            studies are decided before others.
        rows: Names or patterns of the rows that are asked for, by study; a study that is not among them is whole.
        seed: The one repeat that is asked for, in place of a number of them.
        sweeps: The texts of the values of settings that are swept, by setting (`ablations.planning.sweeps`). A plan
            has the studies of the sweep already.

    Raises:
        UnknownNameError: If an override is not a setting.
        SpecError: If an override has a value that its setting cannot have.
    """

    preset: Preset
    overrides: Settings = field(default_factory=dict)
    seeds: int | None = None
    canary: bool = False
    tuned: TunedValues | None = None
    stopping: StoppingRule | None = None
    seeds_by_study: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seed: int | None = None
    sweeps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in self.settings:
            if key not in DEFAULTS:
                raise UnknownNameError("setting", key, [*DEFAULTS, *_INSPECT_KEYS])
        check_values(self.settings)
        if self.seeds is not None and self.seeds < 1:
            raise SpecError(f"seeds = {self.seeds}: at least one repeat is needed")
        for study, seeds in self.seeds_by_study.items():
            if seeds < 1:
                raise SpecError(f"seeds of study {study!r} = {seeds}: at least one repeat is needed")
        self._check_seed()

    def _check_seed(self) -> None:
        if self.seed is None:
            return
        if not 0 <= self.seed < CANARY_SEED:
            raise SpecError(f"seed = {self.seed}: repeats have seeds from 0 to {CANARY_SEED - 1}. Name one of them.")
        if self.seeds is not None:
            raise SpecError(
                f"seed = {self.seed} asks for one repeat and seeds = {self.seeds} for a number of them. Leave one out."
            )
        if self.stopping is not None:
            raise SpecError(
                f"seed = {self.seed} asks for one repeat, and a run until claims are decided adds repeats. Leave one "
                "out."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The overrides that are settings of a trial."""
        return {key: value for key, value in self.overrides.items() if key not in _INSPECT_KEYS}

    @property
    def inspected(self) -> list[str]:
        """The values of `inspect`: names of networks, or files of checkpoints; empty without it.

        Raises:
            SpecError: It is no list of them.
        """
        if INSPECT_KEY not in self.overrides:
            return []
        value = self.overrides[INSPECT_KEY]
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not values or not all(isinstance(name, str) for name in values):
            raise SpecError(
                f"{INSPECT_KEY} = {value!r:.60} is not a list of network names, for example inspect=tau_1,tau_30, and "
                "not the file of a checkpoint"
            )
        return list(values)

    def base(self) -> TrialSpec:
        """Return the spec of preset and overrides alone, from which a study may build its rows.

        Where a checkpoint is inspected, it is that of its network, as far as the file of the first one tells.

        Raises:
            SpecError: If settings do not fit together, or a checkpoint cannot be read.
        """
        files = [value for value in self.inspected if is_checkpoint(value)]
        try:
            if files:
                recorded = read_checkpoint(checkpoint_path(files[0])).settings
                return resolve_network([self.preset.settings, recorded, self.settings], {})
            return resolve([self.preset.settings, self.settings], {}, seed=0)
        except SpecError as error:
            raise SpecError(f"{error}{who_set(str(error), self.sources())}") from None

    @property
    def data_name(self) -> str:
        """The name of the data set of preset and overrides, under which runs are tracked; no file of it is read."""
        return str(merge([self.preset.settings, self.settings])["data.name"])

    @property
    def scale(self) -> str:
        """A digest of what is the same in all reports on a study at one scale: preset, data set and overrides."""
        scale = {"preset": self.preset.name, "data": self.data_name, "overrides": dict(self.overrides)}
        return digest({**scale, "tuned": self.tuned is not None})[:_SCALE_DIGITS]

    def sources(self) -> dict[str, Settings]:
        """Return the general settings by their source, such as `--set`, the strongest first."""
        return {"--set": self.settings, f"preset {self.preset.name!r}": self.preset.settings}

    def seeds_of(self, study: Study) -> int:
        """Return the number of repeats of each variant of `study`; where nothing is trained, once is enough."""
        if study.trains_nothing or self.seed is not None:
            return 1
        if study.name in self.seeds_by_study:
            return self.seeds_by_study[study.name]
        looks = self.looks_of(study)
        if looks:
            return looks[0]
        return self._usual_seeds(study)

    def repeats_of(self, study: Study) -> range:
        """Return the seeds of the repeats of each variant of `study`."""
        if self.seed is not None and not study.trains_nothing:
            return range(self.seed, self.seed + 1)
        return range(self.seeds_of(study))

    def looks_of(self, study: Study) -> tuple[int, ...]:
        """Return the numbers of seeds at which a study is judged; none without a stopping rule, or without a claim.

        They begin with the number that the study has without the rule.
        """
        if self.stopping is None or study.trains_nothing or study.primary_claim is None:
            return ()
        return self.stopping.looks(self._usual_seeds(study))

    def _usual_seeds(self, study: Study) -> int:
        return self.seeds or study.seeds or self.preset.seeds


def is_checkpoint(value: str) -> bool:
    """Return True if a value of `inspect` names a file of weights: by its ending, or because there is such a file."""
    return Path(value).suffix.lower() in _SUFFIXES or checkpoint_path(value).is_file()


def checkpoint_path(value: str) -> Path:
    """Return the absolute path that a value of `inspect` names."""
    return Path(value).expanduser().absolute()


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
    *,
    stopping: StoppingRule | None = None,
    seeds_by_study: Mapping[str, int] | None = None,
    seed: int | None = None,
) -> Request:
    """Return the request that options of the command line make; without a preset it is `quick`."""
    from ablations.planning.tuned_values import read_tuned
    from ablations.presets import get_preset

    chosen = get_preset("quick" if preset is None else preset)
    tuned = read_tuned(tuned_from) if tuned_from is not None else None
    settings, sweeps = split_overrides(overrides)
    by_study = dict(seeds_by_study or {})
    return Request(chosen, settings, seeds, canary, tuned, stopping, by_study, seed=seed, sweeps=sweeps)
