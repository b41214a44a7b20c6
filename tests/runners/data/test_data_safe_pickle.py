"""Pickles of plain data are read, whoever wrote them; anything that could execute is refused unexecuted."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners.data.readers.safe_pickle import UnsafePickleError, read_plain_pickle
from tests.runners.data.cifar_files import batch, python2_pickle

BATCH = batch(7, 10)
BY_COLUMN = {b"data": np.asfortranarray(BATCH[b"data"])}


def same(found: dict[bytes, Any], wanted: dict[bytes, Any]) -> bool:
    return found.keys() == wanted.keys() and all(np.array_equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
@pytest.mark.parametrize("data", [BATCH, BY_COLUMN], ids=["by row", "by column"])
def test_what_python_2_wrote_is_read_as_the_standard_library_reads_it(data: dict[bytes, Any]) -> None:
    content = python2_pickle(data)
    assert same(pickle.loads(content, encoding="bytes"), data)
    found = read_plain_pickle(content)
    assert same(found, data)
    assert found[b"data"].dtype == np.uint8


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_python_3_writes_is_read(protocol: int) -> None:
    data = {**BATCH, b"data": None} if protocol == 5 else BATCH  # protocol 5 hands arrays to functions of numpy's
    assert same(read_plain_pickle(pickle.dumps(data, protocol)), data)


class Executes:
    """Unpickled without restriction, makes the folder it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def by_name(folder: Path) -> bytes:
    return pickle.dumps({b"data": Executes(folder)}, 2)


def by_stack(folder: Path) -> bytes:
    return pickle.dumps({b"data": Executes(folder)}, 5)


def by_instance(folder: Path) -> bytes:
    return b"\x80\x02}U\x04data(U" + bytes([len(str(folder))]) + str(folder).encode() + b"iposix\nmkdir\ns."


def by_numpy(folder: Path) -> bytes:
    code = f"__import__('os').mkdir({str(folder)!r})".encode()
    return b"\x80\x02}U\x04datacnumpy.testing._private.utils\nruntest\nU" + bytes([len(code)]) + code + b"\x85Rs."


@pytest.mark.parametrize("attack", [by_name, by_stack, by_instance, by_numpy])
def test_a_malicious_pickle_is_refused_and_executes_nothing(tmp_path: Path, attack: Any) -> None:
    target = tmp_path / "made"
    content = attack(target)
    with pytest.raises(UnsafePickleError, match="which plain data does not need"):
        read_plain_pickle(content)
    assert not target.exists()


@pytest.mark.parametrize("attack", [by_name, by_stack, by_instance])
def test_those_pickles_would_execute_without_restriction(tmp_path: Path, attack: Any) -> None:
    target = tmp_path / "made"
    pickle.loads(attack(target), encoding="bytes")
    assert target.exists()


ARRAY = python2_pickle({b"data": np.zeros((2, 3), np.uint8)})


@pytest.mark.parametrize(
    "content",
    [
        python2_pickle({b"data": np.zeros((2, 3), np.float64)}),
        python2_pickle({b"data": np.array([{}], dtype=object)}),
        ARRAY.replace(b"J\x02\0\0\0J\x03\0\0\0", b"J\x02\0\0\0J\x04\0\0\0"),
        ARRAY.replace(b"J\x02\0\0\0", b"J\xfe\xff\xff\xff"),
        ARRAY.replace(b"U\x06" + bytes(6), b"U\x05" + bytes(5)),
        b"\x80\x02}U\x01acnumpy\nndarray\n)Rs.",
    ],
    ids=["floats", "objects", "more than its bytes", "negative", "fewer bytes", "called"],
)
def test_arrays_of_anything_but_the_bytes_they_have_are_refused(content: bytes) -> None:
    assert content != ARRAY
    with pytest.raises(UnsafePickleError):
        read_plain_pickle(content)


@pytest.mark.parametrize("length", [0, 1, 2, 40, len(ARRAY) // 2, len(ARRAY) - 1])
def test_a_torn_pickle_is_an_error_of_one_kind(length: int) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_plain_pickle(ARRAY[:length])


@pytest.mark.parametrize("content", [b"\x80\x02].", b"\x80\x02K\x05.", b"no pickle at all", b"\x80\x02U\x01aQ."])
def test_what_is_no_dictionary_is_an_error(content: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_plain_pickle(content)


@pytest.mark.parametrize("state", [b"N}U\x04nameU\x01xs\x86", b"}U\x04nameU\x01xs", b"]U\x01xa"])
def test_the_stand_ins_cannot_be_changed_by_a_file(state: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_plain_pickle(b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\n" + state + b"bs.")
    assert same(read_plain_pickle(ARRAY), {b"data": np.zeros((2, 3), np.uint8)})
