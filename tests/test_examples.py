"""The scripts of examples/ run as they are called, in this process."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dyconv
from ablations.registry import available_studies
from tests.dyconv.checkpoints.foreign import AttentionConvolutions
from tests.registries import registries_kept

EXAMPLES = Path(__file__).parents[1] / "examples"


def carry_out(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    """Runs a script as `python examples/NAME ARGUMENTS` does."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    # Python puts the folder of a script first.
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with registries_kept():
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    sys.modules.pop("gated_layer", None)


def test_a_layer_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carry_out(monkeypatch, "own_layer.py", tmp_path / "runs")
    printed = capsys.readouterr().out
    assert "GatedConv2d: " in printed
    assert "checks passed" in printed
    # A study is carried out, or it is said why it says nothing about the layer.
    in_table = set(re.findall(r"^ *(\w+) +\S+ +1 ", printed, re.MULTILINE))
    for study in available_studies():
        reason = f"{study}: " in printed
        assert reason != (study in in_table), study
    assert "methods: nothing reads --set model.layer=gated: study 'methods' sets it itself in every variant." in printed
    report = next((tmp_path / "runs" / "reports").glob("*.html")).read_text(encoding="utf-8")
    assert "gated" in report


def test_somebodys_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network: dict[str, Any] = {"width": 0.35, "depth": 0.5, "in_channels": 1}
    where = {"not": {"role": ["stem", "head"]}}
    model = dyconv.build_model("mobilenet_v2", 10, num_kernels=4, where=where, **network)
    # As another project saves it: with layers of its own, and without a temperature.
    static = dyconv.build_model("mobilenet_v2", 10, **network)
    for name, _ in dyconv.dynamic_layers(model):
        parent, _, attribute = name.rpartition(".")
        conv = static.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        setattr(static.get_submodule(parent), attribute, AttentionConvolutions(conv, num_kernels=4))
    weights = tmp_path / "theirs.pth"
    torch.save({"state_dict": static.state_dict()}, weights)
    carry_out(monkeypatch, "inspect_checkpoint.py", weights, tmp_path / "runs")
    printed = capsys.readouterr().out
    assert "Layout attention_convolutions: " in printed
    assert "0 trainings, 4 evaluations" in printed
    assert "shuffle_across_images" in printed
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"{parameters:.1f}" in printed
    assert len(list((tmp_path / "runs" / "reports").glob("*.html"))) == 1


def test_the_checkpoint_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="WEIGHTS"):
        carry_out(monkeypatch, "inspect_checkpoint.py")
