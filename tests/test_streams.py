"""Consoles without τ, closed and full outputs: the work goes on, and the exit code says how it went."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runners.console.streams import SteadyStream, UnwritableError
from tests.upkeep.made_up import STUDY

ROOT = Path(__file__).parent.parent
NARROW = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path


def _call(folder: Path, shell: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Calls the program, as `$R` in a line of shell."""
    base = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "PYTHONIOENCODING")}
    return subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        cwd=folder,
        env={**base, "PYTHONPATH": str(ROOT), "R": f"{sys.executable} {ROOT / 'run_ablation.py'}", **environment},
        timeout=1000,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [NARROW[0], *[pytest.param(narrow, marks=pytest.mark.torture) for narrow in NARROW[1:]]],
    ids=lambda environment: next(iter(environment.values())),
)
@pytest.mark.parametrize("verb", ["list", "plan temperature --preset smoke --strict", "plan tiny.yaml", "no-verb-τ"])
def test_a_console_without_tau_is_written_what_it_has(folder: Path, environment: dict[str, str], verb: str) -> None:
    ended = _call(folder, f"$R {verb}", **environment)
    said = ended.stdout + ended.stderr
    assert ended.returncode == (2 if "no-verb" in verb else ended.returncode)
    assert ended.returncode in (0, 1, 2)
    assert b"Traceback" not in said
    assert b"UnicodeEncodeError" not in said


@pytest.mark.parametrize(
    "output",
    [
        # The others take a launch each.
        *[pytest.param(output, marks=pytest.mark.torture) for output in (">&-", ">/dev/full", "2>&-", "| head -0")],
        ">&- 2>&- <&-",
    ],
)
def test_a_launch_whose_output_cannot_be_written_goes_on(folder: Path, output: str) -> None:
    run = "$R run tiny.yaml --preset smoke --dispatch inline --format md"
    ended = _call(folder, f"set -o pipefail; {run} {output}", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended
    assert b"Traceback" not in ended.stderr
    assert list((folder / "runs" / "reports").glob("*.md"))
    assert len(list((folder / "runs" / "state").glob("*/result.json"))) == 3


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("$R list >/dev/full", 1, b"error: the output cannot be written: No space left on device."),
        ("$R schema >/dev/full", 1, b"error: the output cannot be written: No space left on device."),
        ("set -o pipefail; (sleep 1; $R schema) | true", 1, b""),
        ("$R list >&-", 0, b""),
        ("$R lists 2>&-", 2, b""),
        ("$R gc --runs-dir nowhere >/dev/full", 2, b"error: there is no folder nowhere"),
    ],
)
def test_the_exit_code_is_right_when_the_output_cannot_be_written(
    folder: Path, shell: str, code: int, said: bytes
) -> None:
    ended = _call(folder, shell)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False), ended
    assert said in ended.stderr
    assert said or not ended.stderr


class _Broken:
    encoding = "ascii"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error

    def fileno(self) -> int:
        raise OSError("it has none")


@pytest.mark.parametrize("error", [OSError(5, "I/O"), BrokenPipeError(32, "pipe"), ValueError("closed file")])
def test_a_stream_goes_on_in_silence_only_if_told(error: Exception) -> None:
    strict, steady = SteadyStream(_Broken(error), goes_on=False), SteadyStream(_Broken(error), goes_on=True)
    with pytest.raises(UnwritableError):
        strict.write("x")
    assert steady.write("x") == 1
    steady.flush()
    steady.writelines(["a", "b"])


def test_no_file_gets_the_number_of_a_closed_output(folder: Path) -> None:
    script = (
        "import sys; from runners.console.streams import steady_streams; steady_streams(); "
        "print(open('x', 'w').fileno())"
    )
    ended = _call(folder, f'{sys.executable} -c "{script.replace("print(", "sys.exit(")}" >&- 2>&- <&-')
    assert ended.returncode > 2
