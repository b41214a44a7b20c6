"""The generated reference holds every setting, verb, study, data set, network, layer kind and public function."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dyconv
from ablations.datasets.registry import DATASETS, FOLDERS
from ablations.presets import PRESETS
from ablations.registry import available_studies
from ablations.spec.layers import LAYERS, kinds_by_option
from ablations.spec.names import NETWORKS
from ablations.spec.settings import DEFAULTS
from run_ablation import cli
from runners import api

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Return the module that MkDocs imports from a file."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "generate" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


def page(reference: ModuleType, name: str) -> str:
    """Return a page of the reference with its generated parts."""
    text: str = reference.filled((DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8"))
    assert "<!-- generated" not in text
    return text


def test_every_setting_has_a_row_with_a_meaning(reference: ModuleType) -> None:
    text = page(reference, "settings")
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")}
    assert len(rows) == len(DEFAULTS)
    for key in DEFAULTS:
        assert len(rows[f"`{key}`"].split("|")[2].strip()) > 5, key


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("studies", available_studies()),
        ("datasets", (*DATASETS, *FOLDERS)),
        ("layers", tuple(LAYERS)),
        ("presets", tuple(PRESETS)),
        ("verbs", tuple(cli.commands)),
    ],
)
def test_everything_has_a_section(reference: ModuleType, name: str, titles: tuple[str, ...]) -> None:
    sections = [line.removeprefix("## ") for line in page(reference, name).splitlines() if line.startswith("## ")]
    assert sections == list(titles)


def test_every_network_has_a_row(reference: ModuleType) -> None:
    text = page(reference, "networks")
    assert all(f"| `{name}` | {network.title} |" in text for name, network in NETWORKS.items())


def test_every_option_of_a_verb_is_there(reference: ModuleType) -> None:
    _, *sections = page(reference, "verbs").split("\n## ")
    for verb, section in zip(cli.commands, sections, strict=True):
        for parameter in cli.commands[verb].params:
            if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
                assert parameter.opts[0] in section, (verb, parameter.opts)


def test_every_option_of_a_layer_is_there(reference: ModuleType) -> None:
    text = page(reference, "settings")
    for name, kinds in kinds_by_option().items():
        for kind in kinds:
            assert f"| `model.options.{name}` | [{kind}](layers.md#{kind}) |" in text


def test_every_public_name_is_there(reference: ModuleType) -> None:
    text = page(reference, "python")
    assert text.count("\n::: ") == len(api.__all__) + len(dyconv.__all__)
    assert all(f"\n::: dyconv.{name}\n" in text for name in dyconv.__all__)


def test_what_a_setting_allows_is_said_in_words(reference: ModuleType) -> None:
    text = page(reference, "settings")
    assert "| `train.momentum` | Momentum of `sgd`. | number, at least 0, less than 1 | `0.9` |" in text
    assert '| `"none"`, `"crop"`, `"crop_flip"`, `"resized_crop_flip"` | `"crop_flip"` |' in text
    assert "whole number, at least 2 | `64` |" in text


def test_a_marker_of_nothing_is_an_error(reference: ModuleType) -> None:
    with pytest.raises(KeyError, match="nothing"):
        reference.filled("<!-- generated: nothing -->")
