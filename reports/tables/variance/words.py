"""This module says in words what a study of variances measures and shows."""

from __future__ import annotations

from ablations.study import Study
from reports.analysis.summary import StudySummary
from reports.analysis.variance import Quantity, SourceVariance, variance_ratio, variance_shares
from reports.content.formatting import number
from reports.content.plan_words import short_titles

SHARE_DECIMALS = 2

VARIANCES = (
    "In a study of variances the reference lets every source of randomness vary from repeat to repeat, and each other "
    "row lets some vary while the others are fixed at one seed. A share is the row's variance over that of the "
    "reference, with the interval of Fisher's F; that of the sum has Satterthwaite's degrees of freedom, and that of a "
    "standard deviation is of chi-square. They say what other seeds would have given, for roughly normal values. A row "
    "keeps what its source does together with the fixed ones. So the shares sum to 1 if the sources act independently, "
    "and to more if any of them alone takes a training elsewhere. The values at which the others are fixed are one "
    "choice, which no interval covers. Means of the rows are not compared: a row has fixed what the reference has not, "
    "and its repeats are no pairs with those of the reference."
)


def width_words(repeats: int) -> str:
    """Return how well so many repeats know a share: the interval around a share of 1."""
    # Both ends are multiples of the ratio that depend on the repeats alone, so that one example tells all.
    around_one = variance_ratio([1.0], repeats - 1, 1.0, repeats - 1)
    low, high = number(around_one.low, SHARE_DECIMALS), number(around_one.high, SHARE_DECIMALS)
    return (
        f"With {repeats} repeats per row a share of 1 has the interval [{low}, {high}]: "
        "a variance takes many more repeats than a mean."
    )


def variance_reading(study: Study, summary: StudySummary) -> str:
    """Return a reading of the table: the widest and the narrowest source, and what the sources are together."""
    shares, titles = variance_shares(study, summary), short_titles(study)
    known = [source for source in shares.rows if source.share.is_known]
    if not known:
        return f"No share of the variance of “{titles[study.reference]}” can be given yet."
    known.sort(key=lambda source: source.share.value)
    clauses = [
        f"“{titles[known[-1].row.variant]}” has the largest share of the variance of “{titles[study.reference]}”, "
        f"{_share_words(known[-1])}"
    ]
    if len(known) > 1:
        clauses.append(f"“{titles[known[0].row.variant]}” the smallest, {_share_words(known[0])}")
    sentences = ["; ".join(clauses) + "."]
    differing = [f"“{titles[source.row.variant]}”" for source in known if _excludes_one(source.share)]
    if differing:
        sentences.append(f"The interval excludes an equal variance for {', '.join(differing)}.")
    else:
        sentences.append("No interval excludes that a source alone spreads as widely as all of them together.")
    if shares.total.is_known:
        sentences.append(_total_words(shares.total))
    return " ".join(sentences)


def _share_words(source: SourceVariance) -> str:
    share = source.share
    words = number(share.value, SHARE_DECIMALS)
    if share.has_interval:
        words += f" [{number(share.low, SHARE_DECIMALS)}, {number(share.high, SHARE_DECIMALS)}]"
    return words


def _excludes_one(quantity: Quantity) -> bool:
    return quantity.has_interval and not quantity.low <= 1 <= quantity.high


def _total_words(total: Quantity) -> str:
    words = f"Together the single sources have {number(total.value, SHARE_DECIMALS)} times the variance"
    if not total.has_interval:
        return f"{words}."
    interval = f"{words} [{number(total.low, SHARE_DECIMALS)}, {number(total.high, SHARE_DECIMALS)}]"
    if total.low > 1:
        return f"{interval}, more than the whole: the sources interact, and each alone takes a training elsewhere."
    if total.high < 1:
        return f"{interval}, less than the whole: they vary less at the seeds where the others are fixed."
    return f"{interval}, which is in line with sources that act independently, as far as so many repeats tell."
