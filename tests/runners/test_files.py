"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ablations.errors import OutputError
from runners.files import check_writable, read_json, write_atomically, write_json


def test_a_json_file_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, 2.5, None]}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, fail)
    assert read_json(path) == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_is_not_json_reads_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{half")
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "b.json") is None


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        check_writable(tmp_path / "file" / "runs")


def test_a_nearly_full_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="MB free"):
        check_writable(tmp_path, needed_bytes=10**18)
    check_writable(tmp_path / "new", needed_bytes=1)
    assert (tmp_path / "new").is_dir()
