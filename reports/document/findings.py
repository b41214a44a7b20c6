"""This module answers on page 1: what holds, what does not and what is open, computed from the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablations.study import Study
from reports.analysis.claims import CONTRADICTED, PRACTICALLY_SAME, REPRODUCED, UNDECIDED, JudgedClaim, Verdict
from reports.analysis.schedule import Lead, lead_fact
from reports.collect.unlearned import quoted
from reports.content.blocks import Paragraph
from reports.content.formatting import number
from reports.content.plan_words import network_titles, plural

_LEADS: dict[Verdict, str] = {
    REPRODUCED: "Holds",
    CONTRADICTED: "Does not hold",
    PRACTICALLY_SAME: "No difference that matters",
    UNDECIDED: "Open",
}
"""The words in front of the sentence on each verdict, in the order of the sentences."""
_MOST_TOLD = 3
"""Most primary claims that a sentence names with their numbers; a reader remembers no more."""
_MOST_NAMED = 3
"""Most exploratory claims that a sentence names."""


def findings(studies: Sequence[Study], claims: Sequence[JudgedClaim], leads: Sequence[Lead]) -> Iterator[Paragraph]:
    """Yield a sentence per verdict that occurs, primary claims first, and one on dynamic against static networks."""
    by_name = {study.name: study for study in studies}
    for verdict, lead in _LEADS.items():
        judged = [claim for claim in claims if claim.verdict == verdict]
        if judged:
            yield Paragraph(_sentence(by_name, judged), lead)
    if leads:
        yield Paragraph(f"{lead_fact(leads)}.", "Dynamic against static")


def _sentence(studies: dict[str, Study], judged: Sequence[JudgedClaim]) -> str:
    primary = _by_name([claim for claim in judged if claim.rank == "primary"])
    exploratory = _by_name([claim for claim in judged if claim.rank != "primary"])
    phrases = []
    for name, claims in list(primary.items())[:_MOST_TOLD]:
        results = "; ".join(_result(studies[claim.study], claim) for claim in claims)
        phrases.append(f"{quoted([name])} ({results})")
    if len(primary) > _MOST_TOLD:
        others = len(primary) - _MOST_TOLD
        phrases.append(f"{others} more primary {plural(others, 'claim')}")
    sentences = [_joined(phrases)] if phrases else []
    if exploratory:
        named = []
        for name, claims in list(exploratory.items())[:_MOST_NAMED]:
            named.append(quoted([name]) + _open_words(claims))
        words = ", ".join(named)
        if len(exploratory) > _MOST_NAMED:
            words += f" and {len(exploratory) - _MOST_NAMED} more"
        sentences.append(f"Exploratory: {words}" if phrases else f"Only exploratory claims: {words}")
    return ". ".join(sentences) + "."


def _open_words(claims: Sequence[JudgedClaim]) -> str:
    """Return why claims are open or what would decide them, in brackets; nothing where they are decided."""
    remarks = [_remark(claim) for claim in claims if claim.verdict == UNDECIDED and claim.remark]
    return f" ({'; '.join(dict.fromkeys(remarks))})" if remarks else ""


def _remark(claim: JudgedClaim) -> str:
    is_number = claim.seeds.needed and claim.remark == claim.seeds.words
    return f"{claim.remark} would tell" if is_number else claim.remark


def _by_name(claims: Sequence[JudgedClaim]) -> dict[str, list[JudgedClaim]]:
    """Return claims by their names: a claim is judged once per inspected network."""
    by_name: dict[str, list[JudgedClaim]] = {}
    for claim in claims:
        by_name.setdefault(claim.claim.name, []).append(claim)
    return by_name


def _result(study: Study, claim: JudgedClaim) -> str:
    """Return the deciding difference of a claim in words, such as `τ = 1: +0.99 points, 0.64 to 1.34`."""
    network = network_titles(study)[claim.network]
    words = f"{network}: " if network else ""
    decisive = claim.decisive
    if decisive is None or not decisive.difference.is_known:
        return words + claim.remark
    wording = study.metric_facts
    difference = decisive.difference
    words += f"{number(difference.mean, wording.decimals, signed=True)}{wording.unit}"
    if difference.has_interval:
        low, high = (number(end, wording.decimals, signed=True) for end in (difference.low, difference.high))
        words += f", {low} to {high}"
    # Of what is decided, the remark may say that the difference is small, which the numbers say already.
    if claim.verdict == UNDECIDED and claim.remark:
        words += f"; {_remark(claim)}"
    return words


def _joined(phrases: Sequence[str]) -> str:
    """Return `a, b and c`, with semicolons between phrases that have commas of their own."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{'; '.join(phrases[:-1])}; and {phrases[-1]}"
