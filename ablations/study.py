"""This module defines a study: one question as data, with its variants, its claims and its size at each preset.

The built-in studies are in `ablations.studies`; `ablations.planning` makes a plan of a study and what a user asks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from ablations.claims import Claim, Contrast
from ablations.errors import SpecError, StudyError, UnknownNameError
from ablations.factorial.declaration import Factorial
from ablations.factorial.design import NONE
from ablations.metrics import METRICS, MetricFacts
from ablations.presets import PRESETS
from ablations.published import PublishedTable, get_published
from ablations.spec.factors import NEVER_NUISANCE, Factor, check_factor
from ablations.spec.names import LINTS
from ablations.spec.parts import Frozen, PositiveFloat
from ablations.spec.settings import SOURCES, flatten, varied_sources
from ablations.variants import Changes, InspectedNetwork, MisplacedError, Name, Reason, Scale, Text, Variant
from ablations.vocabulary import COST_METRICS, STUDY_METRICS, TEST_TOP1

__all__ = ["InspectedNetwork", "Scale", "Study", "Variant"]


class Study(Frozen):
    """One question: a baseline, variants of it, and the rules by which they are compared.

    Attributes:
        name: Short name for the command line.
        baseline: Settings that all variants share, over those of the preset.
        factorial: Factors whose combinations are the variants, which are then left out, as are `columns`. The reference
            is the combination in which all are off, unless the study says otherwise.
        variants: The rows of the table.
        networks: For an evaluation-only study, the trained networks it can inspect.
        inspect: Names of the networks it does inspect.
        columns: Headings of the columns that describe a row instead of its label, for example one per resolution.
        across: One of the columns, whose values the table sets side by side; the others describe its rows. `None` for
            the layout of the published table (`laid_across`).
        metric: The metric that judges the variants, one of `vocabulary.STUDY_METRICS`.
        size_of_interest: The smallest difference that matters, in the unit of the metric, for the report's advice on
            seeds; `None` is 1 point of accuracy, or a tenth of any other metric's unit (`smallest_of_interest`).
        published: Name of the published table beside which ours stands.
        finding: The paper's conclusion, in our words.
        claims: The published findings that our runs are held against. One of them is primary, the first if none says
            so.
        scales: The form of the study by preset.
        equal_size: Whether all variants are compared as networks of about as many parameters, which is then checked.
        selects: Whether the best variant is kept for later use, so that the test split must not decide which it is.
        compares: `means`, or `variances` for a study of where the spread between repeats comes from. Its reference
            varies several sources of randomness together and every other row some of them, while the row's own
            settings fix the others (`spec.settings.SOURCES`); no difference of means is taken.
        with_cost: Whether the network of each variant is counted and timed as well as trained, for a table of costs
            and the figure of the metric against multiply-adds.
        allow: Lints that are meant (`names.LINTS`), each with the reason.
        nuisance: The factors that `tune` tunes for each variant, by setting; `None` for learning rate, weight decay and
            warm-up around the variant's own. Settings of variants are scientific and cannot be among them; all others
            are fixed.
    """

    name: Name
    title: Name
    question: Text
    # Before the variants, so that what is wrong with it is said before variants that could not be made of it.
    factorial: Factorial | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, strict=False)]
    reference: Name
    baseline: Changes = Field(default_factory=dict)
    networks: Annotated[tuple[InspectedNetwork, ...], Field(strict=False)] = ()
    inspect: Annotated[tuple[str, ...], Field(strict=False)] = ()
    columns: Annotated[tuple[str, ...], Field(strict=False)] = ()
    across: str | None = None
    metric: str = TEST_TOP1
    seeds: Annotated[int, Field(ge=1, le=1000)] | None = None
    size_of_interest: PositiveFloat | None = None
    published: str | None = None
    finding: str | None = None
    claims: Annotated[tuple[Claim, ...], Field(strict=False)] = ()
    scales: dict[str, Scale] = Field(default_factory=dict)
    equal_size: bool = False
    selects: bool = False
    with_cost: bool = False
    compares: Literal["means", "variances"] = "means"
    allow: dict[str, Reason] = Field(default_factory=dict)
    nuisance: dict[str, Factor] | None = None
    _whole: Study | None = PrivateAttr(default=None)
    _before_rows: Study | None = PrivateAttr(default=None)
    _on_checkpoint: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _made_by_factorial(cls, data: Any) -> Any:
        """Add the variants that a factorial stands for."""
        if not isinstance(data, dict) or data.get("factorial") is None:
            return data
        try:
            factorial = Factorial.model_validate(data["factorial"])
        except ValidationError:
            # The field's own validation says what is wrong, with its location.
            return data
        reference = data.get("reference", NONE)
        made = {
            "reference": reference,
            "columns": factorial.columns,
            "variants": factorial.variants(str(reference)),
        }
        # A copy in a manifest has the variants as well, which are compared later.
        return {**made, **data}

    @field_validator("nuisance", mode="before")
    @classmethod
    def _by_setting(cls, nuisance: Any) -> Any:
        if not isinstance(nuisance, dict):
            return nuisance
        try:
            # Before the validation, as a nested group is no factor.
            return flatten(nuisance)
        except (SpecError, UnknownNameError) as error:
            raise ValueError(str(error)) from None

    @field_validator("nuisance")
    @classmethod
    def _can_be_tuned(cls, nuisance: dict[str, Factor] | None) -> dict[str, Factor] | None:
        for key, factor in (nuisance or {}).items():
            _check_factor(key, factor)
        return nuisance

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, metric: str) -> str:
        if metric not in STUDY_METRICS:
            # Pydantic gives a `ValueError` its location in the file; any other error would pass without one.
            raise ValueError(str(UnknownNameError("metric", metric, STUDY_METRICS)))
        return metric

    @field_validator("allow")
    @classmethod
    def _are_lints(cls, allow: dict[str, str]) -> dict[str, str]:
        for code in allow:
            if code not in LINTS:
                raise ValueError(str(UnknownNameError("lint", code, LINTS)))
        return allow

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_factorial()
        # Names come first, as the later checks refer to variants by name.
        variants = [variant.name for variant in self.variants]
        networks = [network.name for network in self.networks]
        _refuse_repeats("variant", variants, "variants")
        _refuse_repeats("network", networks, "networks")
        _refuse_repeats("inspected network", self.inspect, "inspect")
        _refuse_unknown("variant", self.reference, variants, ("reference",))
        for index, name in enumerate(self.inspect):
            _refuse_unknown("network", name, networks, ("inspect", index))
        # Without a name it would count as a study that trains its variants, see `inspected`.
        if self.networks and not self.inspect:
            raise MisplacedError(("inspect",), "names none of the networks")
        self._check_checkpoints()
        if self.with_cost and (self.networks or self.is_about_cost):
            raise MisplacedError(("with_cost",), "is for a study that trains its variants. Leave it out.")
        for index, variant in enumerate(self.variants):
            if len(variant.cells) != len(self.columns):
                reason = f"{len(variant.cells)} cells for {len(self.columns)} columns"
                raise MisplacedError(("variants", index, "cells"), f"variant {variant.name!r} has {reason}")
        self._check_across()
        # In the order in which they were written. As a dictionary, it is searched in constant time.
        names = dict.fromkeys(variants)
        self._check_claims(names)
        self._check_scales(names)
        self._check_nuisance()
        if self.compares_variances:
            self._check_sources()
        return self

    def _check_across(self) -> None:
        if self.across is None:
            return
        location = ("across",)
        _refuse_unknown("column", self.across, self.columns, location)
        if self.networks or self.is_about_cost or self.compares_variances:
            raise MisplacedError(location, "is for a study that compares the means of its trainings. Leave it out.")
        if len({variant.cells for variant in self.variants}) < len(self.variants):
            raise MisplacedError(location, "two variants have the same cells, and would share a place in the table.")

    def _check_factorial(self) -> None:
        if self.factorial is None:
            return
        if self.networks or self.is_about_cost:
            raise MisplacedError(("factorial",), "is for a study that trains its variants. Leave it out.")
        if self.variants != self.factorial.variants(self.reference):
            raise MisplacedError(("variants",), "a factorial makes the variants of its combinations. Leave them out.")
        if self.reference not in self.factorial.design.combinations:
            raise MisplacedError(("reference",), self.factorial.without_reference(self.reference))
        if self.columns != self.factorial.columns:
            raise MisplacedError(("columns",), "the columns of a factorial are its factors. Leave them out.")
        for preset, scale in self.scales.items():
            if scale.variants is not None:
                reason = "leaves out combinations that every effect needs. Give the factorial a fraction instead."
                raise MisplacedError(("scales", preset, "variants"), reason)

    @property
    def whole_factorial(self) -> Factorial | None:
        """The factorial, if the rows are still all its combinations; `None` where an override merged some."""
        if self.factorial is None:
            return None
        names = [variant.name for variant in self.variants]
        return self.factorial if names == list(self.factorial.design.combinations) else None

    def _check_checkpoints(self) -> None:
        for index, network in enumerate(self.networks):
            if network.checkpoint is None:
                continue
            location = ("networks", index, "checkpoint")
            if self.is_about_cost:
                raise MisplacedError(location, "a study about cost loads no network. Give settings of the model.")
            trained = self._first_trained_variant()
            if trained is not None:
                raise MisplacedError(location, _trains(trained))

    def _first_trained_variant(self) -> Variant | None:
        for variant in self.variants:
            if variant.changes:
                return variant
        return None

    def _check_nuisance(self) -> None:
        for key in self.nuisance or {}:
            # An inspected network is trained with its own changes, so these are scientific as well.
            for kind, rows in (("network", self.networks), ("variant", self.variants)):
                for row in rows:
                    if key in row.changes:
                        reason = f"{kind} {row.name!r} sets {key} itself, which makes it scientific. Tune it or set it."
                        raise MisplacedError(("nuisance", key), reason)

    def _check_sources(self) -> None:
        location = ("compares",)
        if self.networks or self.is_about_cost:
            raise MisplacedError(location, "variances are those of trainings. Leave networks and metrics of cost out.")
        for field in ("claims", "selects", "equal_size", "with_cost", "factorial"):
            if getattr(self, field):
                reason = f"the study compares variances, and {field} is about the means of its rows. Leave it out."
                raise MisplacedError((field,), reason)
        together = varied_sources({**self.baseline, **self.variant(self.reference).changes})
        if not together:
            reason = f"the reference {self.reference!r} fixes every source of randomness, so that nothing varies in it."
            raise MisplacedError(("reference",), reason)
        for index, variant in enumerate(self.variants):
            for key in variant.changes:
                if key not in SOURCES:
                    reason = (
                        f"variant {variant.name!r} sets {key}, and shares of a variance are of one and the same "
                        f"training. Put it into the baseline; a row sets only {', '.join(SOURCES)}."
                    )
                    raise MisplacedError(("variants", index), reason)
            varied = varied_sources({**self.baseline, **variant.changes})
            if variant.name != self.reference and not (varied and varied < together):
                listed = ", ".join(sorted(varied)) or "none"
                reason = (
                    f"variant {variant.name!r} varies {listed}, and the reference {', '.join(sorted(together))}. "
                    "Each row varies some of the sources of the reference, and not all of them."
                )
                raise MisplacedError(("variants", index), reason)

    def _check_claims(self, variants: Collection[str]) -> None:
        _refuse_repeats("claim", [claim.name for claim in self.claims], "claims")
        # A study without a primary claim is fine: its first claim takes the part.
        primary = [index for index, claim in enumerate(self.claims) if claim.primary]
        if len(primary) > 1:
            names = " and ".join(repr(self.claims[index].name) for index in primary)
            reason = f"a study has one primary claim, found {names}. Decide for one; the others are exploratory."
            raise MisplacedError(("claims", primary[1], "primary"), reason)
        for index, claim in enumerate(self.claims):
            for contrast in claim.contrasts:
                for name in contrast.variants:
                    _refuse_unknown("variant", name, variants, ("claims", index))

    def _check_scales(self, variants: Collection[str]) -> None:
        for preset, scale in self.scales.items():
            _refuse_unknown("preset", preset, list(PRESETS), ("scales", preset))
            for name in (*(scale.variants or ()), *scale.rows):
                _refuse_unknown("variant", name, variants, ("scales", preset))
            if scale.variants is not None and self.reference not in scale.variants:
                raise MisplacedError(("scales", preset), f"leaves out the reference {self.reference!r}. Keep it.")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values for some fields."""
        copy = super().model_copy(update=update, deep=deep)
        # Pydantic copies cached properties too, and a copy may have other variants.
        copy.__dict__.pop("_variants_by_name", None)
        copy.__dict__.pop("_changed_settings", None)
        return copy

    def at(self, preset: str) -> Study:
        """Return the study in its form at a preset."""
        scale = self.scales.get(preset)
        if scale is None:
            return self
        # A set, as the rows keep the order of the whole study, whatever order the scale names them in.
        names = frozenset(scale.variants or self._variants_by_name)
        variants: list[Variant] = []
        for variant in self.variants:
            if variant.name in names:
                # The variant's own changes are the question, so they win over the recipe of the preset.
                changes = {**scale.rows.get(variant.name, {}), **variant.changes}
                variants.append(variant.model_copy(update={"changes": changes}))
        scaled = self.model_copy(
            update={
                "variants": tuple(variants),
                # The scale is written for this preset, so it wins over what holds at any.
                "baseline": {**self.baseline, **scale.baseline},
                "seeds": scale.seeds or self.seeds,
                # A study that was cut down must not be cut down again.
                "scales": {},
            }
        )
        # A cut must not change what the study is about, see `scientific`.
        scaled._whole = self
        return scaled

    @property
    def whole(self) -> Study:
        """The study before a preset cut it down; itself if none did."""
        return self._whole or self

    def with_rows(self, variants: Collection[str], networks: Collection[str]) -> Study:
        """Return this study with some of its rows: each of these variants on each of these inspected networks.

        The reference comes along, since every other row is held against it. All rows together are the study itself.

        Args:
            variants: Names of variants.
            networks: Names of inspected networks; none for a study that trains its variants.
        """
        kept = [variant for variant in self.variants if variant.name in variants or variant.name == self.reference]
        inspect = tuple(name for name in self.inspect if name in networks)
        if len(kept) == len(self.variants) and inspect == self.inspect:
            return self
        part = self.model_copy(update={"variants": tuple(kept), "inspect": inspect})
        part._whole, part._before_rows = self.whole, self
        return part

    @property
    def row_count(self) -> int:
        """The number of rows: each variant on each network that is inspected."""
        return len(self.variants) * len(self.inspected)

    @property
    def before_rows(self) -> Study | None:
        """The study before a user asked for some of its rows; `None` if nobody did."""
        return self._before_rows

    def contrasts_of(self, claim: Claim) -> tuple[Contrast, ...]:
        """Return the contrasts by which a claim is judged with the rows that there are.

        A preset that leaves rows out asks what remains of a claim. Where a user asked for some rows, a claim is judged
        with all that it needs or not at all: what was not asked for must not decide by its absence.
        """
        contrasts = claim.contrasts_between(self._variants_by_name)
        if self._before_rows is not None and contrasts != self._before_rows.contrasts_of(claim):
            return ()
        return contrasts

    @property
    def scientific(self) -> frozenset[str]:
        """The settings that variants or inspected networks set, which are the subject of the study.

        The settings that a preset adds to single rows are their recipe and do not count.
        """
        return self.whole._changed_settings

    @cached_property
    def _changed_settings(self) -> frozenset[str]:
        settings: set[str] = set()
        for row in (*self.networks, *self.variants):
            settings.update(row.changes)
        return frozenset(settings)

    @property
    def inspected(self) -> tuple[InspectedNetwork | None, ...]:
        """The networks that are inspected, in order; a single `None` for a study that trains its variants."""
        by_name = {network.name: network for network in self.networks}
        return tuple(by_name[name] for name in self.inspect) or (None,)

    @property
    def primary_claim(self) -> Claim | None:
        """The claim that the study stands or falls with: the one that says so, or the first; `None` without claims."""
        for claim in self.claims:
            if claim.primary:
                return claim
        return next(iter(self.claims), None)

    @property
    def smallest_of_interest(self) -> float:
        """The smallest difference that matters, in the unit of the metric: its own, or that of the metric."""
        size = self.size_of_interest or self.metric_facts.usual_size
        # Of the metrics that a study may have, each has a usual size.
        assert size is not None
        return size

    @property
    def metric_facts(self) -> MetricFacts:
        """The facts about its metric."""
        return METRICS[self.metric]

    @property
    def published_table(self) -> PublishedTable | None:
        """The published table that it stands beside."""
        return get_published(self.published) if self.published else None

    @property
    def laid_across(self) -> str | None:
        """The column whose values its table sets side by side; `None` if each variant is a row."""
        across = self.across
        if across is None and self.published_table is not None:
            across = self.published_table.across
        # A study beside that table need not have its columns, and may put several networks beside each other instead.
        is_laid_out = across in self.columns and not (self.networks or self.is_about_cost or self.compares_variances)
        cells = {variant.cells for variant in self.variants}
        return across if is_laid_out and len(cells) == len(self.variants) else None

    @property
    def trains_nothing(self) -> bool:
        """True if its networks are counted, or were all trained elsewhere, so that it has no seeds."""
        if self.is_about_cost:
            return True
        return all(network is not None and network.checkpoint is not None for network in self.inspected)

    @property
    def is_on_checkpoint(self) -> bool:
        """True if the user put networks that were trained elsewhere in the place of its own."""
        return self._on_checkpoint

    @property
    def compares_variances(self) -> bool:
        """True if it asks where the spread between repeats comes from, and not how means differ."""
        return self.compares == "variances"

    @property
    def is_about_cost(self) -> bool:
        """True if its networks are counted and timed instead of trained."""
        return self.metric in COST_METRICS

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`.

        Raises:
            UnknownNameError: If there is none.
        """
        if name not in self._variants_by_name:
            raise UnknownNameError(f"variant of study {self.name!r}", name, list(self._variants_by_name))
        return self._variants_by_name[name]

    @cached_property
    def _variants_by_name(self) -> dict[str, Variant]:
        # Plans look for a variant for every row, so that a search through the list would be slow.
        return {variant.name: variant for variant in self.variants}

    def inspecting(self, names: Iterable[str]) -> Study:
        """Return this study looking into the networks called `names` instead."""
        # A network that is named twice would have each row of the table twice.
        chosen = tuple(dict.fromkeys(names))
        available = [network.name for network in self.networks]
        for name in chosen:
            if name not in available:
                raise UnknownNameError(f"network of study {self.name!r}", name, available)
        return self.model_copy(update={"inspect": chosen})

    def inspecting_checkpoints(self, networks: Sequence[InspectedNetwork], form: Study | None = None) -> Study:
        """Return this study looking into networks that were trained elsewhere.

        A study about cost loads none: it counts one network, whose settings become those of its baseline.

        Args:
            networks: The networks, each with its checkpoint.
            form: The form of this study on such a network, if its own variants are trainings.

        Raises:
            StudyError: If variants are trainings, or a network is to be counted beside another one.
        """
        form = form or self
        changes: dict[str, Any] = {"scales": {}, "seeds": None, "with_cost": False}
        if form.is_about_cost:
            if len(networks) > 1:
                raise StudyError(f"study {self.name!r} counts one network at a time. Name one checkpoint.")
            changes["baseline"] = {**form.baseline, **networks[0].changes}
        else:
            trained = form._first_trained_variant()
            if trained is not None:
                raise StudyError(
                    f"study {self.name!r}: {_trains(trained)} Leave this study out: only studies that change trained "
                    "networks, such as aggregation, can inspect one."
                )
            changes |= {"networks": tuple(networks), "inspect": tuple(network.name for network in networks)}
        copy = form.model_copy(update=changes)
        # Whoever makes the plan again begins with the study that was asked for.
        copy._whole, copy._on_checkpoint = self.whole, True
        return copy


def _trains(variant: Variant) -> str:
    changed = next(iter(variant.changes))
    return (
        f"variant {variant.name!r} is a training of its own (it sets {changed}), and a network that was trained "
        "elsewhere cannot be trained anew."
    )


def _check_factor(key: str, factor: Factor) -> None:
    try:
        check_factor(key, factor)
    except (SpecError, UnknownNameError) as error:
        raise MisplacedError((key,), str(error)) from None
    if key in NEVER_NUISANCE:
        raise MisplacedError((key,), f"{key} must be the same for all variants: it says how much each is given")
    if factor.options is not None:
        raise MisplacedError((key, "options"), "a nuisance factor is one setting. Give low and high, or choices.")


def _refuse_repeats(kind: str, names: Iterable[str], field: str) -> None:
    # A loop, as the error must name the position of the second one.
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise MisplacedError((field, index), f"{kind} {name!r} is defined twice")
        seen.add(name)


def _refuse_unknown(kind: str, name: str, candidates: Collection[str], location: tuple[str | int, ...]) -> None:
    if name not in candidates:
        raise MisplacedError(location, str(UnknownNameError(kind, name, candidates)))
