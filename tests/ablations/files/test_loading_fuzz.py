"""Whatever stands in a study file, the answer is a plan or one of our own errors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.errors import AblationError
from ablations.files.study_file import load_study
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.spec.settings import DEFAULTS
from ablations.study import Study, Variant

FIELDS = [*Study.model_fields, *Variant.model_fields, *DEFAULTS, "model", "train", "where", "not", "any", "role"]
WORDS = st.sampled_from([*FIELDS, "k4", "static", "attention", "../x", "<script>", "🐙", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=6) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers() | st.none(), inner, max_size=3),
    max_leaves=6,
)
KNOWN = {"planned", "StudyError", "SpecError", "SettingError", "UnknownNameError"}
NOISE = st.text(max_size=8) | st.text(alphabet="[]{}:,-?&*!|>'\"%@`\n #<\t~=", max_size=6)


def answer(text: str) -> str:
    """What loading and planning `text` comes to: "planned" or the name of one of our errors; others get through."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            make_plan([load_study(path)], Request(get_preset("smoke"), seeds=1))
        except AblationError as error:
            return type(error).__name__ if str(error).strip() else "an error without a reason"
        return "planned"


def parts(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, value in items for found in ((node, key), *parts(value))]


@given(data=st.data())
@settings(max_examples=200)
def test_mutations_of_a_valid_study(study_text: str, data: st.DataObject) -> None:
    document = yaml.safe_load(study_text)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(parts(document) or [(document, "name")]))
        if isinstance(container, dict) and data.draw(st.booleans()):
            container[data.draw(WORDS | st.integers() | st.none())] = data.draw(VALUES)
        else:
            container[key] = data.draw(VALUES)
    assert answer(yaml.safe_dump(document, allow_unicode=True, sort_keys=False)) in KNOWN


@given(start=st.integers(0, 520), length=st.integers(0, 40), noise=NOISE)
@settings(max_examples=200)
def test_noise_in_the_text_of_a_valid_study(study_text: str, start: int, length: int, noise: str) -> None:
    assert answer(study_text[:start] + noise + study_text[start + length :]) in KNOWN


@given(st.text(max_size=100))
@settings(max_examples=50)
def test_any_text(text: str) -> None:
    assert answer(text) in KNOWN - {"planned"}
