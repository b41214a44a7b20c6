"""A study of one's own reads as one: nothing of it is called published, and its title may be a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablations.claims import Claim, Contrast
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.study import Study, Variant
from reports.content.blocks import Document, Facts, Figure, Paragraph, Table
from reports.content.plan_words import setting_words
from reports.render.html import html_text
from reports.render.latex.tables import table_latex
from reports.render.markdown import markdown_text
from reports.render.typst_data import as_json
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import document_of

QUESTION = "Does width help?"
WIDTH = Study(
    name="width",
    title=QUESTION,
    question="Is a wider network better?",
    finding="We expect it to be.",
    reference="narrow",
    variants=(Variant(name="narrow"), Variant(name="wide", changes={"model.width": 0.5})),
    claims=(
        Claim(
            name="wide is better",
            statement="Half the width is better than a third.",
            contrasts=(Contrast(better=("wide",), worse=("narrow",)),),
        ),
    ),
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    overrides = {"train.epochs": 4, "train.on_out_of_memory": "halve_micro_batch"}
    return make_plan([WIDTH], Request(PRESETS["smoke"], overrides, seeds=3))


@pytest.fixture(scope="module")
def told(plan: Plan) -> Document:
    return document_of(plan, made_up_results(plan))


def _blocks(document: Document, kind: type) -> list[Any]:
    return [block for section in document.all_sections for block in section.blocks if isinstance(block, kind)]


def test_a_question_keeps_its_mark_in_every_format(told: Document) -> None:
    assert told.title == f"{QUESTION} An ablation of dynamic convolution"
    figures = {figure.name: "" for figure in told.figures}
    main = next(table for table in _blocks(told, Table) if table.title == QUESTION)
    assert f"**{QUESTION} Claims.** Claims held" in markdown_text(told, dict.fromkeys(figures, Path("f.png")))
    for text in (
        markdown_text(told, dict.fromkeys(figures, Path("f.png"))),
        html_text(told),
        table_latex(main),
        str(as_json(told, figures)),
    ):
        assert QUESTION in text
        assert f"{QUESTION}." not in text
        assert f"{QUESTION}:" not in text


def test_nothing_of_it_is_called_published(told: Document) -> None:
    captions = [block.caption for block in (*_blocks(told, Table), *_blocks(told, Figure))]
    assert [caption for caption in captions if "ublished" in caption] == []
    assert any(caption.startswith("Claims held against our runs") for caption in captions)
    assert "The claims in full, in the words of the study." in captions
    leads = [paragraph.lead for paragraph in _blocks(told, Paragraph)]
    assert "Expected finding" in leads
    assert [lead for lead in leads if "ublished" in lead] == []


def test_what_was_published_is_still_called_so() -> None:
    plan = whole_plan("quick", "temperature")
    captions = [block.caption for block in _blocks(document_of(plan, made_up_results(plan)), Table)]
    assert any(caption.startswith("Published findings held against our runs") for caption in captions)
    assert "The claims in full: published findings, in our words." in captions


def test_overrides_are_written_as_in_a_study_file(told: Document) -> None:
    facts = dict(item for block in _blocks(told, Facts) for item in block.items)
    assert facts["Overrides"] == "train.epochs: 4, train.on_out_of_memory: halve_micro_batch"


@pytest.mark.parametrize("value", [4, 0.1, True, None, "no", "1e-3", "a: b", (1, 2), ["x", "y"], "τ", "x" * 300])
def test_a_setting_is_read_back_from_its_words(value: Any) -> None:
    words = setting_words("train.epochs", value)
    assert "\n" not in words
    assert yaml.safe_load(words) == {"train.epochs": list(value) if isinstance(value, tuple) else value}
