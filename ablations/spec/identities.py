"""An identity represents the code of a plug-in in fingerprints, as it is not the project's own.

A spec names a strategy, a network or a data set by a word. If a user's module has registered that word, the word alone
does not say what is computed, so its identity is part of the fingerprint: a version that the user gives, or a digest of
the code. `runners.plugins` loads plug-ins and records their identities; nothing here imports a user's module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ablations.errors import PluginError
from ablations.spec.parts import Intervention, ModelSpec
from ablations.spec.trial import TrialSpec

PluginKind = Literal["strategy", "network", "layer", "data set"]

# Digits of a digest that messages show.
_SHOWN = 12


@dataclass(frozen=True)
class Identity:
    """The identity of a registered name.

    Attributes:
        code: The part of fingerprints: `version …` where the user gave one, else the digest of the code.
        plugin: The plug-in that registered it, for people; not part of a fingerprint.
    """

    kind: PluginKind
    name: str
    code: str
    plugin: str

    @property
    def label(self) -> str:
        """Its name in records and messages."""
        return f"{self.kind} {self.name}"


# Of this process alone: each worker loads the plug-ins itself and records their identities again.
_IDENTITIES: dict[tuple[PluginKind, str], Identity] = {}


def record_identity(identity: Identity) -> None:
    """Record the identity of a name in this process, in place of an earlier one."""
    _IDENTITIES[identity.kind, identity.name] = identity


def forget_identity(kind: PluginKind, name: str) -> None:
    """Forget the identity of a name: the name is the project's own from now on, or nobody's."""
    _IDENTITIES.pop((kind, name), None)


def of_model(model: ModelSpec) -> Iterator[Identity]:
    """Yield the identities of the network, the layer kind and the strategy that a network's settings name."""
    yield from _recorded(("network", model.name), ("layer", model.layer), ("strategy", model.aggregation))


def of_trial(spec: TrialSpec) -> Iterator[Identity]:
    """Yield the identities that the spec of a training names: network, layer kind, strategy and data set."""
    yield from of_model(spec.model)
    yield from _recorded(("data set", spec.data.name))


def of_intervention(intervention: Intervention) -> Iterator[Identity]:
    """Yield the identity of the strategy that an intervention names."""
    yield from _recorded(("strategy", intervention.aggregation))


def _recorded(*names: tuple[PluginKind, str | None]) -> Iterator[Identity]:
    for kind, name in names:
        if name is not None and (kind, name) in _IDENTITIES:
            yield _IDENTITIES[kind, name]


def in_fingerprint(identities: Iterable[Identity]) -> dict[str, dict[str, str]]:
    """Return the members that identities add to a fingerprint, none if there is no identity.

    Without plug-ins the fingerprint must be as before plug-ins had identities, so the key is left out.
    """
    codes = {identity.label: identity.code for identity in identities}
    return {"plugins": codes} if codes else {}


def as_json(identities: Iterable[Identity]) -> dict[str, dict[str, str]]:
    """Return identities as JSON, by label: `code` and `plugin`."""
    return {identity.label: {"code": identity.code, "plugin": identity.plugin} for identity in identities}


@dataclass(frozen=True)
class PluginChange:
    """A change of a plug-in from one process to another.

    Attributes:
        label: The kind and name that it registers: `strategy top2`.
        before: Its earlier `code` and `plugin`, or `None` if these were not recorded.
        now: Its present `code` and `plugin`, or `None` if no plug-in registers the name.
    """

    label: str
    before: Mapping[str, Any] | None
    now: Mapping[str, Any] | None

    def __str__(self) -> str:
        plugin = (self.now or self.before or {}).get("plugin", "unknown")
        subject = f"{self.label} (plug-in {plugin})"
        if self.before is None:
            return f"{subject} was measured before the code of plug-ins was recorded"
        if self.now is None:
            return f"{subject} is not registered by a plug-in now"
        return f"{subject} has changed since: {_shown(self.before)} → {_shown(self.now)}"


def _shown(recorded: Mapping[str, Any]) -> str:
    code = str(recorded.get("code", "unknown"))
    return code if code.startswith("version ") else f"code {code[:_SHOWN]}"


def changes(before: Any, now: Any) -> list[PluginChange]:
    """Return the plug-ins that differ between two records of `as_json`; a value that is no record counts as empty."""
    old, new = _as_mapping(before), _as_mapping(now)
    changed = []
    # Present plug-ins first, then those that are gone.
    for label in dict.fromkeys([*new, *old]):
        if _as_mapping(old.get(label)).get("code") != _as_mapping(new.get(label)).get("code"):
            changed.append(PluginChange(label, old.get(label), new.get(label)))
    return changed


def _as_mapping(record: Any) -> Mapping[str, Any]:
    # Records are read back from places where anyone may have edited them.
    return record if isinstance(record, Mapping) else {}


def check_unchanged(before: Any, now: Any) -> None:
    """Compare the plug-ins of a plan with those of the process that carries it out.

    Raises:
        PluginError: They differ.
    """
    differing: list[str] = []
    for change in changes(before, now):
        record = change.before or change.now or {}
        differing.append(f"{change.label} (plug-in {record.get('plugin', 'unknown')})")
    if differing:
        raise PluginError(
            f"plug-ins are not the same here as where this was planned: {'; '.join(differing)}. Either they were "
            "changed since, or this machine has another copy of them, or what they compute is not the same in each "
            "process (a random number or a time in a constant; register it with version= then). Run the study again."
        )
