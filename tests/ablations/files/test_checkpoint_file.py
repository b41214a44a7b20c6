"""What planning reads of a checkpoint: its digest, and the settings that a file of ours records."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import SpecError
from ablations.files.checkpoint_file import network_name, read_checkpoint
from ablations.spec.fingerprint import canonical_json
from ablations.spec.parts import ModelSpec

MODEL = ModelSpec(width=0.5, depth=1.0, stem_kernel=None, stem_pool=None)


def safetensors(metadata: Any) -> bytes:
    """The bytes of a file without tensors, with that metadata."""
    header = json.dumps({} if metadata is None else {"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


def described(model: ModelSpec = MODEL) -> str:
    return canonical_json(model.model_dump(mode="json", by_alias=True))


def written(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, b"PK\x03\x04 some archive", "model.pth")
    facts = read_checkpoint(path)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.settings == {}


def test_a_file_that_was_replaced_has_another_digest(tmp_path: Path) -> None:
    first = read_checkpoint(written(tmp_path, b"one")).sha256
    assert read_checkpoint(written(tmp_path, b"three")).sha256 != first


def test_a_file_of_ours_says_which_network_it_holds(tmp_path: Path) -> None:
    settings = read_checkpoint(written(tmp_path, safetensors({"model": described()}))).settings
    assert settings["model.width"] == 0.5
    assert settings["model.where"]["not"]["role"] == ["stem", "head", "squeeze_excitation"]
    # What a MobileNetV2 does not read is not recorded as a setting.
    assert "model.stem_kernel" not in settings


def test_the_state_folder_of_a_training_says_it_where_the_file_does_not(tmp_path: Path) -> None:
    path = written(tmp_path, safetensors({"node": "abc"}))
    spec = {"model": json.loads(described())}
    (tmp_path / "node.json").write_text(json.dumps({"fingerprint": "abc", "spec": spec}))
    assert read_checkpoint(path).settings["model.width"] == 0.5


@pytest.mark.parametrize("description", [None, "[]", "{", '{"fingerprint": "other", "spec": {"model": {}}}'])
def test_a_description_of_another_node_is_not_used(tmp_path: Path, description: str | None) -> None:
    if description is not None:
        (tmp_path / "node.json").write_text(description)
    assert read_checkpoint(written(tmp_path, safetensors({"node": "abc"}))).settings == {}


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**6) + b"{}",
        struct.pack("<Q", 4) + b"[[[[",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        safetensors("text"),
        safetensors({"model": "[" * 10_000}),
        safetensors({"model": "5"}),
        safetensors(None),
    ],
)
def test_headers_that_are_none_record_nothing(tmp_path: Path, content: bytes) -> None:
    assert read_checkpoint(written(tmp_path, content)).settings == {}


def test_unknown_settings_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"settings of its network that are not known: .*'model.girth'"):
        read_checkpoint(written(tmp_path, safetensors({"model": '{"girth": 3}'})))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot be read: No such file"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(SpecError, match="is not a file"):
        read_checkpoint(tmp_path)
    with pytest.raises(SpecError, match="is empty"):
        read_checkpoint(written(tmp_path, b""))


def test_a_network_is_called_like_its_file() -> None:
    assert network_name(Path("models/dy:mobilenet.v2.pth")) == "dy-mobilenet.v2"
