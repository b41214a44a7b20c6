"""Verifying: an honest report agrees with its runs, and whatever is changed on either side is found and named."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from pypdf import PdfWriter
from pypdf.annotations import FreeText

from ablations import vocabulary as names
from ablations.errors import ReportError
from ablations.launches import Record
from ablations.planning.optimisation_plans import make_tuning_plan
from ablations.planning.plan import Plan, make_plan
from ablations.planning.plan_data import study_data
from ablations.planning.request import Request
from ablations.planning.tuned_values import Spent, TunedFile, TunedValues, TunedVariant
from ablations.presets import PRESETS
from ablations.registry import available_studies, get_study
from ablations.spec.fingerprint import canonical_json, digest
from ablations.study import Study
from reports import make_report
from reports.analysis.summary import summarize
from reports.collect.computing.accounted import Computing
from reports.collect.runs import collect
from reports.content.blocks import Document, Figure, Number, Table
from reports.content.maker import Maker
from reports.evidence.manifest import is_intact, made_by, manifest, read_manifest, with_manifest
from reports.evidence.report_file import read_report
from reports.figures import drawing
from reports.render import get_renderer
from reports.verify import Verification, differences, planned, verify
from tests.reports.everything import made_up_results, whole_plan
from tests.reports.made_up import TEMPERATURE, Store, document_of, fill, plan_of

MAKER = Maker("a" * 40)
Files = dict[str, Path]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """One of the made-up studies: each check makes the whole report again."""
    return plan_of(TEMPERATURE)


@pytest.fixture(scope="module")
def own(make_store: Callable[[], Store], plan: Plan) -> Store:
    """A store whose runs are changed and put back."""
    made = make_store()
    fill(made, plan)
    return made


@pytest.fixture(scope="module")
def honest(own: Store, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The report on its runs."""
    return make_report(plan, own.uri, ("pdf", "html"), tmp_path_factory.mktemp("honest"), maker=MAKER)


@pytest.fixture(scope="module")
def carrying(own: Store, plan: Plan) -> Document:
    """The document of that report, with its manifest."""
    results = collect(plan, own.uri)
    document = document_of(plan, results)
    return with_manifest(
        document, manifest(plan, results, summarize(plan, results), document, made_by(MAKER)), plan, results
    )


@pytest.fixture(autouse=True)
def _unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up studies bear the names of registered ones; only one test is about that."""
    monkeypatch.setattr("reports.verify.available_studies", tuple)


drawings: dict[bytes, bytes] = {}
draw_figure = drawing._svg


def drawn_once(figure: Figure) -> bytes:
    """Draw a figure, or return the drawing of an equal one: most checks make the same report again."""
    key = pickle.dumps((figure.kind, figure.axis, figure.half, figure.data))
    if key not in drawings:
        drawings[key] = draw_figure(figure)
    return drawings[key]


def check(path: Path, store: Store) -> Verification:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_svg", drawn_once)
        return verify(path, store.uri, MAKER)


@pytest.mark.parametrize("ending", ["pdf", "html"])
def test_an_honest_report_agrees(honest: Files, own: Store, ending: str) -> None:
    found = check(honest[ending], own)
    assert (found.differences, found.notes) == ((), ())
    assert found.runs == 8
    assert found.numbers > 100


def test_two_reports_of_the_same_runs_are_the_same_bytes(honest: Files, own: Store, plan: Plan, out: Path) -> None:
    again = make_report(plan, own.uri, ("pdf", "html"), out, maker=MAKER)
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in honest.items()
    }


def test_what_was_asked_can_be_asked_again_in_its_order() -> None:
    plan = whole_plan("quick", "temperature", "aggregation", "cost", "kernels", "backbones", canary=True)
    results = made_up_results(plan)
    document = document_of(plan, results)
    content = manifest(plan, results, summarize(plan, results), document, made_by(MAKER))
    carried = with_manifest(document, content, plan, results).attachments[0].content
    again = planned(read_manifest(carried))
    assert (again.cells, again.canaries) == (plan.cells, plan.canaries)
    assert manifest(again, results, summarize(again, results), document_of(again, results), made_by(MAKER)) == content


def test_a_manifest_holds_every_value_exactly(honest: Files, carrying: Document) -> None:
    content = read_manifest(read_report(honest["pdf"]).manifest)
    assert content == json.loads(carrying.attachments[0].content)
    assert is_intact(content)
    row = content["rows"]["temperature"]["static"]
    assert [cell["test/top1"] for cell in row["seeds"].values()] == [80.0, 81.0, 85.0]
    assert {cell["fingerprint"] for cell in row["seeds"].values()} <= set(content["runs"])
    assert row["value"]["mean"] == 82.0
    assert row["value"]["sd"] == pytest.approx(7.0**0.5, rel=1e-15)
    # Three differences of mean −2 and deviation 1: t = 2 √3 with two degrees of freedom.
    assert row["difference"]["p"] == pytest.approx(0.0741799, rel=1e-6)
    cell = content["document"]["tables"]["Softmax temperature: Softmax temperature"]["row 1 (static, 3)"]
    assert cell["ours: top-1 (%)"] == [row["value"]["mean"], row["value"]["sd"]]


def test_tuned_values_are_asked_again() -> None:
    asked = Request(PRESETS["smoke"], seeds=2)
    study = get_study("temperature", asked.base())
    plan = make_tuning_plan([study], asked, 2)
    entries = tuple(
        TunedVariant.model_validate(
            {
                "variant": key,
                "fingerprint": tuning.fingerprint,
                "values": {name: factor.low for name, factor in tuning.factors.items()},
                "base": tuning.base,
                "validation_top1": 70.0,
                "spent": Spent(budget=4, complete=4, pruned=0, diverged=0, epochs=9, seconds=12.5),
                "factors": dict(tuning.factors),
                "settings": {},
                "git_commit": "abc",
                "git_dirty": False,
                "time": "2026-01-01T00:00:00Z",
            }
        )
        for tuning in plan.optimisations
        for key in plan.serves[tuning.fingerprint]["temperature"]
    )
    values = TunedValues(Path("tuning"), (TunedFile(study="temperature", preset="smoke", tuned=entries),))
    plan = make_plan([study], replace(asked, tuned=values))
    assert plan.trials != make_plan([study], asked).trials
    results = made_up_results(plan)
    content = manifest(plan, results, summarize(plan, results), document_of(plan, results), made_by(MAKER))
    again = planned(json.loads(json.dumps(content)))
    assert (again.trials, again.tuned) == (plan.trials, plan.tuned)


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_every_registered_study_is_the_same_after_it_was_carried(preset: str) -> None:
    for study in whole_plan(preset).studies:
        assert Study.model_validate_json(json.dumps(study_data(study.whole))) == study.whole


def changed_digit(text: str) -> str:
    """Returns a manifest in which one accuracy is another."""
    assert '"test/top1":81.0' in text
    return text.replace('"test/top1":81.0', '"test/top1":81.5', 1)


def with_attachment(path: Path, change: Callable[[str], str], target: Path) -> Path:
    """Writes a PDF whose manifest is changed and nothing else."""
    writer = PdfWriter(clone_from=path)
    (stream,) = (found for found in map(resolved, writer._objects) if kind_of(found) == "/EmbeddedFile")
    stream.set_data(change(stream.get_data().decode()).encode())
    writer.write(target)
    return target


def resolved(found: Any) -> Any:
    return found.get_object() if found is not None else None


def kind_of(found: Any) -> Any:
    return found.get("/Type") if isinstance(found, dict) else None


def test_a_changed_digit_in_the_manifest_of_a_pdf(honest: Files, own: Store, tmp_path: Path) -> None:
    path = with_attachment(honest["pdf"], changed_digit, tmp_path / "changed.pdf")
    first, second, *_ = check(path, own).differences
    assert first == "the manifest was changed: its digest is not that of its content"
    assert "test/top1: 81.5 in the report, 81.0 from the runs" in second


def test_a_changed_digit_whose_digest_was_made_anew(honest: Files, own: Store, tmp_path: Path) -> None:
    def resealed(text: str) -> str:
        content = json.loads(changed_digit(text))
        del content["sha256"]
        return canonical_json({**content, "sha256": digest(content)})

    path = with_attachment(honest["pdf"], resealed, tmp_path / "changed.pdf")
    found = check(path, own).differences
    assert len(found) == 1
    assert "81.5 in the report, 81.0 from the runs" in found[0]


def test_a_changed_digit_in_a_page_of_html(honest: Files, own: Store, tmp_path: Path) -> None:
    text = honest["html"].read_text()
    assert text.count(">82.00 ± 2.65<") == 1
    (tmp_path / "changed.html").write_text(text.replace(">82.00 ± 2.65<", ">83.00 ± 2.65<"))
    (line,) = check(tmp_path / "changed.html", own).differences
    assert "83.00 ± 2.65" in line.partition(" is shown, ")[0]
    assert "82.00 ± 2.65" in line.partition(" is shown, ")[2]


@pytest.fixture
def metric_changed(own: Store, plan: Plan) -> Iterator[str]:
    """A run whose accuracy is changed in the store by a thousandth; its id."""
    client, run_id = MlflowClient(own.uri), _run_of(own, plan, "tau_30", 1)
    client.log_metric(run_id, "test/top1", 84.001, timestamp=1_800_000_000_000, step=10)
    yield run_id
    client.log_metric(run_id, "test/top1", 84.0, timestamp=1_900_000_000_000, step=11)


def _run_of(store: Store, plan: Plan, variant: str, seed: int) -> str:
    cells = collect(plan, store.uri).cells
    cells = cells[(cells["study"] == "temperature") & (cells["variant"] == variant) & (cells["seed"] == seed)]
    return str(cells["run_id"].iloc[0])


def test_a_metric_changed_in_the_store(honest: Files, own: Store, metric_changed: str) -> None:
    found = check(honest["pdf"], own).differences
    runs = [line for line in found if line.startswith("run ")]
    assert len(runs) == 1
    assert metric_changed in runs[0]
    assert runs[0].endswith("metrics, test/top1: 84.0 in the report, 84.001 from the runs")
    assert any(line.startswith("rows, temperature, tau_30, value, mean: 84.0 in the report, 84.000") for line in found)
    assert any("difference" in line for line in found)


def test_a_deleted_run(honest: Files, own: Store, plan: Plan) -> None:
    client, run_id = MlflowClient(own.uri), _run_of(own, plan, "static", 2)
    client.delete_run(run_id)
    try:
        found = check(honest["html"], own).differences
    finally:
        client.restore_run(run_id)
    assert found[0].startswith(f"run {run_id} (temperature: static, seed 2): was deleted")
    assert "rows, temperature, static, seeds, 2, status: “finished” in the report, “missing” from the runs" in found


def test_launches_of_later_do_not_matter_and_forgotten_ones_are_told(
    own: Store, plan: Plan, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then, later = (Record(name, began, ("temperature",), 3, 2, None, 9.5) for name, began in (("x", 1.0), ("y", 2.0)))
    results = replace(collect(plan, own.uri), launches=(then,))
    path = make_report(plan, own.uri, ("html",), out, results=results, maker=MAKER)["html"]
    known: tuple[Record, ...] = (then, later)
    monkeypatch.setattr("reports.verify.collect", lambda *_: replace(results, launches=known))
    found = check(path, own)
    assert (found.differences, found.notes) == ((), ())
    known = (later,)
    found = check(path, own)
    assert found.differences == ()
    assert found.notes == ("the store has no record of launch x any more: its times are not checked",)
    known = (replace(then, actual=10.5), later)
    assert "launches, x, actual: 9.5 in the report, 10.5 from the runs" in check(path, own).differences


def test_the_computing_of_a_report_is_that_of_its_time(make_store: Callable[[], Store], plan: Plan, out: Path) -> None:
    store = make_store()
    fill(store, plan)
    path = make_report(plan, store.uri, ("html",), out, maker=MAKER)["html"]
    study = {names.study_tag("temperature"): "tau_30", names.TAG_KIND: "trial"}
    experiment = names.experiment_name("smoke", "fashion_mnist_mini")
    # A later failure and one that the report hides: neither makes another report of its own runs.
    store.raw(experiment, "later", study, {}, status="FAILED", start=1_800_000_000_000)
    found = check(path, store)
    assert (found.differences, found.notes) == ((), ())
    earlier = store.raw(experiment, "earlier", study, {}, status="FAILED", start=1_600_000_000_000)
    found = check(path, store)
    assert found.differences == ()
    (note,) = found.notes
    assert note.startswith(
        "computing, runs of these studies that ended before the report's newest and are not in it: 1"
    )
    # Now of its report, whose time is then held against the store.
    path = make_report(plan, store.uri, ("html",), out, maker=MAKER)["html"]
    MlflowClient(store.uri).log_metric(earlier, names.ATTEMPT_SECONDS, 77.0)
    lines = check(path, store).differences
    assert f"computing, {earlier}, seconds: 1.0 in the report, 77.0 from the runs" in lines


@pytest.mark.parametrize("computing", [[], {"a": 1}, {"a": {}}, {"a": {"kind": "trial", "seconds": -1}}])
def test_a_computing_that_cannot_be_read(
    carrying: Document, own: Store, plan: Plan, out: Path, computing: object
) -> None:
    content = {**json.loads(carrying.attachments[0].content), "computing": computing}
    document = with_manifest(replace(carrying, attachments=()), content, plan, collect(plan, own.uri))
    path = get_renderer("html")(document, out, "report")
    with pytest.raises(ReportError, match="the computing in its manifest cannot be read"):
        check(path, own)


def test_a_report_of_before_computing_was_told_is_made_again_without_it(
    carrying: Document, own: Store, plan: Plan, out: Path
) -> None:
    results = replace(collect(plan, own.uri), computing=Computing())
    document = document_of(plan, results)
    content = manifest(plan, results, summarize(plan, results), document, made_by(MAKER))
    assert "computing" not in content
    path = get_renderer("html")(with_manifest(document, content, plan, results), out, "report")
    found = check(path, own)
    assert (found.differences, found.notes) == ((), ())


def test_a_store_without_any_of_the_runs(honest: Files, make_store: Callable[[], Store]) -> None:
    (line,) = check(honest["html"], make_store()).differences
    assert line.startswith("nothing can be computed: ")


def _changed(document: Document, change: Callable[[Any], Any]) -> Document:
    sections = tuple(
        replace(section, blocks=tuple(change(block) for block in section.blocks)) for section in document.sections
    )
    return replace(document, sections=sections)


def _better(block: Any) -> Any:
    """A table in which the first mean is a tenth of a point better."""
    if not (isinstance(block, Table) and block.title == "Softmax temperature"):
        return block
    (label, mean, *rest), *rows = block.rows
    assert isinstance(mean, Number)
    return replace(block, rows=((label, replace(mean, value=mean.value + 0.1), *rest), *rows))


def test_a_page_that_shows_another_number_than_its_manifest(carrying: Document, own: Store, out: Path) -> None:
    path = get_renderer("pdf")(_changed(carrying, _better), out, "report")
    (line,) = check(path, own).differences
    assert line.startswith("page ")
    assert "82.10" in line.partition(" is shown, ")[0]
    assert "82.00" in line.partition(" is shown, ")[2]


def _moved(block: Any) -> Any:
    return replace(block, data=block.data.assign(mean=block.data["mean"] + 1)) if isinstance(block, Figure) else block


@pytest.mark.parametrize("ending", ["pdf", "html"])
def test_a_figure_that_draws_something_else(carrying: Document, own: Store, out: Path, ending: str) -> None:
    path = get_renderer(ending)(_changed(carrying, _moved), out, "report")
    found = check(path, own)
    assert found.differences
    assert all("page" in line for line in found.differences)


def _paler(block: Any) -> Any:
    """A heat map, which is a picture within the page, with other colours."""
    if not (isinstance(block, Figure) and block.kind == "entropy"):
        return block
    return replace(block, data=block.data.assign(mean=block.data["mean"] / 2))


def test_a_picture_with_other_colours(carrying: Document, own: Store, out: Path) -> None:
    found = check(get_renderer("pdf")(_changed(carrying, _paler), out, "report"), own).differences
    assert len(found) == 1
    assert found[0].endswith("draws something else than its runs make, though its words are the same")


def test_what_another_version_draws_cannot_be_checked(carrying: Document, own: Store, out: Path) -> None:
    path = get_renderer("pdf")(_changed(carrying, _moved), out, "report")
    found = verify(path, own.uri, Maker("b" * 40))
    assert found.differences == ()
    drawn, tools = found.notes
    assert drawn.startswith("what page ")
    assert tools == "the report was made with commit aaaaaaaaaaaa (here bbbbbbbbbbbb)."


def test_a_note_on_top_of_a_page(honest: Files, own: Store, tmp_path: Path) -> None:
    writer = PdfWriter(clone_from=honest["pdf"])
    writer.add_annotation(0, FreeText(text="99.9", rect=(100, 100, 200, 120)))
    writer.write(tmp_path / "noted.pdf")
    assert (
        "page 1 carries 1 notes or fields that lie on top of its words"
        in check(tmp_path / "noted.pdf", own).differences
    )


def test_a_study_that_is_not_the_registered_one_of_its_name(
    honest: Files, own: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.verify.available_studies", available_studies)
    assert check(honest["html"], own).differences == (
        "study 'temperature' is not the one that is registered here under that name",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7 broken", "pages cannot be read"),
        (b"<!doctype html><p>no manifest</p>", "carries no manifest.json"),
        (b"PK\x03\x04", "neither a PDF nor an HTML"),
        (b'<!doctype html><script id="manifest.json">[1</script>', "cannot be read"),
        (b'<!doctype html><script id="manifest.json">{"made_by": {"x": 1e400}}</script>', "cannot be read"),
        (b'<!doctype html><script id="manifest.json">{"format": 1}</script>', "cannot be read"),
        (b'<!doctype html><script id="manifest.json">' + b"[" * 100_000 + b"</script>", "cannot be read"),
    ],
)
def test_what_is_no_report_is_refused(content: bytes, message: str, own: Store, tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=message):
        check(path, own)
    with pytest.raises(ReportError, match="cannot read"):
        check(tmp_path / "none.pdf", own)


@pytest.mark.parametrize(
    "value", [None, 3, [], {"preset": "smoke"}, {"preset": "smoke", "overrides": [], "seeds": "x"}]
)
def test_a_request_that_is_none(value: Any) -> None:
    with pytest.raises(ReportError, match="what its manifest asks for cannot be read"):
        planned({"request": value})


def test_differences_are_named_by_the_way_there() -> None:
    told = {"a": {"b": [1, 2.0]}, "c": "x" * 100 + "1", "d": 1}
    computed = {"a": {"b": [1, 2.5]}, "c": "x" * 100 + "2", "e": True}
    assert differences(told, computed, "rows") == [
        "rows, a, b, 2: 2.0 in the report, 2.5 from the runs",
        f"rows, c: “…{'x' * 20}1” in the report, “…{'x' * 20}2” from the runs",
        "rows, d: 1 in the report, nothing from the runs",
        "rows, e: nothing in the report, true from the runs",
    ]
