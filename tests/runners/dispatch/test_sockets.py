"""Worker processes start whatever the folder for temporary files is called."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ablations.errors import DispatchError
from runners.dispatch import sockets

ROOT = Path(__file__).resolve().parent.parent.parent.parent
CODE = """
import multiprocessing, os
from multiprocessing import forkserver, util
from runners.dispatch.sockets import use_short_sockets

use_short_sockets()
if __name__ == "__main__":
    print(util.get_temp_dir())
    forkserver.ensure_running()
    process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    process.start()
    process.join()
    with multiprocessing.get_context("forkserver").Manager() as manager:
        assert manager.list([1])[0] == 1
    raise SystemExit(process.exitcode)
"""


@pytest.mark.parametrize("length", [20, 60, 120, 250])
def test_workers_start_with_a_folder_for_temporary_files_of_any_length(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(str(folder)) < length:
        folder = folder / ("x" * min(100, max(1, length - len(str(folder)) - 1)))
    folder.mkdir(parents=True, exist_ok=True)
    script = tmp_path / "script.py"
    script.write_text(CODE)
    env = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used = done.stdout.strip()
    assert len(used) <= max(60, len(str(tmp_path)) + 30)
    # Nothing is left of it.
    assert not Path(used).exists()


def test_without_a_short_folder_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * 100)
    sockets._make_short_folder.cache_clear()

    def refuse(**more: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(DispatchError, match="Set TMPDIR"):
        sockets.use_short_sockets()
