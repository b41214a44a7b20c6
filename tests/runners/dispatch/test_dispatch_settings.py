"""Options of the command line for dispatch: what fits together, what does not, what SLURM is asked for."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import AblationError, OptionError, UnknownNameError
from runners.cli.options.launch import LaunchOptions, TaskOptions
from runners.dispatch import DispatchSettings
from runners.dispatch.slurm.options import SlurmOptions, read_slurm_options
from runners.launching.settings import LaunchSettings
from runners.state.failures import FailurePolicy


@pytest.fixture(autouse=True)
def _everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "proceses"}, "'processes'"),
        ({"device": "gpu"}, "--device gpu is no device"),
        ({"ray_address": "10.0.0.1:6379"}, "--ray-address is read only with --dispatch ray"),
        ({"name": "ray", "ray_address": "ray://10.0.0.1:10001"}, "must be HOST:PORT"),
        ({"slurm": SlurmOptions(partition="gpu")}, "--slurm is read only with --dispatch slurm"),
        ({"name": "ray", "slurm": SlurmOptions(partition="gpu")}, "and that is ray"),
        ({"workers": 257}, "at most 256 processes"),
        ({"name": "inline", "workers": 2}, "inline runs one task at a time"),
        ({"name": "inline", "trials_per_gpu": 2}, "inline runs one task at a time"),
        ({"name": "slurm", "trials_per_gpu": 2}, "SLURM gives a job whole GPUs"),
        ({"device": "cpu", "trials_per_gpu": 2}, "--device cpu uses no GPU"),
        ({"name": "ray", "device": "cuda:1"}, "the cluster chooses the GPU"),
        ({"name": "slurm", "device": "cuda:1"}, "the cluster chooses the GPU"),
        ({"name": "slurm", "device": "cuda"}, "--device cuda needs --slurm gpus=1"),
        ({"name": "slurm", "device": "cpu", "slurm": SlurmOptions(gpus="1")}, "--device cpu does not use"),
        ({"name": "slurm", "slurm": SlurmOptions(time=1, signal=60)}, "stops a job 60 s before its limit of 1 minutes"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_reason(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(AblationError) as refused:
        DispatchSettings(**asked)
    assert words in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"device": "cuda:1", "trials_per_gpu": 4, "workers": 2},
        {"name": "inline", "workers": 1},
        {"name": "ray", "ray_address": "head.cluster:6379", "trials_per_gpu": 2},
        {"name": "ray", "ray_address": "auto"},
        {"name": "ray", "ray_address": "[::1]:6379"},
        {"name": "slurm", "device": "cuda", "slurm": SlurmOptions(gpus="a100:1")},
        {"name": "slurm", "device": "cuda", "slurm": SlurmOptions(gres="gpu:1")},
    ],
)
def test_what_fits_together_is_taken(asked: dict[str, Any]) -> None:
    DispatchSettings(**asked)


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=rf"needs {module}.*pip install 'dyconv-ablations\[{name}\]'"):
        DispatchSettings(name)


def test_slurm_needs_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OptionError, match="login node"):
        DispatchSettings("slurm")


def test_the_options_of_a_verb_are_settings_of_its_dispatcher(tmp_path: Path) -> None:
    options = LaunchOptions(
        workers=3,
        device="cuda",
        threads=2,
        dispatch="slurm",
        trials_per_gpu=1,
        ray_address=None,
        slurm=("gpus=1", "time=2:00:00"),
        retries=1,
        retry_wait=4.0,
        fail_fast=True,
        lease_seconds=9.0,
        offline=False,
    )
    slurm = SlurmOptions(gpus="1", time=120)
    expected_settings = DispatchSettings("slurm", 3, 2, "cuda", slurm=slurm, folder=tmp_path)
    assert options.dispatch_settings(tmp_path) == expected_settings
    settings = LaunchSettings(
        dispatch=expected_settings, plugins=("p",), policy=FailurePolicy(1, 4.0), fail_fast=True, lease_seconds=9.0
    )
    assert options.launch_settings(expected_settings, ("p",)) == settings
    assert replace(options, again=True).launch_settings(expected_settings, ("p",)) == replace(settings, again=True)
    tasks = TaskOptions(workers=3, device="cpu", threads=2)
    assert tasks.dispatch_settings(tmp_path) == DispatchSettings("processes", 3, 2, "cpu", folder=tmp_path)


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("partition=gpu,gpu-long", "partition", "gpu,gpu-long"),
        ("constraint=a100&nvlink", "constraint", "a100&nvlink"),
        ("gres=gpu:a100:2", "gres", "gpu:a100:2"),
        ("exclude=node[1-3]", "exclude", "node[1-3]"),
        ("mem=16G", "mem", "16G"),
        ("gpus=0", "gpus", ""),
        ("gpus=1", "gpus", "1"),
        ("gpus=a100:1", "gpus", "a100:1"),
        ("cpus=8", "cpus", 8),
        ("time=30", "time", 30),
        ("time=30:01", "time", 31),
        ("time=04:00:00", "time", 240),
        ("time=1-12", "time", 36 * 60),
        ("time=1-12:30", "time", 36 * 60 + 30),
        ("time=2-00:00:01", "time", 48 * 60 + 1),
        ("requeues=0", "requeues", 0),
        ("setup=module load cuda/12; source env.sh", "setup", "module load cuda/12; source env.sh"),
    ],
)
def test_a_slurm_option_is_typed(pair: str, key: str, value: Any) -> None:
    assert read_slurm_options([pair]) == SlurmOptions(**{key: value})


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["partition"], "must be KEY=VALUE"),
        (["=gpu"], "must be KEY=VALUE"),
        (["partition="], "one line of at most 500"),
        (["partition=gpu\n#SBATCH --wrap=x"], "one line"),
        (["setup=a\nb"], "one line of shell"),
        (["partition=a", "partition=b"], "given twice"),
        (["gpus=2"], "one GPU per device, see train.devices"),
        (["gpus=a100"], "TYPE:1"),
        (["time=0"], "at least a minute"),
        (["time=1000-00"], "at most a year"),
        (["time=soon"], "minutes, HH:MM:SS"),
        (["cpus=0"], "from 1 to 1024"),
        (["cpus=many"], "whole number"),
        (["mem=lots"], "for example 16G"),
    ],
)
def test_a_slurm_option_that_cannot_be_is_refused(pairs: list[str], words: str) -> None:
    with pytest.raises(OptionError) as refused:
        read_slurm_options(pairs)
    assert words in str(refused.value)


def test_an_unknown_slurm_option_is_named_with_what_was_meant() -> None:
    with pytest.raises(UnknownNameError, match="'partition'"):
        read_slurm_options(["partitoin=gpu"])


def test_sbatch_and_submitit_are_asked_for_the_same() -> None:
    options = SlurmOptions(partition="gpu", account="lab", gpus="a100:1", mem="8G", reservation="now", setup="module x")
    assert sorted(options.sbatch_arguments(devices=4, threads=2)) == [
        "--account=lab",
        "--cpus-per-task=8",
        "--gpus-per-node=a100:4",
        "--mem=8G",
        "--partition=gpu",
        "--reservation=now",
        "--time=60",
    ]
    asked = options.parameters(devices=4, threads=2)
    assert (asked["cpus_per_task"], asked["gpus_per_node"], asked["time"]) == (8, "a100:4", 60)
    assert asked["additional_parameters"] == {
        "partition": "gpu",
        "account": "lab",
        "reservation": "now",
        "mem": "8G",
        "requeue": True,
    }
    assert asked["setup"] == ["module x"]


def test_cores_for_each_device_can_be_more_than_threads() -> None:
    assert SlurmOptions(cpus=8).parameters(devices=2, threads=1)["cpus_per_task"] == 16
    assert "gpus_per_node" not in SlurmOptions().parameters(devices=1, threads=1)
