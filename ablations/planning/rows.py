"""`make_rows` applies a request to studies and returns the rows of their tables; `resolve_row` returns a row's spec.

A row is not yet repeated under seeds; `ablations.planning.plan` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablations.errors import SpecError, UnknownNameError
from ablations.planning.applicable import applicable
from ablations.planning.inspection import choose_networks, recorded_settings
from ablations.planning.request import Request, who_set
from ablations.planning.row_choice import choose_rows, row_key
from ablations.spec.inspected import is_measured, resolve_network
from ablations.spec.settings import SOURCES, Settings, merge, unread
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
        return row_key(self.network.name if self.network else "", self.variant.name)

    @property
    def checkpoint(self) -> InspectedNetwork | None:
        """The network, if it was trained elsewhere and is only measured here."""
        if self.network is None or self.network.checkpoint is None:
            return None
        return self.network

    @property
    def is_measured(self) -> bool:
        """True if it is about a network that was trained elsewhere: measured, or counted."""
        return self.checkpoint is not None or (self.study.is_about_cost and self.study.is_on_checkpoint)

    @property
    def is_trained(self) -> bool:
        """True if its network is trained here, and neither counted nor a checkpoint from elsewhere."""
        return not self.study.is_about_cost and self.checkpoint is None

    @property
    def has_canary(self) -> bool:
        """True for a reference that can be trained again as a canary."""
        return self.variant.name == self.study.reference and self.is_trained


def make_rows(studies: Sequence[Study], request: Request) -> list[Row]:
    """Return the rows of `studies` at the preset and with the inspected networks that `request` asks for.

    A study of which an override leaves nothing to compare has no row.

    Raises:
        SpecError: If an override is read by nothing, is set by every variant itself, or leaves nothing of all studies.
        StudyError: If a checkpoint is to be inspected by a study that trains its variants, or a study has no row of a
            name, or like a pattern, that is asked for.
        UnknownNameError: If a study has no network that is to be inspected.
    """
    rows: list[Row] = []
    for study in choose_networks(studies, request):
        remaining = applicable(study, request)
        if remaining is None:
            continue
        if study.name in request.rows:
            remaining = choose_rows(remaining, request.rows[study.name], request.preset.name)
        for network in remaining.inspected:
            rows += [Row(remaining, network, variant) for variant in remaining.variants]
    if studies and not rows:
        names = ", ".join(study.name for study in studies)
        overrides = ", ".join(f"{key}={value}" for key, value in request.settings.items())
        raise SpecError(f"with --set {overrides} nothing is left to compare in {names}: no row reads what it varies.")
    _check_overrides(rows, request)
    _check_seeds(rows, request)
    return rows


def studies_of(rows: Iterable[Row]) -> tuple[Study, ...]:
    """Return the studies of rows, each once: at their preset, and with the networks that they inspect."""
    return tuple({row.study.name: row.study for row in rows}.values())


def resolve_row(row: Row, request: Request) -> TrialSpec:
    """Return the spec of a row's training, or of its network if that was trained elsewhere, with seed 0.

    Raises:
        SpecError: If a setting is invalid or nothing reads one that the row sets itself, with the row's name.
    """
    try:
        if row.is_measured:
            return resolve_network(layers(row, request), row.changes)
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
    fail, which is on images of another data set; for a study of cost they are left out. A study of variances leaves
    out those that fix a source of randomness. A file of ours says what its network is, over preset and study.
    """
    overrides = request.settings
    if row.checkpoint is not None:
        recorded = recorded_settings(row.checkpoint)
        return [request.preset.settings, row.study.baseline, recorded, overrides]
    if row.study.is_about_cost and not row.is_measured and "data.name" not in overrides:
        overrides = {key: value for key, value in overrides.items() if _changes_cost(key, request)}
    if row.study.compares_variances:
        overrides = {key: value for key, value in overrides.items() if key not in SOURCES}
    return [request.preset.settings, row.study.baseline, overrides]


def _changes_cost(key: str, request: Request) -> bool:
    # Only the files of a data set say how many classes it may have, and images in files cannot be cut like others.
    if key in ("data.root", "data.augmentation"):
        return "data.name" in request.settings
    return key.startswith("model.") or key in ("data.name", "data.image_size")


def _check_seeds(rows: Sequence[Row], request: Request) -> None:
    """Raise `SpecError` if repeats are asked for, and every network that is measured was trained elsewhere."""
    # One repeat is what a network from elsewhere has, so that nobody need leave the option out.
    if request.seeds in (None, 1) or any(row.is_trained for row in rows):
        return
    for row in rows:
        if row.checkpoint is not None:
            raise SpecError(
                f"--seeds {request.seeds}: {row.checkpoint.title} was trained elsewhere, once. There are no repeats of "
                "it, so leave --seeds out."
            )


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
    if row.study.compares_variances and key in SOURCES:
        return f"study {row.study.name!r} says itself which sources of randomness its rows vary"
    if key in row.changes:
        return f"study {row.study.name!r} sets it itself in every variant"
    if row.is_measured and not is_measured(key):
        return f"study {row.study.name!r} inspects a network that was trained elsewhere, and trains nothing"
    if row.study.is_about_cost and not row.is_measured and not _changes_cost(key, request):
        return f"study {row.study.name!r} trains nothing"
    return unread_settings(row, request).get(key)
