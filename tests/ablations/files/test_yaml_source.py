"""YAML as plain data: scalars of YAML 1.2, lines of keys, and documents that attack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import SpecError, StudyError
from ablations.files.yaml_source import parse_value, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("-4", -4),
        ("010", 10),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("4e-05", 4e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("+1.5E+2", 150.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("2020-99-99", "2020-99-99"),
        ("'4'", "4"),
        ("!!str 4", "4"),
        ("!!float 4", 4.0),
        ("[1, a, {b: 2}]", [1, "a", {"b": 2}]),
        ("{1: a, true: b, ~: c}", {"1": "a", "true": "b", "~": "c"}),
        (".", "."),
        ("e3", "e3"),
        ("-", None),
    ],
)
def test_values(text: str, value: Any) -> None:
    if text == "-":
        assert parse_value(text) == [None]
        return
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_infinity_and_nan_are_numbers_for_the_settings_to_refuse() -> None:
    assert parse_value("[.inf, -.Inf]") == [float("inf"), float("-inf")]
    assert parse_value(".NaN") != parse_value(".NaN")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1", "expected ',' or ']'"),
        ("!!python/object/apply:os.system [true]", "not allowed"),
        ("!!python/name:os.system", "not allowed"),
        ("!!set {a, b}", "'!!set' is not allowed"),
        ("!!binary aGk=", "'!!binary' is not allowed"),
        ("!mine x", "'!mine' is not allowed"),
        ("{!!python/name:os.system x: 1}", "not allowed"),
        ("!!int x", "'x' is not a value of type int"),
        ("!!float x", "not a value of type float"),
        ("!!bool x", "not a value of type bool"),
        ("9" * 19, "not a value of type int"),
        ("0x" + "f" * 5000, "not a value of type int"),
        ('"\\e[31m"', r"control character U\+001B"),
        ('"\\ud800"', r"control character U\+D800"),
        ('{"\\0": 1}', r"control character U\+0000"),
        ("a: b: c", "mapping values are not allowed"),
        ("*unknown", "undefined alias"),
        ("{? [a] : 1}", "plain word"),
        ("\x07", r"U\+0007"),
    ],
)
def test_values_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        parse_value(text)


@given(st.text(max_size=60) | st.text(alphabet="[]{}:,-?&*!|>'\"%@`\n a1#<\t", max_size=60))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    try:
        value = parse_value(text)
    except SpecError:
        return
    assert value is None or isinstance(value, str | int | float | bool | list | dict)


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "doc.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def test_lines_are_those_of_keys_and_items(tmp_path: Path) -> None:
    document = read(tmp_path, "a:\n  b.c:\n    - 1\n    -\n      d: 2\n  e: {f: 3,\n      g: 4}\n")
    lines = {
        (): 1,
        ("a",): 1,
        ("a", "b.c"): 2,
        ("a", "b.c", 0): 3,
        ("a", "b.c", 1, "d"): 5,
        ("a", "e", "g"): 7,
        ("a", "e", "unknown"): 6,
        ("unknown",): 1,
    }
    for location, line in lines.items():
        assert document.at(location) == f"{tmp_path / 'doc.yaml'}:{line}"
    assert document.at(("a",), "b.c").endswith(":2")
    assert document.at((), "a.e.g").endswith(":7")
    assert document.at(("a",), "e.g.h").endswith(":7")
    assert document.at(("a", "e"), "nothing").endswith(":6")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: &a [*a]", 1, "endless"),
        ("b: 1\na: &a\n  c: *a", 2, "endless"),
        ("x: 1\ny: " + "[" * 5000, 2, "nested more than"),
        ("x: 1\n" + "- " * 5000, 2, "nested|block"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(500)), 41, "nested more than"),
        ("? " * 3000, 1, "nested more than"),
        ("x: 1\n\nx: 2", 3, r"'x' is defined a second time \(first in line 1\)"),
        ("a:\n  b: 1\n  'b': 2", 3, "second time"),
        ("1: a\n'1': b", 2, "second time"),
        ("a: 1\n---\nb: 1", 2, "another document"),
        ("a: 'x\n\nb: 1\n", 4, "unexpected end"),
        ("a: 1\nb: \x07", 2, r"U\+0007"),
        ("a: 1\nb: !!int x", 2, "not a value of type int"),
        ("a: 1\n\tb: 2", 2, "tab|\\\\t"),
    ],
)
def test_documents_that_are_refused(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(StudyError, match=reason) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'doc.yaml'}:{line}: ")


def test_a_bomb_of_aliases_is_refused_before_it_grows(tmp_path: Path) -> None:
    bomb = "x0: &x0 [1]\n" + "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 30))
    with pytest.raises(StudyError, match=r"doc\.yaml:\d+: aliases make"):
        read(tmp_path, bomb)


def test_an_alias_is_as_good_as_its_value(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &a {b: 1}\nc: *a").data == {"a": {"b": 1}, "c": {"b": 1}}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"missing\.yaml: No such file"):
        read_document(tmp_path / "missing.yaml")
    with pytest.raises(StudyError, match="not a file"):
        read_document(tmp_path)
    with pytest.raises(StudyError, match="File name too long"):
        read_document(tmp_path / ("x" * 300))
    with pytest.raises(StudyError, match="null"):
        read_document(Path("a\0.yaml"))
    (tmp_path / "big.yaml").write_text("# " + "x" * 300_000)
    with pytest.raises(StudyError, match="larger than"):
        read_document(tmp_path / "big.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"name: x\n\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"binary\.yaml:2: not UTF-8"):
        read_document(tmp_path / "binary.yaml")


def test_a_pipe_that_nobody_writes_to_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(StudyError, match="not a file"):
        read_document(tmp_path / "pipe.yaml")
