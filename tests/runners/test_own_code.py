"""Workers run the code of the program that started them, whatever other copies of the project lie about."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ablations.errors import DispatchError
from runners import own_code
from runners.dispatch.slurm import dispatcher
from runners.own_code import ROOT, check_same_code, code_digest, import_variables, imported_by_children
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench

_ASK = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from runners.dispatch import DispatchSettings, make_dispatcher
import question
if __name__ == "__main__":
    with make_dispatcher(DispatchSettings("processes", workers=1, device="cpu")) as dispatcher:
        print(*dispatcher.ask(question.files), sep="\\n")
"""
_QUESTION = """
def files():
    import ablations, dyconv, runners
    return [module.__file__ for module in (ablations, dyconv, runners)]
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that holds another copy of the project, of which nothing can be imported."""
    for package in ("ablations", "dyconv", "runners"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('the other copy')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_workers_import_the_copy_that_the_launcher_has_imported(elsewhere: Path) -> None:
    (elsewhere / "ask.py").write_text(_ASK, encoding="utf-8")
    (elsewhere / "question.py").write_text(_QUESTION, encoding="utf-8")
    run = subprocess.run([sys.executable, "ask.py"], capture_output=True, text=True, check=False)
    wanted = [str(ROOT / package / "__init__.py") for package in ("ablations", "dyconv", "runners")]
    assert run.stdout.split() == wanted, run.stderr


@pytest.mark.parametrize("arguments", [["-c", "import runners; print(runners.__file__)"], ["-m", "program"]])
def test_a_python_started_in_the_block_imports_this_copy(elsewhere: Path, arguments: list[str]) -> None:
    (elsewhere / "program.py").write_text("import runners; print(runners.__file__)\n", encoding="utf-8")
    with imported_by_children():
        # As a plug-in would be found.
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(elsewhere)])}
        run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=variables)
    assert run.stdout.strip() == str(ROOT / "runners" / "__init__.py"), run.stderr


def test_the_environment_is_as_before_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "plug-ins")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with imported_by_children():
        assert os.environ["PYTHONPATH"] == os.pathsep.join([str(ROOT), "plug-ins"])
    assert os.environ["PYTHONPATH"] == "plug-ins"
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_copy_among_installed_packages_is_not_put_before_python_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "ROOT", Path(sysconfig.get_path("purelib")).resolve())
    monkeypatch.setenv("PYTHONPATH", "plug-ins")
    assert import_variables()["PYTHONPATH"] == "plug-ins"
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in import_variables()


def test_only_the_same_folder_or_the_same_content_is_the_same_code() -> None:
    check_same_code(str(ROOT), "of files that were changed since")
    check_same_code("/on/another/machine", code_digest())
    with pytest.raises(DispatchError, match=r"runs the code in .*not that of the launcher in /another/copy"):
        check_same_code("/another/copy", "another")
    with pytest.raises(DispatchError, match=r"Nothing was measured"):
        check_same_code(str(ROOT), "another", is_same_machine=False)


def test_a_digest_tells_copies_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "ROOT", tmp_path)
    (tmp_path / "runners").mkdir()
    digests = []
    for name, text in (("a.py", "x = 1\n"), ("a.py", "x = 2\n"), ("b.py", "x = 2\n")):
        (tmp_path / "runners" / name).write_text(text, encoding="utf-8")
        digests.append(code_digest.__wrapped__())
    assert len(set(digests)) == 3


def test_a_worker_with_other_code_measures_nothing(bench: Bench) -> None:
    fingerprint = bench.trial().fingerprint
    task = Task(bench.root, fingerprint, device="cpu", code_root="/another/copy", code_digest="another")
    assert run_node(task) == "failed"
    state = bench.states[fingerprint]
    failure = state.failure()
    assert failure is not None
    assert "not that of the launcher" in failure["message"]
    assert not state.is_done


def test_a_job_of_slurm_exports_what_makes_it_import_this_copy() -> None:
    lines = dispatcher._exports()
    assert any(line.startswith(f"export PYTHONPATH={ROOT}") for line in lines)
    assert "export PYTHONSAFEPATH=1" in lines
