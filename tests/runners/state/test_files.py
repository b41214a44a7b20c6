"""Files are written whole or not at all, and by one of several at most."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import OutputError
from runners.state.files import (
    check_writable,
    exclusively,
    read_json,
    write_atomically,
    write_json,
    write_json_once,
    write_once,
)


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


def test_a_file_that_is_there_is_not_written_once_more(tmp_path: Path) -> None:
    assert write_json_once(tmp_path / "a.json", 1)
    assert not write_json_once(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_links_it_is_still_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert write_json_once(tmp_path / "a.json", 1)
    assert not write_json_once(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1
    assert sorted(os.listdir(tmp_path)) == [".a.json.lock", "a.json"]


def _write_without_links(path: Path, start: Any, won: Any, number: int) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    os.link = refuse
    start.wait()
    if write_json_once(path, [number] * 20_000):
        won.put(number)


def test_without_links_one_of_several_writes_and_nobody_sees_half_a_file(tmp_path: Path) -> None:
    path, context = tmp_path / "a.json", multiprocessing.get_context("fork")
    start, won = context.Barrier(5), context.Queue()
    processes = [context.Process(target=_write_without_links, args=(path, start, won, n)) for n in range(4)]
    for process in processes:
        process.start()
    start.wait()
    while any(process.is_alive() for process in processes):
        if path.exists():
            assert len(json.loads(path.read_text())) == 20_000
    winner = won.get(timeout=600)
    assert read_json(path) == [winner] * 20_000
    assert won.empty()


def test_a_process_that_dies_without_links_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    def die(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", refuse)
    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            write_json_once(tmp_path / "a.json", 1)
    assert not (tmp_path / "a.json").exists()
    assert write_json_once(tmp_path / "a.json", 2)


def test_an_answer_that_the_network_lost_is_still_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.link

    def lose_the_answer(*paths: Any) -> None:
        honest(*paths)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lose_the_answer)
    assert write_json_once(tmp_path / "a.json", 1)
    assert read_json(tmp_path / "a.json") == 1


def test_a_failed_write_keeps_the_number_of_the_error(tmp_path: Path) -> None:
    def fail(temporary: Path) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    for write in (write_atomically, write_once):
        with pytest.raises(OutputError) as found:
            write(tmp_path / "a.json", fail)
        assert found.value.errno == errno.EDQUOT


def _count_up(folder: Path, times: int) -> None:
    for _ in range(times):
        with exclusively(folder / "lock"):
            write_json(folder / "count.json", read_json(folder / "count.json") + 1)


def test_one_at_a_time_is_in_an_exclusive_block(tmp_path: Path) -> None:
    write_json(tmp_path / "count.json", 0)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count_up, args=(tmp_path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert read_json(tmp_path / "count.json") == 100


def test_a_lock_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), exclusively(tmp_path / "file" / "lock"):
        pass


def test_a_probe_follows_no_link_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runners.state.files import check_writable

    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in (".probe", f".probe.{os.getpid()}", ".probe.1"):
        (folder / name).symlink_to(victim)
    before = {path.name for path in folder.iterdir()}
    check_writable(folder)
    assert victim.read_text() == "precious"
    assert {path.name for path in folder.iterdir()} == before


def test_probes_of_containers_with_the_same_process_number_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runners.state.files import check_writable

    monkeypatch.setattr(os, "getpid", lambda: 1)
    statvfs, seen = os.statvfs, []

    def look(folder: Path) -> os.statvfs_result:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        return statvfs(folder)

    monkeypatch.setattr(os, "statvfs", look)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_writable(tmp_path), range(200)))
    assert len(seen) == 200
    assert not list(tmp_path.iterdir())


def test_a_report_is_written_beside_a_link_that_has_the_old_temporary_name(tmp_path: Path) -> None:
    from reports.render.files import write_atomically as write_report

    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".report.md.{os.getpid()}.tmp").symlink_to(victim)
    write_report(tmp_path / "report.md", b"new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "report.md").read_bytes() == b"new"
    assert not (tmp_path / "report.md").is_symlink()
