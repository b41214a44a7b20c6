"""`make_rows` applies a request to studies and returns the rows of their tables; `resolve_row` returns a row's spec.

A row is not yet repeated under seeds; `ablations.planning.plan` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.errors import SpecError, UnknownNameError
from ablations.planning.request import INSPECT_KEY, Request, who_set
from ablations.spec.settings import Settings, merge, unread
from ablations.spec.trial import TrialSpec, resolve
from ablations.study import InspectedNetwork, Study, Variant


@dataclass(frozen=True)
class Row:
    """A variant on one inspected network (or on none), before it is repeated under seeds."""

    study: Study
    network: InspectedNetwork | None
    variant: Variant

    @property
    def changes(self) -> Settings:
        """The settings of the row itself, over all general ones; those of the variant win over those of the network."""
        if self.network is None:
            return self.variant.changes
        return {**self.network.changes, **self.variant.changes}

    @property
    def key(self) -> str:
        """The variant's name, with the inspected network in front if there is one."""
        return f"{self.network.name}: {self.variant.name}" if self.network else self.variant.name

    @property
    def has_canary(self) -> bool:
        """True for a reference that can be trained again as a canary."""
        return self.variant.name == self.study.reference and not self.study.is_about_cost


def make_rows(studies: Sequence[Study], request: Request) -> list[Row]:
    """Return the rows of `studies` at the preset and with the inspected networks that `request` asks for.

    Raises:
        SpecError: If an override is read by nothing or is set by every variant itself.
        UnknownNameError: If a study has no network that is to be inspected.
    """
    rows: list[Row] = []
    for study in _choose_networks([study.at(request.preset.name) for study in studies], request):
        study = _without_unread(study, request)
        for network in study.inspected:
            rows += [Row(study, network, variant) for variant in study.variants]
    _check_overrides(rows, request)
    return rows


def studies_of(rows: Iterable[Row]) -> tuple[Study, ...]:
    """Return the studies of rows, each once: at their preset, and with the networks that they inspect."""
    return tuple({row.study.name: row.study for row in rows}.values())


def resolve_row(row: Row, request: Request) -> TrialSpec:
    """Return the spec of a row's training, with seed 0.

    Raises:
        SpecError: If a setting is invalid or nothing reads one that the row sets itself, with the row's name.
    """
    try:
        return resolve(layers(row, request), row.changes, seed=0)
    except (SpecError, UnknownNameError) as error:
        location = f"study {row.study.name!r}, variant {row.variant.name!r}"
        from_options, preset = request.sources().items()
        sources = dict(
            [("the variant", row.changes), from_options, ("the study's baseline", row.study.baseline), preset]
        )
        raise SpecError(f"{location}: {error}{who_set(str(error), sources)}") from None


def unread_settings(row: Row, request: Request) -> dict[str, str]:
    """Return the settings that a row does not read, and why not; `ablations.spec.settings.unread` has the rules."""
    return unread(merge([*layers(row, request), row.changes]))


def layers(row: Row, request: Request) -> list[Settings]:
    """Return the general settings of a row, the weakest first.

    Overrides about the data of trainings (their folder, the cut of their images) must not make the count of a network
    fail, which is on images of another data set; for a study of cost they are left out.
    """
    overrides = request.settings
    if row.study.is_about_cost and "data.name" not in overrides:
        overrides = {key: value for key, value in overrides.items() if _changes_cost(key, request)}
    return [request.preset.settings, row.study.baseline, overrides]


def _changes_cost(key: str, request: Request) -> bool:
    # Only the files of a data set say how many classes it may have, and images in files cannot be cut like others.
    if key in ("data.root", "data.augmentation"):
        return "data.name" in request.settings
    return key.startswith("model.") or key in ("data.name", "data.image_size")


def _choose_networks(studies: list[Study], request: Request) -> list[Study]:
    if INSPECT_KEY not in request.overrides:
        return studies
    value = request.overrides[INSPECT_KEY]
    names = value
    if isinstance(value, str):
        names = [value]
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise SpecError(
            f"{INSPECT_KEY} = {value!r:.60} is not a list of network names, for example inspect=tau_1,tau_30"
        )
    # Studies that train their variants stay as they are, as long as another study inspects networks.
    if not any(study.networks for study in studies):
        raise SpecError(f"nothing reads {INSPECT_KEY} = {value!r}: none of the studies inspects trained networks.")
    chosen: list[Study] = []
    for study in studies:
        chosen.append(study.inspecting(names) if study.networks else study)
    return chosen


def _without_unread(study: Study, request: Request) -> Study:
    """Return a study whose inspected networks leave out the settings that an override made unread.

    A study names trained networks by their temperatures. Where an override chooses a layer kind that reads none, they
    are one network, the one that the other settings make.
    """
    networks: dict[str, InspectedNetwork] = {}
    for network in study.inspected:
        if network is None:
            return study
        with_overrides = unread(merge([request.preset.settings, study.baseline, request.settings, network.changes]))
        without = unread(merge([request.preset.settings, study.baseline, network.changes]))
        changes = {}
        for key, value in network.changes.items():
            # What nothing would read in any case is a mistake of the study, which is reported as such.
            if key not in with_overrides or key in without:
                changes[key] = value
        if network.changes and not changes:
            network = _AS_TRAINED
        elif changes != network.changes:
            network = network.model_copy(update={"changes": changes})
        networks.setdefault(network.name, network)
    return study.model_copy(update={"networks": tuple(networks.values()), "inspect": tuple(networks)})


_AS_TRAINED = InspectedNetwork(name="as_trained", label="as trained")


def _check_overrides(rows: Sequence[Row], request: Request) -> None:
    for key in request.settings:
        # One row that reads the override is enough. If there is none, the reasons of all rows are listed, each once.
        reasons: dict[str, None] = {}
        for row in rows:
            reason = _why_unread(key, row, request)
            if reason is None:
                break
            reasons[reason] = None
        else:
            raise SpecError(f"nothing reads --set {key}={request.settings[key]}: {'; '.join(reasons)}.")


def _why_unread(key: str, row: Row, request: Request) -> str | None:
    if key in row.changes:
        return f"study {row.study.name!r} sets it itself in every variant"
    if row.study.is_about_cost and not _changes_cost(key, request):
        return f"study {row.study.name!r} trains nothing"
    return unread_settings(row, request).get(key)
