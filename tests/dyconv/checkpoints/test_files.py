"""Weight files: nothing in them runs, whatever they wrap and prefix, and what cannot be read is an error in words."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import dyconv
from dyconv import CheckpointError, load_checkpoint

State = dict[str, Tensor]


def network(seed: int = 0, **settings: Any) -> nn.Module:
    where = dyconv.Role("depthwise")
    size = {"width": 0.25, "depth": 0.3}
    return dyconv.build_model("mobilenet_v2", 5, num_kernels=2, where=where, seed=seed, **size, **settings)


@pytest.fixture
def trained() -> nn.Module:
    """A network whose every number differs from those of a fresh one."""
    model = network(seed=1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not name.endswith("temperature"):
                # Positive, because some are variances; halves of integers survive half precision.
                value.copy_(torch.randint(1, 64, value.shape) / 32)
    dyconv.set_temperature(model, 4.0)
    return model


def assert_loaded(model: nn.Module, expected: State) -> None:
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key].to(value.dtype)), key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.bin"


def test_safetensors_and_torch_files_are_told_apart_by_their_content(trained: nn.Module, path: Path) -> None:
    state = trained.state_dict()
    for save in (torch.save, safetensors.torch.save_file):
        save(state, path)
        model = network()
        report = load_checkpoint(model, path)
        assert_loaded(model, state)
        assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (report.wrapper, report.prefix, report.ignored, report.kept) == ("", "", (), ())
    torch.save(state, path, _use_new_zipfile_serialization=False)
    load_checkpoint(model := network(), str(path))
    assert_loaded(model, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."])
@pytest.mark.parametrize(
    "wrapper", ["", "state_dict", "model", "state_dict_ema", "weights_of_mine", "model.state_dict"]
)
def test_prefixes_and_wrappers(trained: nn.Module, path: Path, prefix: str, wrapper: str) -> None:
    content: dict[str, Any] = OrderedDict((prefix + key, value) for key, value in trained.state_dict().items())
    for name in reversed(wrapper.split(".")):
        if name:
            content = {"epoch": 3, name: content, "args": {"lr": 0.1}}
    torch.save(content, path)
    report = load_checkpoint(model := network(), path)
    assert_loaded(model, trained.state_dict())
    assert (report.wrapper, report.prefix) == (wrapper, prefix)
    assert f"Prefix {prefix!r} was removed" in str(report)
    assert (f"under {wrapper!r}" in str(report)) == bool(wrapper)


def test_a_prefix_that_the_network_has_is_kept(trained: nn.Module, path: Path) -> None:
    torch.save(nn.ModuleDict({"model": trained}).state_dict(), path)
    report = load_checkpoint(nn.ModuleDict({"model": network()}), path)
    assert report.prefix == ""
    torch.save(trained.state_dict(), path)
    with pytest.raises(CheckpointError):
        load_checkpoint(nn.ModuleDict({"model": network()}), path)


def test_the_raw_weights_are_taken_before_the_averaged_ones_unless_those_are_asked_for(
    trained: nn.Module, path: Path
) -> None:
    other = network(seed=7)
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"state_dict_ema": other.state_dict(), "optimizer": optimizer, "model": trained.state_dict()}, path)
    report = load_checkpoint(model := network(), path)
    assert_loaded(model, trained.state_dict())
    assert (report.wrapper, report.other_wrappers) == ("model", ("state_dict_ema",))
    assert "under 'model' (not 'state_dict_ema', which the file holds too)" in str(report)
    report = load_checkpoint(model, path, wrapper="state_dict_ema")
    assert_loaded(model, other.state_dict())
    assert (report.wrapper, report.other_wrappers) == ("state_dict_ema", ("model",))
    with pytest.raises(CheckpointError, match=r"unknown wrapper of weights 'state_dict'\. Did you mean"):
        load_checkpoint(model, path, wrapper="state_dict")


def test_an_averaged_network_has_a_count_beside_its_weights(trained: nn.Module, path: Path) -> None:
    torch.save(AveragedModel(trained).state_dict(), path)
    report = load_checkpoint(model := network(), path)
    assert (report.ignored, report.prefix) == (("n_averaged",), "module.")
    assert "Ignored: n_averaged." in str(report)
    assert_loaded(model, trained.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("own", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_get_the_dtype_of_the_network(trained: nn.Module, path: Path, dtype: Any, own: Any) -> None:
    state = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in trained.state_dict().items()
    }
    safetensors.torch.save_file(state, path)
    report = load_checkpoint(model := network().to(own), path)
    assert_loaded(model, state)
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {own}
    assert {(t.source_dtype, t.dtype) for t in report.tensors if t.dtype != "int64"} == {
        (str(dtype).removeprefix("torch."), str(own).removeprefix("torch."))
    }
    if dtype != own:
        assert f", {str(dtype).removeprefix('torch.')} to {str(own).removeprefix('torch.')}" in str(report)


def test_old_files_lack_the_counts_of_batches(trained: nn.Module, path: Path) -> None:
    state = {key: value for key, value in trained.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, path)
    report = load_checkpoint(model := network(), path)
    assert set(report.kept) == trained.state_dict().keys() - state.keys()
    assert "Not in the file, left as in the network: features.0.1.num_batches_tracked, " in str(report)
    for key, value in state.items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_report_says_which_tensor_went_where_and_cannot_be_changed(trained: nn.Module, path: Path) -> None:
    torch.save({"state_dict": trained.state_dict()}, path)
    report = load_checkpoint(network(), path)
    assert [tensor.target for tensor in report.tensors] == list(trained.state_dict())
    for tensor in report.tensors:
        assert tensor.shape == tuple(trained.state_dict()[tensor.source].shape)
    assert f"Loaded {len(report.tensors)} tensors from {path} (SHA-256 {report.sha256})." in str(report)
    assert f"{len(report.tensors)} tensors have the same name, shape and type in both." in str(report)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.layout = "other"  # type: ignore[misc]


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


class Deep(nn.Module):
    """A whole module, which only code can restore."""


@pytest.mark.parametrize("variable", ["", "1"])
@pytest.mark.parametrize("form", ["pickle", "pickle4", "torch", "legacy", "nested", "beside", "key"])
def test_a_hostile_file_does_nothing_but_raise(
    trained: nn.Module, path: Path, form: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
    trap = path.parent / "trap"
    hostile, state = Hostile(trap), dict(trained.state_dict())
    if form == "pickle":
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    elif form == "pickle4":
        path.write_bytes(pickle.dumps({"state_dict": hostile}))
    elif form == "torch":
        torch.save(hostile, path)
    elif form == "legacy":
        torch.save({"state_dict": state, "a": hostile}, path, _use_new_zipfile_serialization=False)
    elif form == "nested":
        torch.save({"state_dict": {**state, "a": hostile}}, path)
    elif form == "beside":
        torch.save({"state_dict": state, "args": hostile}, path)
    else:
        torch.save({"state_dict": {**state, hostile: state["classifier.1.weight"]}}, path)
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="nothing in it was run"):
        load_checkpoint(model, path)
    assert not trap.exists()
    assert_loaded(model, before)


def test_the_trap_of_a_hostile_file_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "trap")))
    assert (tmp_path / "trap").exists()


def _script(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(path))


def _broken_safetensors(path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")


def _truncated(path: Path) -> None:
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "cannot be read: No such file"),
        (lambda path: path.mkdir(), "cannot be read: "),
        (lambda path: path.write_bytes(b""), "is no safetensors file and no file of plain tensors"),
        (lambda path: path.write_text("weights"), "is no safetensors file and no file of plain tensors"),
        (lambda path: path.write_text('12345678{"a": 1}'), "is no safetensors file and no file of plain tensors"),
        (_broken_safetensors, "is no safetensors file and no file of plain tensors"),
        (_truncated, "is no safetensors file and no file of plain tensors"),
        (lambda path: torch.save(Deep(), path), "save model.state_dict"),
        (lambda path: torch.save(torch.ones(3), path), "holds no state dict .*, but Tensor"),
        (lambda path: torch.save({"epoch": 1, "loss": torch.ones(2)}, path), "but the entries 'epoch', 'loss'"),
        (lambda path: torch.save({}, path), "but the entries none"),
        (lambda path: torch.save({"a.weight": torch.ones(2), "b": 3}, path), "'b' is no tensor, but int"),
        (lambda path: torch.save({"a.weight": torch.eye(2).to_sparse()}, path), "'a.weight' is a sparse"),
        (
            lambda path: torch.save({"a.weight": torch.ones(2, device="meta")}, path),
            r"'a.weight' is a sparse.*\(meta\)",
        ),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_read_is_an_error_in_words(write: Any, message: str, path: Path) -> None:
    write(path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(network(), path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_script_of_torch_is_not_loaded(path: Path) -> None:
    _script(path)
    with pytest.raises(CheckpointError, match="nothing in it was run"):
        load_checkpoint(network(), path)
