"""The Python of docs/networks.md runs as it stands there, one example after the other."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dyconv
from tests.dyconv.checkpoints.foreign import AttentionConvolutions, AttentionScores
from tests.registries import registries_kept

PAGE = (Path(__file__).parents[3] / "docs" / "networks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def _their_state(make: Any) -> dict[str, torch.Tensor]:
    model = dyconv.build_model("mobilenet_v2", 10, width=0.35)
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    for name in convolutions[1:]:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, make(model.get_submodule(name)))
    return dict(model.state_dict())


def _router_state() -> dict[str, torch.Tensor]:
    state = {}
    for key, value in _their_state(partial(AttentionScores, num_kernels=4)).items():
        key = key.replace("features.", "backbone.").replace("classifier.1.", "head.")
        key = key.replace("attention.to_scores", "router").replace("kernels_weights", "experts")
        state[key] = value[:, :, None, None] if "router" in key and value.dim() == 2 else value
    return state


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": _their_state(partial(AttentionConvolutions, num_kernels=4))}, "their_mobilenet.pth")
    torch.save(_router_state(), "routers.pth")
    values: dict[str, Any] = {}
    with registries_kept():
        for example in EXAMPLES:
            exec(example, values)
    assert len(EXAMPLES) == 3
    printed = capsys.readouterr().out
    assert "Layout attention_convolutions: " in printed
    assert "24 layers average their kernels" in printed
    assert values["report"].layout == "routers"


def test_the_page_names_every_layout_and_no_other() -> None:
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == set(dyconv.available_layouts())


def test_a_layout_of_ones_own_is_ten_lines_or_a_few_more() -> None:
    lines = [line for line in EXAMPLES[1].splitlines() if line.strip()]
    assert len(lines) <= 15
