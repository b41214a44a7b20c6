"""A fingerprint names a result: it is the SHA-256 of the canonical JSON of a whole resolved spec.

Everything that can change a result is in it, defaults included: the content of the data, but not their folder. Code of
plug-ins is in it by its identity (`ablations.spec.identities`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ablations.spec.identities import in_fingerprint, of_intervention, of_model, of_trial
from ablations.spec.inspected import CheckpointFile, NetworkSpec, identity_of
from ablations.spec.parts import SPEC_VERSION, Intervention
from ablations.spec.trial import TrialSpec

SHORT = 12
"""Digits of a fingerprint that a person reads; folders and tags carry all of them."""

_NOT_PART_OF_THE_RESULT = {"data": {"root", "download", "workers"}, "train": {"devices"}}


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, 64 hexadecimal digits."""
    return _sha256(canonical_json(value))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def trial_fingerprint(spec: TrialSpec) -> str:
    """Return the fingerprint of a trial."""
    return next(trial_fingerprints(spec, [spec.seed]))


def trial_fingerprints(spec: TrialSpec, seeds: Iterable[int]) -> Iterator[str]:
    """Yield the fingerprints of a trial's repeats: those of `spec` with each of `seeds` in place of its own.

    The JSON that does not depend on the seed is written once, as a plan has many repeats.
    """
    # By alias, as users write placements (`not`, `any`), and without what cannot change a result.
    groups = spec.model_dump(mode="json", by_alias=True, exclude=_NOT_PART_OF_THE_RESULT)
    of_spec = {name: canonical_json(group) for name, group in groups.items()}
    constant = {"kind": "trial", "spec_version": SPEC_VERSION, "data_digest": spec.data.facts.digest}
    constant |= in_fingerprint(of_trial(spec))
    around = {name: canonical_json(value) for name, value in constant.items()}
    for seed in seeds:
        text = _joined({**around, "spec": _joined({**of_spec, "seed": canonical_json(seed)})})
        yield _sha256(text)


def _joined(members: Mapping[str, str]) -> str:
    """Return the canonical JSON of an object from that of its members; names must need no escapes."""
    return "{" + ",".join(f'"{name}":{members[name]}' for name in sorted(members)) + "}"


def network_fingerprint(spec: NetworkSpec, file: CheckpointFile) -> str:
    """Return the fingerprint of a network that was trained elsewhere, measured on the test split."""
    return digest(
        {
            "kind": "network",
            "spec_version": SPEC_VERSION,
            "data_digest": spec.data.facts.digest,
            "spec": what_counts(spec.model_dump(mode="json", by_alias=True)),
            "checkpoint": file.identity,
            **in_fingerprint(of_trial(spec)),
        }
    )


def evaluation_fingerprint(trial: str, intervention: Intervention) -> str:
    """Return the fingerprint of an evaluation of the network whose trial or file has the fingerprint `trial`."""
    return digest(
        {
            "kind": "evaluation",
            "spec_version": SPEC_VERSION,
            "trial": trial,
            "intervention": intervention.model_dump(mode="json", by_alias=True),
            **in_fingerprint(of_intervention(intervention)),
        }
    )


def cost_fingerprint(spec: TrialSpec) -> str:
    """Return the fingerprint of counting and timing a network on images of a data set's size.

    Only the shape of the data is in it, as nothing is trained.
    """
    # Not the digest of the data: the cost is the same for any images of that size.
    facts = spec.data.facts
    return digest(
        {
            "kind": "cost",
            "spec_version": SPEC_VERSION,
            "classes": facts.num_classes,
            "input": [facts.channels, facts.image_size, facts.image_size],
            "model": spec.model.model_dump(mode="json", by_alias=True),
            **in_fingerprint(of_model(spec.model)),
        }
    )


def what_counts(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a spec's JSON, of this version or an earlier one, from which its fingerprint is made."""
    members = dict(spec)
    for name, settings in _NOT_PART_OF_THE_RESULT.items():
        if isinstance(members.get(name), Mapping):
            members[name] = {key: value for key, value in members[name].items() if key not in settings}
    return members


_MEMBERS = {
    "trial": ("data_digest", "spec"),
    "network": ("data_digest", "spec", "checkpoint"),
    "evaluation": ("trial", "intervention"),
}
"""The members of a description that are part of the fingerprint of its kind."""


def spec_version_of(fingerprint: str, about: Mapping[str, Any]) -> int | None:
    """Return the spec version with which a trial, network or evaluation was fingerprinted, or `None` if none fits.

    Args:
        about: The description of the node: `kind`, `spec`, `data_digest`, of a network that was trained elsewhere
            `checkpoint` and, of an evaluation, `trial`, `intervention`; `plugins` where plug-ins were named, as
            `identities.as_json` writes them.
    """
    members = _MEMBERS.get(about["kind"])
    if members is None:
        return None
    content = {"kind": about["kind"], **{member: about[member] for member in members}}
    if "spec" in content:
        content["spec"] = what_counts(content["spec"])
    if "checkpoint" in content:
        content["checkpoint"] = identity_of(content["checkpoint"])
    # Left out if empty, as in `identities.in_fingerprint`.
    codes = _codes(about)
    if codes:
        content["plugins"] = codes
    # The version is not recorded beside the fingerprint, so each is tried, the newest first.
    for version in range(SPEC_VERSION, 0, -1):
        if digest({**content, "spec_version": version}) == fingerprint:
            return version
    return None


def _codes(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identities in the fingerprint of a described node: an evaluation leaves those of its training out."""
    recorded = about.get("plugins")
    if not isinstance(recorded, Mapping):
        return {}
    codes = {label: entry.get("code") for label, entry in recorded.items() if isinstance(entry, Mapping)}
    if about["kind"] != "evaluation":
        return codes
    # The fingerprint of the training, which is in that of the evaluation, has the other identities.
    strategy_label = f"strategy {about['intervention'].get('aggregation')}"
    return {label: code for label, code in codes.items() if label == strategy_label}
