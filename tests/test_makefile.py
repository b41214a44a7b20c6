"""What `make run` and `make all` start: the paper's core and every study, both at preset quick."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ablations.registry import available_studies

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


def command(target: str) -> list[str]:
    """Return the arguments that the recipe of a target gives `run_ablation.py`."""
    (recipe,) = re.findall(rf"^{target}:.*\n\t(.*)$", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    words = shlex.split(recipe)
    return words[words.index("run_ablation.py") + 1 :]


@pytest.mark.parametrize(
    ("target", "studies"), [("run", ["aggregation", "resolution", "temperature"]), ("all", ["--all"])]
)
def test_a_target_runs_its_studies_at_preset_quick(target: str, studies: list[str]) -> None:
    verb, *arguments = command(target)
    options = arguments[len(studies) :]
    assert (verb, arguments[: len(studies)]) == ("run", studies)
    assert options[:2] == ["--preset", "quick"]
    assert not set(options) & set(available_studies())
