"""Fingerprints: SHA-256 of the canonical JSON of a whole resolved spec.

Everything that can change a result is in it, defaults included; where the data lie is not, what they contain is. What
a plug-in has registered is in it by its identity (`ablations.spec.identities`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ablations.spec.identities import in_fingerprint, of_intervention, of_model, of_trial
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

    What does not depend on the seed is written once; a plan has many repeats.
    """
    groups = spec.model_dump(mode="json", by_alias=True, exclude=_NOT_PART_OF_THE_RESULT)
    of_spec = {name: canonical_json(group) for name, group in groups.items()}
    whole = {"kind": "trial", "spec_version": SPEC_VERSION, "data_digest": spec.data.facts.digest}
    whole |= in_fingerprint(of_trial(spec))
    around = {name: canonical_json(value) for name, value in whole.items()}
    for seed in seeds:
        text = _joined({**around, "spec": _joined({**of_spec, "seed": canonical_json(seed)})})
        yield _sha256(text)


def _joined(members: Mapping[str, str]) -> str:
    """Return the canonical JSON of an object from that of its members; the names are plain words."""
    return "{" + ",".join(f'"{name}":{members[name]}' for name in sorted(members)) + "}"


def evaluation_fingerprint(trial: str, intervention: Intervention) -> str:
    """Return the fingerprint of an evaluation of the trial whose fingerprint is `trial`."""
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
    """Return the fingerprint of counting and timing a network on images of a data set's size."""
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
    """Return of a spec as JSON, of this version or an earlier one, what its fingerprint is made of."""
    return {
        name: {key: value for key, value in group.items() if key not in _NOT_PART_OF_THE_RESULT.get(name, ())}
        if isinstance(group, Mapping)
        else group
        for name, group in spec.items()
    }


def spec_version_of(fingerprint: str, about: Mapping[str, Any]) -> int | None:
    """Return the spec version with which a trial or an evaluation was fingerprinted, or `None` if none fits.

    Args:
        fingerprint: The fingerprint.
        about: What was described then: `kind`, `spec`, `data_digest` and, of an evaluation, `trial`, `intervention`;
            `plugins` where plug-ins were named, as `identities.as_json` writes them.
    """
    parts = {"trial": ("data_digest", "spec"), "evaluation": ("trial", "intervention")}.get(about["kind"], ())
    whole = {"kind": about["kind"], **{part: about[part] for part in parts}}
    if "spec" in whole:
        whole["spec"] = what_counts(whole["spec"])
    codes = _codes(about)
    if codes:
        whole["plugins"] = codes
    versions = range(SPEC_VERSION, 0, -1) if parts else ()
    return next((n for n in versions if digest({**whole, "spec_version": n}) == fingerprint), None)


def _codes(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return which identities are in the fingerprint of a described node: an evaluation leaves its training's out."""
    recorded = about.get("plugins")
    if not isinstance(recorded, Mapping):
        return {}
    codes = {label: entry.get("code") for label, entry in recorded.items() if isinstance(entry, Mapping)}
    if about["kind"] != "evaluation":
        return codes
    own = f"strategy {about['intervention'].get('aggregation')}"
    return {label: code for label, code in codes.items() if label == own}
