"""The identities of what plug-ins register: what stands in fingerprints for code that is not the project's own.

A spec names a strategy, a network or a data set by a word. Where a user's module has registered that word, the word
alone does not say what is computed, so its identity is part of the fingerprint: a version that the user gives, or a
digest of the code. Whoever loads plug-ins records it (`runners.plugins`); nothing here imports a user's module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ablations.errors import PluginError
from ablations.spec.parts import Intervention, ModelSpec
from ablations.spec.trial import TrialSpec

Kind = Literal["strategy", "network", "data set"]

_SHOWN = 12


@dataclass(frozen=True)
class Identity:
    """What a registered name stands for.

    Attributes:
        kind: What is registered.
        name: Its name in specs.
        code: What is part of fingerprints: `version …` where the user gave one, else the digest of the code.
        plugin: The plug-in that registered it, for people; not part of a fingerprint.
    """

    kind: Kind
    name: str
    code: str
    plugin: str

    @property
    def label(self) -> str:
        """How records and messages call it."""
        return f"{self.kind} {self.name}"


_IDENTITIES: dict[tuple[Kind, str], Identity] = {}


def record_identity(identity: Identity) -> None:
    """Record what a name stands for in this process, in place of what it stood for before."""
    _IDENTITIES[identity.kind, identity.name] = identity


def forget_identity(kind: Kind, name: str) -> None:
    """Forget what a name stood for: it is the project's own, or nobody's."""
    _IDENTITIES.pop((kind, name), None)


def recorded_identities() -> tuple[Identity, ...]:
    """Return the identities of everything that plug-ins have registered in this process."""
    return tuple(_IDENTITIES.values())


def of_model(model: ModelSpec) -> Iterator[Identity]:
    """Yield the identities of the network and the strategy that a network's settings name."""
    yield from _recorded(("network", model.name), ("strategy", model.aggregation))


def of_trial(spec: TrialSpec) -> Iterator[Identity]:
    """Yield the identities of all that the spec of a training names."""
    yield from of_model(spec.model)
    yield from _recorded(("data set", spec.data.name))


def of_intervention(intervention: Intervention) -> Iterator[Identity]:
    """Yield the identity of the strategy that an intervention names."""
    yield from _recorded(("strategy", intervention.aggregation))


def _recorded(*wanted: tuple[Kind, str | None]) -> Iterator[Identity]:
    for kind, name in wanted:
        if name is not None and (kind, name) in _IDENTITIES:
            yield _IDENTITIES[kind, name]


def in_fingerprint(identities: Iterable[Identity]) -> dict[str, dict[str, str]]:
    """Return what a fingerprint takes in beside the rest: nothing where no plug-in is named.

    Without plug-ins the fingerprint must be what it was before plug-ins had identities, so the key is left out.
    """
    codes = {identity.label: identity.code for identity in identities}
    return {"plugins": codes} if codes else {}


def as_json(identities: Iterable[Identity]) -> dict[str, dict[str, str]]:
    """Return identities as JSON, by label: `code` and `plugin`."""
    return {identity.label: {"code": identity.code, "plugin": identity.plugin} for identity in identities}


@dataclass(frozen=True)
class PluginChange:
    """A plug-in that is not what it was.

    Attributes:
        label: What it registers: `strategy top2`.
        before: `code` and `plugin` then, or `None` if that was not recorded.
        now: The same now, or `None` if nothing is registered by a plug-in under the name.
    """

    label: str
    before: Mapping[str, Any] | None
    now: Mapping[str, Any] | None

    def __str__(self) -> str:
        plugin = (self.now or self.before or {}).get("plugin", "unknown")
        what = f"{self.label} (plug-in {plugin})"
        if self.before is None:
            return f"{what} was measured before the code of plug-ins was recorded"
        if self.now is None:
            return f"{what} is not registered by a plug-in now"
        return f"{what} has changed since: {_shown(self.before)} → {_shown(self.now)}"


def _shown(recorded: Mapping[str, Any]) -> str:
    code = str(recorded.get("code", "unknown"))
    return code if code.startswith("version ") else f"code {code[:_SHOWN]}"


def changes(before: Any, now: Any) -> list[PluginChange]:
    """Return which plug-ins differ between two records that `as_json` wrote; what is no such record has none."""
    old, new = (record if isinstance(record, Mapping) else {} for record in (before, now))
    labels = dict.fromkeys([*new, *old])
    return [PluginChange(key, old.get(key), new.get(key)) for key in labels if _code(old, key) != _code(new, key)]


def _code(record: Mapping[str, Any], label: str) -> Any:
    entry = record.get(label)
    return entry.get("code") if isinstance(entry, Mapping) else None


def check_unchanged(before: Any, now: Any) -> None:
    """Hold the plug-ins of a plan against those of the process that carries it out.

    Raises:
        PluginError: They differ.
    """
    differing = changes(before, now)
    if differing:
        listed = "; ".join(
            f"{change.label} (plug-in {(change.before or change.now or {}).get('plugin', 'unknown')})"
            for change in differing
        )
        raise PluginError(
            f"plug-ins are not the same here as where this was planned: {listed}. Either they were changed since, or "
            "this machine has another copy of them, or what they compute is not the same in each process (a random "
            "number or a time in a constant; register it with version= then). Run the study again."
        )
