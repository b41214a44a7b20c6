"""Two hundred bad study files, through the command line: each gets exit code 2 and a message without a traceback."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.command_line import run_command

STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "How many kernels does a small network need?",
    "reference": "k4",
    "baseline": {"train.epochs": 2, "train": {"temperature": {"schedule": "constant", "start": 30}}},
    "variants": {
        "static": {"model.layer": "static"},
        "k4": {"label": "K = 4", "model": {"num_kernels": 4, "where": {"not": {"role": ["stem", "head"]}}}},
        "averaged": {"intervention": {"aggregation": "average", "where": {"resolution": [7, 14]}}},
    },
}
WORDS = st.sampled_from(["k4", "static", "model", "train.epochs", "model.num_kernels", "../x", "<script>", "🐙", ""])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=6) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def _parts(node: Any) -> list[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, value in items for found in ((node, key), *_parts(value))]


def _plan(content: bytes) -> tuple[Any, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_bytes(content)
        with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
            code = run_command("plan", path, "--preset", "smoke", "--runs-dir", folder)
        return code, told.getvalue()


@st.composite
def _texts(draw: st.DrawFn) -> bytes:
    document: Any = yaml.safe_load(yaml.safe_dump(STUDY))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(_parts(document)))
        container[key] = draw(VALUES)
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(alphabet="[]{}:,-?&*!|>'\"%@`\n #<\t~=", max_size=6)) + text[at:]
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.torture
@given(content=_texts())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_two_hundred_bad_studies(content: bytes) -> None:
    code, told = _plan(content)
    # What happens to be a good study does not count towards the two hundred.
    assume(code != 0)
    assert code == 2, told
    assert told.startswith("error: ")
    assert len(told.strip()) > len("error: ")
    assert "Traceback" not in told
