"""Builds the terminal tables of `list`, `plan` and lint. Imports neither torch nor mlflow: the verbs answer at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ablations.invocation import suggested_command
from ablations.planning.lint import Lint
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.registry import available_studies, get_study
from ablations.spec.fingerprint import SHORT
from ablations.spec.layers import BUILT_IN_LAYERS, LAYERS
from ablations.spec.names import BUILT_IN_NETWORKS, NETWORKS, static_convolutions
from ablations.spec.parts import BLOCKS, ModelSpec
from ablations.spec.titles import model_title
from ablations.study import Study

_MOST_ALIKE = 3
"""The most lints of one kind in one study that are shown."""


_WIDE = 110
"""Columns of a terminal with room for all that a table has; a narrower one gets what matters most."""


class StudyCounts(NamedTuple):
    """The rows and seeds of one study, and the nodes that it needs alone with those of them that are done."""

    rows: int
    seeds: int
    trainings: int
    trainings_done: int
    evaluations: int
    evaluations_done: int


def study_overview(request: Request, width: int = 120) -> RenderableType:
    """Return a table of all studies: question, variants, trainings needed alone, published table.

    Args:
        width: Columns of the terminal; in a narrow one there is no room for the published table and for evaluations.
    """
    is_wide = width >= _WIDE
    table = Table(title=f"Studies (trainings at preset {request.preset.name}, before sharing)", title_justify="left")
    if not is_wide:
        # Without lines between columns there is more room for the questions.
        table.box, table.show_edge, table.pad_edge, table.padding = SIMPLE_HEAD, False, False, (0, 1, 0, 0)
    table.add_column("study", no_wrap=True)
    table.add_column("question", overflow="fold")
    if is_wide:
        table.add_column("published table", overflow="fold")
    for heading in ("variants", "trainings", "evaluations")[: 3 if is_wide else 2]:
        table.add_column(heading, justify="right")
    base = request.base()
    plan = make_plan([get_study(name, base) for name in available_studies()], request)
    for study in plan.studies:
        # What each study needs alone: the rows add up to more than the shared plan below the table.
        counts = study_counts(plan, study.name)
        cells = [study.name, study.question]
        numbers = [counts.rows, counts.trainings]
        if is_wide:
            cells.append(study.published or "–")
            numbers.append(counts.evaluations)
        table.add_row(*map(Text, cells), *map(str, numbers))
    return Group(
        table, Text(f"All together: {_sharing(plan)}"), Text(f"One in full: {suggested_command('list', ['STUDY'])}")
    )


def plan_overview(plan: Plan) -> RenderableType:
    """Return a table of a plan: rows, seeds, nodes and done nodes of each study, with remarks and the nodes to do."""
    table = Table(title=f"Plan at preset {plan.request.preset.name}", title_justify="left")
    table.add_column("study", overflow="fold")
    for heading in ("rows", "seeds", "trainings", "done", "evaluations", "done"):
        table.add_column(heading, justify="right")
    for study in plan.studies:
        table.add_row(Text(study.name), *map(str, study_counts(plan, study.name)))
    blocks: list[RenderableType] = [table, Text(_sharing(plan))]
    if plan.left_out:
        blocks.append(Text(f"Left out, as nothing reads what they vary: {', '.join(plan.left_out)}."))
    blocks += map(Text, (*network_remarks(plan), *data_remarks(plan), *static_remarks(plan)))
    blocks += [Text(_rows_asked(study)) for study in plan.studies if study.before_rows is not None]
    if plan.canaries:
        blocks.append(Text(_canary(plan)))
    if plan.tuned:
        blocks.append(_tuned(plan))
    return Group(*blocks, Text(todo_words(plan)))


def row_overview(plan: Plan) -> Table:
    """Return a table of the rows of a plan: the seeds of each, and how many of them are done."""
    table = Table(title="Rows", title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("study", "row", "measures"):
        table.add_column(heading, overflow="fold")
    for heading in ("seeds", "done"):
        table.add_column(heading, justify="right")
    for study in plan.studies:
        for network in study.inspected:
            for variant in study.variants:
                cells = plan.cells_of_row(study.name, network.name if network else "", variant.name)
                done = sum(cell.fingerprint in plan.done for cell in cells)
                # All seeds of a row measure the same.
                subject = re.sub(r" · seed \d+", "", plan.node(cells[0].fingerprint).title)
                table.add_row(Text(study.name), Text(cells[0].key), Text(subject), str(len(cells)), str(done))
    return table


def todo_words(plan: Plan) -> str:
    """Return a sentence on the nodes of a plan that are still to be run."""
    todo = f"To do: {len(plan.missing_trials)} trainings, {len(plan.missing_evaluations)} evaluations"
    if plan.missing_networks:
        count = len(plan.missing_networks)
        todo += f", {count} network{'s' if count > 1 else ''} to load and measure"
    if plan.missing_costs:
        todo += f", {len(plan.missing_costs)} networks to count and time"
    return f"{todo}."


def network_remarks(plan: Plan) -> tuple[str, ...]:
    """Return a remark on each network that was trained elsewhere: its file, its digest, and what it is taken for."""
    remarks: list[str] = []
    for node in plan.networks.values():
        file = node.file
        temperature = "" if file.temperature is None else f", τ={file.temperature:g}"
        remarks.append(
            f"Trained elsewhere: {file.path} (SHA-256 {file.sha256[:SHORT]}), taken for "
            f"{model_title(node.spec.model)}{temperature}."
        )
    return tuple(remarks)


def data_remarks(plan: Plan) -> tuple[str, ...]:
    """Return a remark on each data set some of whose image files are left out, a sentence each."""
    remarks: dict[str, None] = {}
    for facts in plan.data_facts:
        if facts.left_out:
            used = facts.train_images + facts.validation_images + facts.test_images
            remarks[f"Data: {facts.title}, {used:,} image files are used; {facts.left_out}."] = None
    return tuple(remarks)


def static_remarks(plan: Plan) -> tuple[str, ...]:
    """Return the layers that dynamic variants of the project's own networks leave static, a sentence each.

    Other networks, and other layer kinds than the project's, must be built to know theirs:
    `runners.cli.plan.describe_conversion`.
    """
    # Dictionaries rather than sets, as they keep the order of the plan.
    by_rule: dict[str, dict[str, None]] = {}
    by_kind: dict[str, dict[str, None]] = {}
    chosen: dict[ModelSpec, None] = {}
    for node in plan.network_nodes:
        model = node.spec.model
        if model.is_static or model.name not in BUILT_IN_NETWORKS or model.layer not in BUILT_IN_LAYERS:
            continue
        words = LAYERS[model.layer].cannot_replace
        if words:
            by_kind.setdefault(f"{words} of {NETWORKS[model.name].title}", {})[model.layer] = None
        if model.where == BLOCKS:
            counts = static_convolutions(model.name, model.depth, model.squeeze_excitation)
            layers = _joined([_ROLE_WORDS[role].format(count) for role, count in counts.items()])
            prefix = "SE-" if model.squeeze_excitation else ""
            by_rule.setdefault(layers, {})[prefix + NETWORKS[model.name].title] = None
        else:
            # No rule names the layers that a `model.where` leaves static, so these networks are only counted.
            chosen[model] = None
    remarks: list[str] = []
    if by_rule:
        layer_lists = [f"{layers} of {_joined(list(titles))}" for layers, titles in by_rule.items()]
        remarks.append(f"Static by the paper's rule: {'; '.join(layer_lists)}; classifiers.")
    for layers, kinds in by_kind.items():
        remarks.append(f"Static because layer {_joined(list(kinds))} cannot replace them: {layers}.")
    if chosen:
        networks = "1 network"
        if len(chosen) > 1:
            networks = f"{len(chosen)} networks"
        remarks.append(f"Static because its model.where does not mean them: the other convolutions of {networks}.")
    return tuple(remarks)


_ROLE_WORDS = {
    "stem": "the stem",
    "head": "the last 1x1 convolution",
    "squeeze_excitation": "{} convolutions of squeeze-and-excitation gates",
}


def _joined(words: Sequence[str]) -> str:
    # The filter is for a single word, before which nothing stands.
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _tuned(plan: Plan) -> Table:
    table = Table(title="Tuned settings", title_justify="left")
    for heading in ("study", "variant", "setting"):
        table.add_column(heading, overflow="fold")
    for heading in ("was", "tuned to", "trials"):
        table.add_column(heading, justify="right")
    for (study, key), entry in plan.tuned.items():
        for setting, value in entry.values.items():
            texts = (study, key, setting, shown(entry.base.get(setting)), shown(value), str(entry.spent.trials))
            table.add_row(*map(Text, texts))
    return table


def shown(value: Any) -> str:
    """Return a value as text; a float in four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def lint_overview(lints: Sequence[Lint], *, with_allowed: bool) -> RenderableType:
    """Return the lints that are not allowed, a line each; with `with_allowed` also the allowed ones and why."""
    warnings = [lint for lint in lints if not lint.is_allowed]
    lines = list(_warnings(warnings))
    if with_allowed:
        lines += _allowed(lints)
    if warnings:
        lines.append("docs/lint.md says what each is about, and how a study allows one that is meant.")
    return Group(*map(Text, lines))


def _warnings(lints: Iterable[Lint]) -> Iterator[str]:
    by_code: dict[tuple[str, str], list[Lint]] = {}
    for lint in lints:
        by_code.setdefault((lint.study, lint.code), []).append(lint)
    for (study, code), lints_of_code in by_code.items():
        for lint in lints_of_code[:_MOST_ALIKE]:
            yield f"lint {code} in {study}: {lint.message}"
        if len(lints_of_code) > _MOST_ALIKE:
            yield f"lint {code} in {study}: … and {len(lints_of_code) - _MOST_ALIKE} more"


def _allowed(lints: Iterable[Lint]) -> Iterator[str]:
    by_reason: dict[tuple[str, str], dict[str, None]] = {}
    for lint in lints:
        if lint.is_allowed:
            by_reason.setdefault((lint.code, lint.reason), {})[lint.study] = None
    for (code, reason), studies in by_reason.items():
        yield f"Lint {code} is allowed in {', '.join(studies)}: {reason}."


def study_counts(plan: Plan, study: str) -> StudyCounts:
    """Return the rows, seeds and nodes of one study of a plan."""
    cells = plan.cells_of(study)
    trials: set[str] = set()
    evaluations: set[str] = set()
    for cell in cells:
        if cell.fingerprint in plan.evaluations:
            evaluations.add(cell.fingerprint)
            # A study needs the trainings of its evaluations, too, also where no cell shows them.
            if plan.evaluations[cell.fingerprint].file is None:
                trials.add(plan.evaluations[cell.fingerprint].checkpoint)
        elif cell.fingerprint in plan.costs or cell.fingerprint in plan.networks:
            # Counts of a network, and what was trained elsewhere, are in the column of evaluations: no training.
            evaluations.add(cell.fingerprint)
        elif cell.fingerprint in plan.trials:
            trials.add(cell.fingerprint)
    return StudyCounts(
        rows=len({(cell.network, cell.variant) for cell in cells}),
        seeds=len({cell.seed for cell in cells}),
        trainings=len(trials),
        trainings_done=len(trials & plan.done),
        evaluations=len(evaluations),
        evaluations_done=len(evaluations & plan.done),
    )


def _rows_asked(study: Study) -> str:
    """Return a sentence on the rows of a study of which some were asked for."""
    assert study.before_rows is not None
    names = [variant.name for variant in study.variants if variant.name != study.reference]
    listed = ", ".join([*names, f"{study.reference} (the reference)"])
    if study.networks:
        listed += f"; on {', '.join(study.inspect)}"
    return f"Rows of {study.name}, {study.row_count} of {study.before_rows.row_count}: {listed}."


def _canary(plan: Plan) -> str:
    trials: set[str] = set()
    seeds: set[int] = set()
    for cell in plan.canaries:
        seeds.add(cell.seed)
        # The plan of a retry has cells without a node.
        trials.add(plan.node(cell.fingerprint).checkpoint if plan.has(cell.fingerprint) else cell.fingerprint)
    seed_names = f"seed {min(seeds)}"
    if len(seeds) > 1:
        seed_names = f"seeds {min(seeds)} to {max(seeds)}"
    count = "1 training is a canary"
    if len(trials) > 1:
        count = f"{len(trials)} trainings are canaries"
    return f"Of these, {count}: the reference of a study again, under {seed_names}."


def _sharing(plan: Plan) -> str:
    if plan.networks and not plan.trials:
        return f"Nothing is trained: {len(plan.evaluations)} evaluations of networks that were trained elsewhere."
    return (
        f"{len(plan.trials)} trainings and {len(plan.evaluations)} evaluations; one training per table row and seed "
        f"would be {plan.trainings_without_sharing}."
    )
