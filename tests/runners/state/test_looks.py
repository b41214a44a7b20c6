"""Looks in a runs folder: the first look at a state counts, and damaged files are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ablations.errors import OutputError
from ablations.protocol.looks import Look
from runners.state.layout import RunsFolder
from runners.state.looks import look_damages, record_looks, recorded_looks

LOOK = Look("mine", "ab" * 8, 100.0, 3, 6, 6, "quick")


def test_the_first_look_at_a_state_counts(tmp_path: Path) -> None:
    record_looks(tmp_path, [LOOK])
    record_looks(tmp_path, [replace(LOOK, when=200.0), replace(LOOK, digest="cd" * 8, when=300.0)])
    assert recorded_looks(tmp_path, ["mine"], "quick") == (LOOK, replace(LOOK, digest="cd" * 8, when=300.0))
    assert recorded_looks(tmp_path, ["other"], "quick") == ()


def test_a_look_at_another_scale_is_none_at_this_one(tmp_path: Path) -> None:
    record_looks(tmp_path, [LOOK, replace(LOOK, digest="ef" * 8, scale="smoke")])
    assert recorded_looks(tmp_path, ["mine"], "quick") == (LOOK,)


def test_a_damaged_file_is_left_out_and_named(tmp_path: Path) -> None:
    record_looks(tmp_path, [LOOK])
    (path,) = RunsFolder(tmp_path).looks.glob("*.json")
    path.write_text('{"study": "mine"')
    assert recorded_looks(tmp_path, ["mine"], "quick") == ()
    assert [damage.path for damage in look_damages(tmp_path)] == [path]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    RunsFolder(tmp_path).looks.write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        record_looks(tmp_path, [LOOK])
