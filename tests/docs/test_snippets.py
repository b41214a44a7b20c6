"""Commands on the pages are commands that there are, and the tutorials are gone through as a reader would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ablations import registry
from ablations.files.study_file import load_study
from run_ablation import cli
from tests.command_line import Invoke
from tests.registries import registries_kept

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = ROOT / "docs" / "tutorial"


def blocks(path: Path, language: str) -> list[str]:
    """Return the blocks of code in a language; no language is that of commands."""
    # Whole fences at once, so that the end of one is not taken for the beginning of the next.
    fences = re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for found, text in fences if found == language]


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the commands of this project on a page, as a shell would split them."""
    for block in blocks(path, ""):
        for line in block.replace("\\\n", " ").splitlines():
            # An example of a file, a path or an option that stands for many is no command.
            if re.match(r"^ *(?:run-ablation|python run_ablation\.py) ", line) and "…" not in line:
                words = shlex.split(line.partition(" > ")[0], comments=True)
                yield words[words.index("run-ablation" if "run-ablation" in words else "run_ablation.py") + 1 :]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_on_a_page_exist_with_their_options(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands(path):
        if words[0].startswith("-"):
            continue
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None
        # Arguments that are files need not be there: what is checked is the form.
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                monkeypatch.setattr(parameter, "type", click.STRING)
        try:
            command.make_context(words[0], list(words[1:]), resilient_parsing=False)
        except click.exceptions.Exit:
            continue
        except click.ClickException as error:
            pytest.fail(f"{path.name}: {' '.join(words)}: {error.format_message()}")


ASKED = ("--all", "--set", "--seeds", "--seed", "--canary", "--until-decided", "--max-seeds")
"""Options by which a command says what is asked; others say how it is carried out."""
FILES = re.compile(r"\.(?:ya?ml|zip|pdf|pth)\b|data\.root|inspect=|timm/")


def plannable(words: list[str]) -> list[str] | None:
    """Return the command that plans at preset smoke what a command would run; None for one that needs files."""
    verb, *rest = words
    options = {name: option for option in cli.commands[verb].params for name in option.opts}
    command = ["plan", "--preset", "smoke"]
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            command.append(word)
            continue
        values = [] if getattr(options[word], "is_flag", False) else [rest.pop(0)]
        if word in ASKED:
            command += [word, *values]
    needs_files = "--plugin" in words or any(FILES.search(word) for word in command)
    return None if needs_files else command


def test_studies_rows_and_settings_in_commands_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    invoke = Invoke(capsys)
    planned = set()
    for path in PAGES:
        for words in commands(path):
            command = plannable(words) if words[0] in ("run", "plan") else None
            if command is None or tuple(command) in planned or len(command) == 3:
                continue
            planned.add(tuple(command))
            code, text = invoke(*command)
            # What a page shows may be a comparison that a reviewer would object to, but never a name that is not there.
            assert code == 0, (path.name, command, text)
    assert len(planned) > 15


def test_the_tutorial_of_a_first_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = TUTORIALS / "first-study.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(registry, "_builders", {})
    (study,) = blocks(path, "yaml")
    # Fewer seeds, and the smallest preset: what is tried is the way, not the numbers.
    (tmp_path / "kernels_or_width.yaml").write_text(study.replace("seeds: 5", "seeds: 2"), encoding="utf-8")
    invoke = Invoke(capsys)
    verbs = []
    for words in commands(path):
        arguments = [word if word != "quick" else "smoke" for word in words]
        if arguments[0] == "verify":
            arguments[1] = str(next((tmp_path / "runs" / "reports").glob("*.pdf")))
        if arguments[0] == "bundle":
            arguments += ["--preset", "smoke"]
        code, text = invoke(*arguments)
        verbs.append(arguments[0])
        if "train.epoch=4" in arguments:
            assert code != 0
            assert [text] == blocks(path, "text")
        else:
            assert code == 0, (arguments, text)
    assert verbs == ["list", "plan", "plan", "plan", "run", "verify", "bundle"]
    assert (tmp_path / "kernels_or_width.zip").is_file()


def test_the_tutorial_of_a_layer_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = TUTORIALS / "own-layer.md"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    layer, check = blocks(path, "python")
    (tmp_path / "gated_layer.py").write_text(layer, encoding="utf-8")
    (study,) = blocks(path, "yaml")
    (tmp_path / "gates.yaml").write_text(study, encoding="utf-8")
    values: dict[str, Any] = {}
    invoke = Invoke(capsys)
    with registries_kept():
        exec(check, values)
        (expected,) = blocks(path, "text")
        assert capsys.readouterr().out.startswith(expected.strip())
        for verb, *arguments in commands(path):
            # Training them is what examples/own_layer.py does, which is tested for itself.
            code, text = invoke("plan" if verb == "run" else verb, *arguments)
            assert code == 0, text
            assert verb == "explain" or "gated" in text


def test_the_layers_alone() -> None:
    (code,) = blocks(ROOT / "docs" / "howto" / "layers-alone.md", "python")
    values: dict[str, Any] = {}
    exec(code, values)
    # The intervention is taken back on exit.
    layers = [layer for layer in values["model"].modules() if hasattr(layer, "num_kernels")]
    assert len(layers) == 19
    assert {layer.aggregation for layer in layers} == {"attention"}


EXECUTED = {
    "docs/extending.md": "tests/test_extending.py",
    "docs/foreign-results.md": "tests/test_foreign_results.py",
    "docs/howto/layers-alone.md": "tests/docs/test_snippets.py",
    "docs/mlflow.md": "tests/runners/test_tracked_network.py",
    "docs/networks.md": "tests/dyconv/checkpoints/test_page.py",
    "docs/python.md": "tests/test_python_page.py",
    "docs/report-formats.md": "tests/reports/render/test_data_files.py",
    "docs/tutorial/own-layer.md": "tests/docs/test_snippets.py",
}
"""Pages with Python, and the test that runs it as it stands there."""


def test_all_python_on_the_pages_is_run() -> None:
    with_python = {str(path.relative_to(ROOT)) for path in PAGES if blocks(path, "python")}
    assert with_python == set(EXECUTED)
    for page, test in EXECUTED.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_studies_on_a_page_can_be_read(path: Path, tmp_path: Path) -> None:
    for number, text in enumerate(blocks(path, "yaml")):
        content = yaml.safe_load(text)
        # Others are a part of a study, or a study of results from elsewhere, which has no settings. That with a layer
        # of one's own is planned by the test of its tutorial.
        is_whole = "question" in content and {"variants", "factorial"} & set(content)
        if is_whole and "results" not in path.stem and "gated" not in text:
            file = tmp_path / f"{number}.yaml"
            file.write_text(text, encoding="utf-8")
            assert load_study(file).variants
