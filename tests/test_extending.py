"""Does exactly what docs/extending.md says: each example is taken from the page, run, and at most ten lines long."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = {match[1]: match[2] for match in re.finditer(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, flags=re.DOTALL)}
TOP2 = "name: top2\nquestion: q\nreference: all\nvariants:\n  all: {}\n  two: {intervention: {aggregation: top2}}\n"
WHERE = "model.where={not: {role: [stem]}}"


def _run(folder: Path, *arguments: str, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    for name, code in EXAMPLES.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / "aggregation_top2.yaml").write_text(TOP2, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, str(ROOT / "run_ablation.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def _lines(code: str) -> int:
    """Counts what a person writes: statements, not blank lines, imports or comments."""
    kept = [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return sum(not line.startswith(("import ", "from ")) for line in kept)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_at_most_ten_lines(name: str) -> None:
    assert 0 < _lines(EXAMPLES[name]) <= 10


def test_the_page_has_all_four() -> None:
    assert set(EXAMPLES) == {"my_strategy", "my_network", "my_data", "my_study"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("aggregation_top2.yaml", "--plugin", "my_strategy"),
        ("branch", "--plugin", "my_network", "--plugin", "my_study", "--set", "model.name=tiny", "--set", WHERE),
        ("branch", "--plugin", "my_data", "--plugin", "my_study", "--set", "data.name=stripes"),
    ],
    ids=["strategy", "network", "data set"],
)
def test_an_example_runs_to_a_report(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    small = ("--preset", "smoke", "--seeds", "1", "--format", "md", "--dispatch", "inline")
    sizes = ("data.train_images=32", "data.validation_images=16", "data.test_images=16")
    done = _run(tmp_path, "run", *arguments, *small, *(part for size in sizes for part in ("--set", size)))
    assert done.returncode == 0, done.stdout + done.stderr
    reports = list((tmp_path / "runs" / "reports").glob("*.md"))
    assert len(reports) == 1


def test_without_its_plugin_an_example_is_an_error(tmp_path: Path) -> None:
    done = _run(tmp_path, "plan", "aggregation_top2.yaml")
    assert (done.returncode, "unknown aggregation 'top2'" in done.stderr) == (2, True)


def test_an_installed_plugin_needs_no_option(tmp_path: Path) -> None:
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[dyconv_ablations.plugins]\nmine = my_strategy\n")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from run_ablation import main; main(sys.argv[1:])"
    _run(tmp_path, "schema")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "plan", "aggregation_top2.yaml"],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
