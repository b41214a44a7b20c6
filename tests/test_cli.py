"""The command line where it needs no torch: list, plan, schema, help of every verb, and bad input of all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import run_ablation
from ablations.planning.plan import make_plan
from ablations.planning.request import Request
from ablations.presets import get_preset
from ablations.registry import available_studies, get_study
from runners.estimates.estimate import Speed, speed_key, work_steps
from runners.estimates.measurements import Load, Measurements
from tests.command_line import Invoke

VERBS = (
    "list",
    "plan",
    "tune",
    "run",
    "status",
    "explain",
    "retry",
    "results",
    "report",
    "verify",
    "bundle",
    "compare",
    "search",
    "sync",
    "gc",
    "ui",
    "init",
    "schema",
    "completion",
)
HEAVY = (
    "torch",
    "torchvision",
    "mlflow",
    "pandas",
    "matplotlib",
    "scipy",
    "numpy",
    "optuna",
    "ray",
    "reports.analysis",
    "reports.collect",
    "reports.document",
    "dyconv",
)

SHARING = "one training per table row and seed would be"

STUDY = """\
name: mine
question: Does width help?
reference: narrow
variants:
  narrow: {model.width: 0.35}
  wide: {model.width: 0.5}
"""


def start(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(run_ablation.__file__).parent
    command = [sys.executable, *(["-c", code] if code else [str(root / "run_ablation.py")]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, check=False, timeout=600)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_examples_that_begin_with_it(invoke: Invoke, verb: str) -> None:
    code, out, err = invoke.apart(verb, "--help")
    assert (code, err) == (0, "")
    assert "Examples:" in out
    # Shells complete the installed command alone.
    program = "run-ablation" if verb == "completion" else "python run_ablation.py"
    assert f"  {program} {verb}" in out


def test_help_names_every_verb(invoke: Invoke) -> None:
    code, out, _ = invoke.apart("--help")
    assert code == 0
    assert [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()] == list(VERBS)
    assert tuple(run_ablation.cli.commands) == VERBS
    # The group reads the first sentence of each verb from its source; it must be that of the verb's own help.
    for verb, command in run_ablation.cli.commands.items():
        sentence = command.get_short_help_str(1000).removesuffix(".")
        assert re.search(rf"^  {verb} +{re.escape(sentence)}$", out, re.MULTILINE), verb


def test_the_list_of_verbs_has_a_line_each_at_80_columns(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = invoke.apart("--help")[1]
    lines = [line for line in out.partition("Commands:")[2].splitlines() if line.strip()]
    assert len(lines) == len(VERBS)
    assert max(map(len, lines)) <= 80
    assert not any("..." in line for line in lines)


def test_no_verb_shows_the_help_and_fails(invoke: Invoke) -> None:
    code, out, err = invoke.apart()
    assert code == 2
    assert "Commands:" in out + err


def test_a_report_that_is_not_there_is_wrong_input_and_no_difference(invoke: Invoke) -> None:
    code, out, err = invoke.apart("verify", "nowhere.pdf")
    assert (code, out) == (2, "")
    assert "nowhere.pdf" in err
    assert "does not exist" in err


def test_list(invoke: Invoke) -> None:
    code, out, err = invoke.apart("list")
    assert (code, err) == (0, "")
    assert all(name in out for name in available_studies())
    # Counted by hand in `tests/ablations/planning/test_sharing.py`.
    assert f"All together: 166 trainings and 236 evaluations; {SHARING} 523." in out
    small = invoke.apart("list", "--preset", "small")[1]
    assert f"All together: 400 trainings and 140 evaluations; {SHARING} 740." in small


def test_plan(invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke.apart("plan", "aggregation", "resolution", "temperature", "--preset", "quick")
    assert (code, err) == (0, "")
    # Four networks with five seeds, two with nine; twelve evaluations of these two with nine seeds each.
    # Rows: five aggregations and ten resolutions of two networks with nine seeds, six temperatures with five.
    assert f"38 trainings and 216 evaluations; {SHARING} 300." in out
    assert "To do: 38 trainings, 216 evaluations." in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "todo"),
    [
        (("temperature", "--seeds", "5"), "To do: 30 trainings, 0 evaluations."),
        (("--all",), "To do: 166 trainings, 236 evaluations, 27 networks to count and time."),
        (("--all",), f"166 trainings and 236 evaluations; {SHARING} 523."),
        (("cost",), "To do: 0 trainings, 0 evaluations, 16 networks to count and time."),
        (("cost", "temperature", "--set", "train.epochs=4"), "To do: 30 trainings, 0 evaluations, 16 networks"),
        # One network, nine seeds, four aggregations of it besides its own.
        (("cost", "aggregation", "--set", "inspect=tau_1"), "To do: 9 trainings, 36 evaluations, 16 networks"),
        (("kernels", "--set", "model.width=0.5"), "To do: 8 trainings, 0 evaluations, 4 networks"),
        (("--all", "--preset", "small", "--set", "data.root=elsewhere"), "To do: 400 trainings, 140 evaluations, 39"),
        (("--all", "--set", "data.augmentation=crop"), "To do: 166 trainings, 236 evaluations, 27 networks"),
        (("temperature", "temperature"), "To do: 30 trainings, 0 evaluations."),
        (("aggregation", "--set", "inspect=tau_30"), "To do: 9 trainings, 36 evaluations."),
        (("aggregation", "--set", "inspect=tau_30,tau_1"), "To do: 18 trainings, 72 evaluations."),
        (("aggregation", "--seeds", "3", "--set", "inspect=tau_30"), "To do: 3 trainings, 12 evaluations."),
        (("temperature", "--set", "train.epochs=4", "--set", "model.width=1"), "To do: 30 trainings, 0 evaluations."),
        (("mine.yaml", "--preset", "smoke"), "To do: 4 trainings, 0 evaluations."),
        (("mine.yaml", "temperature"), "To do: 33 trainings, 0 evaluations."),
    ],
)
def test_plan_options(invoke: Invoke, tmp_path: Path, options: tuple[str, ...], todo: str) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY)
    code, out, err = invoke.apart("plan", *options)
    assert (code, err) == (0, "")
    assert todo in out


@pytest.mark.parametrize("preset", ["smoke", "quick", "evening", "small", "paper"])
def test_all_studies_are_planned_together_at_every_preset(invoke: Invoke, preset: str) -> None:
    code, out, err = invoke.apart("plan", "--all", "--preset", preset)
    assert (code, err) == (0, "")
    assert [name for name in available_studies() if f" {name} " not in out] == []


MANY_FACTORS = """\
name: mine
question: Does everything help?
reference: narrow
seeds: 12
variants:
  narrow: {model.width: 0.35}
  other: {model.width: 0.5, train.momentum: 0.5}
"""


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (STUDY, 0, ["Lint few-seeds is allowed in mine"]),
        (MANY_FACTORS, 1, ["lint several-factors in mine", "model.width, train.momentum", "docs/lint.md"]),
        (MANY_FACTORS + "allow: {several-factors: it is a demonstration}\n", 0, ["it is a demonstration"]),
    ],
)
def test_strict_fails_with_what_is_not_allowed(
    invoke: Invoke, tmp_path: Path, text: str, code: int, words: list[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    strict, out, err = invoke.apart("plan", "mine.yaml", "--strict")
    assert (strict, err) == (code, "")
    assert [word for word in words if word not in " ".join(out.split())] == []
    # The command that `plan` suggests has the options that it was given.
    assert invoke.apart("plan", "mine.yaml") == (0, out.replace(" --strict", ""), "")


def test_the_built_in_studies_are_strict(invoke: Invoke) -> None:
    assert invoke.apart("plan", "--all", "--strict")[0] == 0


def test_a_plan_says_that_it_does_not_know_how_long_it_takes(invoke: Invoke, tmp_path: Path) -> None:
    out = invoke.apart("plan", "temperature")[1]
    assert "Time: it cannot be told yet: 2 networks" in out
    assert "--calibrate" in out
    assert list(tmp_path.iterdir()) == []


TRAINING = 2 * (5 * 60 + 36) * 60 / 30
"""Seconds: 30 trainings of so long by two workers take 5 h 36 min."""


@pytest.fixture
def timed(tmp_path: Path) -> None:
    """A runs folder that knows how long the networks of *temperature* take."""
    request = Request(get_preset("quick"))
    plan = make_plan([get_study("temperature", request.base())], request)
    load = Load("cpu", 2, 1)
    speeds = {
        speed_key(node): Speed(
            step_seconds=TRAINING / work_steps(node), memory_bytes=2_000_000, weights_bytes=1_000_000
        )
        for node in plan.nodes
    }
    Measurements(tmp_path / "runs").add("learned", [(key, load, speed) for key, speed in speeds.items()])


@pytest.mark.usefixtures("timed")
def test_a_plan_says_how_long_it_takes(invoke: Invoke) -> None:
    out = invoke.apart("plan", "temperature", "--workers", "2", "--device", "cpu")[1]
    assert "Time: 5 h 40 min (" in out
    assert "with 2 workers; of computing, trainings 11 h" in out
    assert "Needs: memory up to 4 MB of " in out
    assert "with 24 workers" in invoke.apart("plan", "temperature", "--workers", "24", "--device", "cpu")[1]


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_plan_of_too_many_hours_is_refused(invoke: Invoke, tmp_path: Path, verb: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = invoke.apart(verb, "temperature", "--workers", "2", "--device", "cpu", "--max-hours", "5")
    assert (code, out) == (2, "")
    assert "this takes about 5 h 40 min" in err
    assert "--trim" in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("timed")
def test_a_plan_is_trimmed_to_the_hours(invoke: Invoke) -> None:
    how = ("--workers", "2", "--device", "cpu", "--max-hours", "4", "--trim")
    code, out, err = invoke.apart("plan", "temperature", *how)
    assert (code, err) == (0, "")
    assert "3 seeds. It takes about 3 h 20 min then" in " ".join(out.split())
    assert "To do: 18 trainings, 0 evaluations." in out


def test_hours_that_cannot_be_told_are_refused(invoke: Invoke) -> None:
    code, out, err = invoke.apart("plan", "temperature", "--max-hours", "5")
    assert (code, out) == (2, "")
    assert "cannot be told yet" in err


def test_schema_is_json(invoke: Invoke) -> None:
    code, out, _ = invoke.apart("schema")
    assert code == 0
    schema = json.loads(out)
    assert schema["required"] == ["name"]
    assert [option["required"][-1] for option in schema["anyOf"]] == ["variants", "factorial", "extends"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lst"], ["unknown verb 'lst'", "'list'"]),
        (["plan", "agregation"], ["unknown study 'agregation'", "'aggregation'"]),
        (["run", "agregation"], ["unknown study 'agregation'", "'aggregation'"]),
        (["plan"], ["no study is named", ", ".join(available_studies())]),
        (["run"], ["no study is named"]),
        (["list", "--preset", "quik"], ["unknown preset 'quik'", "'quick'"]),
        (["plan", "temperature", "--preset", "quik"], ["unknown preset 'quik'", "'quick'"]),
        (["plan", "temperature", "--set", "train.epoch=4"], ["'train.epoch'", "'train.epochs'"]),
        (["plan", "temperature", "--set", "model.name.x=4"], ["'model.name.x'", "'model.name'"]),
        (["plan", "temperature", "--set", "model=4"], ["unknown setting 'model'", "'model.name'"]),
        (["plan", "temperature", "--set", "train.epochs"], ["'train.epochs'", "KEY=VALUE"]),
        (["plan", "temperature", "--set", "=4"], ["KEY=VALUE"]),
        (["plan", "temperature", "--set", "train.epochs=[4"], ["[4"]),
        (["plan", "temperature", "--set", "train.epochs=four"], ["train.epochs", "integer", "'four'"]),
        (["plan", "temperature", "--set", "model.name=[a]"], ["model.name", "string", "['a']"]),
        (["plan", "temperature", "--set", "model.name=mobilenet_v9"], ["'mobilenet_v9'", "'mobilenet_v2'"]),
        (["plan", "temperature", "--set", "data.name=fashion_mnst"], ["'fashion_mnst'", "'fashion_mnist'"]),
        (["plan", "temperature", "--set", "model.aggregation=atention"], ["'atention'", "'attention'"]),
        (["plan", "temperature", "--set", "train.step_epochs=3"], ["nothing reads", "train.schedule"]),
        (["plan", "cost", "--set", "train.epochs=4"], ["nothing reads --set train.epochs=4", "'cost' trains nothing"]),
        (["plan", "cost", "--set", "inspect=tau_30"], ["nothing reads inspect"]),
        (["plan", "temperature", "--set", "train.devices=7"], ["train.devices = 7", "not a multiple"]),
        (["plan", "temperature", "--set", "model.stem_kernel=3"], ["nothing reads", "has no stem_kernel"]),
        (["plan", "temperature", "--set", "model.normalization=softmx"], ["'normalized_sigmoid'", "'softmx'"]),
        (["plan", "temperature", "--set", "train.temperature.epochs=999"], ["longer than the training"]),
        (["plan", "temperature", "--set", "train.learning_rate=.nan"], ["train.learning_rate"]),
        (["plan", "temperature", "--set", "inspect=tau_30"], ["nothing reads inspect"]),
        (["plan", "aggregation", "--set", "inspect=tau_31"], ["'tau_31'", "'tau_30'"]),
        (["plan", "aggregation", "--set", "inspect=3"], ["not a list of network names"]),
        (["plan", "aggregation", "--set", "inspect="], ["not a list of network names"]),
        (["plan", "missing.yaml"], ["missing.yaml", "No such file"]),
        (["plan", "broken.yaml"], ["broken.yaml:3: ", "'narow'", "'narrow'"]),
        (["plan", "temperature", "--seeds", "0"], ["--seeds"]),
        (["plan", "temperature", "--seeds", "many"], ["--seeds"]),
        (["plan", "temperature", "--pre", "quick"], ["--pre"]),
        (["plan", "temperature", "--trim"], ["--trim needs --max-hours"]),
        (["run", "temperature", "--trim"], ["--trim needs --max-hours"]),
        (["plan", "temperature", "--max-hours", "0"], ["--max-hours"]),
        (["plan", "temperature", "--workers", "0"], ["--workers"]),
        (["ui", "--port", "0"], ["--port"]),
        (["compare", "temperature", "--right-preset", "quik"], ["unknown preset 'quik'", "'quick'"]),
        (["compare", "temperature", "--left-set", "train.epoch=4"], ["'train.epoch'", "'train.epochs'"]),
    ],
)
def test_bad_input_is_named_with_what_was_meant(
    invoke: Invoke, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "broken.yaml").write_text(STUDY.replace("reference: narrow", "reference: narow"))
    code, out, err = invoke.apart(*arguments)
    assert (code, out) == (2, "")
    assert [word for word in words if word not in err] == []
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.yaml"]


def test_an_unknown_report_format_is_named_before_anything_starts(invoke: Invoke, tmp_path: Path) -> None:
    for verb in ("run", "report"):
        code, out, err = invoke.apart(verb, "temperature", "--format", "md,pfd")
        assert (code, out) == (2, "")
        assert "unknown report format 'pfd'" in err
        assert "'pdf'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dispatch", "proceses"), "'processes'"),
        (("--device", "gpu"), "no device"),
        (("--ray-address", "10.0.0.1:6379"), "only with --dispatch ray"),
        (("--slurm", "partition=gpu"), "only with --dispatch slurm"),
        (("--dispatch", "slurm", "--slurm", "partitoin=gpu"), "'partition'"),
        (("--dispatch", "inline", "--workers", "2"), "one task at a time"),
        (("--device", "cpu", "--trials-per-gpu", "2"), "uses no GPU"),
        (("--workers", "0"), "--workers"),
        (("--threads", "0"), "--threads"),
    ],
)
def test_places_of_work_that_cannot_be_are_refused_before_anything_starts(
    invoke: Invoke, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    code, out, err = invoke.apart("run", "temperature", *options)
    assert (code, out) == (2, "")
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_process_of_its_own_ends_without_a_traceback() -> None:
    ended = start("plan", "agregation")
    assert (ended.returncode, ended.stdout) == (2, "")
    nearest = "'aggregation' or 'trained_aggregation' or 'reduction'"
    assert ended.stderr == f"error: unknown study 'agregation'. Did you mean {nearest}?\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["plan", "--all"], ["plan", "--all", "--preset", "paper"], ["schema"]]
)
def test_what_only_asks_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from run_ablation import main; main(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    ended = start(*arguments, code=code)
    assert (ended.returncode, ended.stderr) == (0, "[]\n")


def test_the_help_of_a_verb_imports_nothing_heavy() -> None:
    code = (
        "import sys; from run_ablation import cli; list(cli.commands.values());"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert start(code=code).stdout == "[]\n"


@pytest.mark.parametrize("value", ["1e-3", json.dumps(4e-05)])
def test_an_override_is_read_as_in_a_study_file(invoke: Invoke, value: str) -> None:
    assert invoke.apart("plan", "temperature", "--set", f"train.weight_decay={value}")[0] == 0
