"""Checking a bundle: an honest one agrees with itself, and what was changed is named, its digests made anew or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.datasets.registry import forget_folders
from ablations.errors import BundleError, OptionError, ReportError
from ablations.launches import Record
from ablations.planning.plan import Plan, make_plan
from ablations.planning.request import Request
from ablations.presets import PRESETS
from ablations.registry import available_studies
from ablations.spec.fingerprint import canonical_json, digest
from ablations.vocabulary import TAG_FINGERPRINT, TAG_KIND, TAG_SEED, experiment_name
from reports import make_report
from reports.archive.bundle import make_bundle, open_bundle
from reports.bundles.checking import _stem_and_formats, verify_bundle, verify_file
from reports.bundles.packing import Packed, _revealing, pack_report
from reports.bundles.remaking import remade_document, remake_report
from reports.collect.runs import collect
from reports.content.blocks import Number, Text
from reports.content.maker import Maker
from reports.tables.export.choice import TableChoice, choose
from reports.verify import Verification
from tests.ablations.datasets.test_registry import make_folder
from tests.reports.made_up import TEMPERATURE, Store, fill, plan_of

MAKER = Maker("a" * 40)
LATER = Maker("b" * 40)
MANIFEST, HTML = "manifest.json", "report/temperature-smoke-3seeds.html"
FORMATS = ("html", "md")
"""Without the PDF, which takes most of the time and is checked by the same code as the page."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    """One of the made-up studies, with a character that a page of HTML spells otherwise than its manifest does."""
    return plan_of(TEMPERATURE.model_copy(update={"question": "Is τ < 30 worse?"}))


@pytest.fixture(scope="module")
def tracked(make_store: Callable[[], Store], plan: Plan) -> Store:
    """A store with its runs."""
    store = make_store()
    fill(store, plan)
    return store


@pytest.fixture(scope="module")
def packed(tracked: Store, plan: Plan) -> Packed:
    """The bundle of its report."""
    return pack_report(plan, tracked.uri, FORMATS, MAKER, ["smoke", "nowhere", "x"])


@pytest.fixture
def bundle(packed: Packed, tmp_path: Path) -> Path:
    """That bundle in a file."""
    path = tmp_path / "report.zip"
    path.write_bytes(packed.content)
    return path


@pytest.fixture(autouse=True)
def _unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up study bears the name of a registered one."""
    monkeypatch.setattr("reports.verify.available_studies", tuple)


def forged(path: Path, change: Callable[[dict[str, bytes]], None], maker: Maker = MAKER) -> Verification:
    """Returns what is said of a bundle in which files were changed and all digests of the bundle made anew."""
    bundle = open_bundle(path)
    files = {name: bundle.read(name) for name in bundle.names}
    change(files)
    path.write_bytes(make_bundle(files, bundle.listing.about))
    return verify_bundle(path, maker)


def test_an_honest_bundle_agrees_with_itself(bundle: Path, packed: Packed) -> None:
    outcome = verify_bundle(bundle, MAKER)
    assert (outcome.differences, outcome.notes) == ((), ())
    assert outcome.runs == 8
    assert outcome.numbers > 100
    first, *_ = outcome.lines()
    assert first.startswith(f"sha256 {packed.sha256}: all {len(packed.content):,} bytes of {packed.files} files")
    # No store is asked.
    assert verify_file(bundle, "http://127.0.0.1:9", MAKER) == outcome


def test_a_page_of_html_may_spell_the_manifest_of_the_pdf_otherwise(plan: Plan, tracked: Store, tmp_path: Path) -> None:
    path = tmp_path / "both.zip"
    path.write_bytes(pack_report(plan, tracked.uri, ("pdf", "html"), MAKER, ()).content)
    bundle = open_bundle(path)
    assert b"\\u003c" in bundle.read(HTML)
    assert b"\\u003c" not in bundle.read(MANIFEST)
    assert verify_bundle(path, MAKER).differences == ()


def test_a_bundle_may_hold_the_numbers_as_files(plan: Plan, tracked: Store, tmp_path: Path) -> None:
    path = tmp_path / "numbers.zip"
    path.write_bytes(pack_report(plan, tracked.uri, ("html", "csv", "json"), MAKER, ()).content)
    stem = Path(HTML).stem
    expected = {f"report/{stem}.csv", f"report/{stem}.json", f"report/tables/{stem}-repeats.csv"}
    assert expected <= set(open_bundle(path).names)
    assert verify_bundle(path, MAKER).differences == ()


def test_a_table_for_a_paper_is_made_of_a_bundle(bundle: Path) -> None:
    document, plan = remade_document(bundle)
    choice = TableChoice("temperature", columns=("top-1 (%)",), rows=("static",))
    (row,) = choose(document, plan.studies, choice).rows
    assert row == (Text("static"), Number(82.0, 2, pytest.approx(2.6457513)))


def test_two_bundles_of_the_same_runs_are_the_same_bytes(packed: Packed, tracked: Store, plan: Plan) -> None:
    assert pack_report(plan, tracked.uri, FORMATS, MAKER, ()).content == packed.content


def test_words_that_should_not_be_there_are_named(packed: Packed) -> None:
    (line,) = packed.revealing
    assert line.startswith("smoke stands in report/")


@pytest.mark.parametrize("word", ["/home/müller", "/home/mary", 'c:\\users\\"x"'])
def test_a_word_is_found_however_a_file_spells_it(word: str) -> None:
    texts = {
        "a.json": json.dumps({"root": f"{word}/images"}).encode(),
        "b.md": f"in {word}/images".encode(),
        "c.md": f"in {word}s".encode(),
    }
    (line,) = _revealing(texts, [word])
    assert line == f"{word} stands in a.json and 1 other file"


def test_the_report_is_made_again(bundle: Path, tracked: Store, plan: Plan, tmp_path: Path) -> None:
    originals = make_report(plan, tracked.uri, ("pdf", *FORMATS), tmp_path / "original", maker=MAKER)
    again = remake_report(bundle, ("pdf", *FORMATS), tmp_path / "again", MAKER)
    assert {name: path.name for name, path in again.items()} == {name: path.name for name, path in originals.items()}
    for name, path in again.items():
        assert path.read_bytes() == originals[name].read_bytes(), name
    assert (tmp_path / "again" / Path(HTML).name).read_bytes() == open_bundle(bundle).read(HTML)


def test_a_changed_byte_is_named_and_nothing_is_computed(bundle: Path) -> None:
    content = bundle.read_bytes()
    bundle.write_bytes(content.replace(b'"test/top1": 84.0', b'"test/top1": 85.0', 1))
    outcome = verify_bundle(bundle, MAKER)
    (line,) = outcome.differences
    assert line.startswith("runs/")
    assert "run.json was changed" in line
    assert not outcome.is_readable
    with pytest.raises(BundleError, match=r"run\.json was changed"):
        remake_report(bundle, FORMATS, bundle.parent / "again", MAKER)


def changed_metric(files: dict[str, bytes]) -> None:
    """Makes a run a point better."""
    name = next(name for name in files if name.endswith("run.json") and b'"test/top1": 84.0' in files[name])
    files[name] = files[name].replace(b'"test/top1": 84.0', b'"test/top1": 85.0')


@pytest.mark.parametrize("maker", [MAKER, LATER], ids=["same code", "later code"])
def test_a_metric_that_was_changed_with_all_digests(bundle: Path, maker: Maker) -> None:
    lines = forged(bundle, changed_metric, maker).differences
    assert any(line.endswith("metrics, test/top1: 84.0 in the report, 85.0 from the runs") for line in lines)
    assert any(line.startswith("rows, temperature, tau_30, value, mean: 84.0 in the report") for line in lines)


def changed_manifest(files: dict[str, bytes]) -> None:
    """Changes a number in the manifest of the bundle, with its digest."""
    content = json.loads(files[MANIFEST].replace(b'"mean":84.0', b'"mean":85.0'))
    del content["sha256"]
    files[MANIFEST] = canonical_json({**content, "sha256": digest(content)}).encode()


@pytest.mark.parametrize("maker", [MAKER, LATER], ids=["same code", "later code"])
def test_a_number_of_the_manifest_that_was_changed_with_all_digests(bundle: Path, maker: Maker) -> None:
    lines = forged(bundle, changed_manifest, maker).differences
    assert "rows, temperature, tau_30, value, mean: 85.0 in the report, 84.0 from the runs" in lines
    assert f"{HTML} carries another manifest than {MANIFEST}" in lines


def changed_page(files: dict[str, bytes]) -> None:
    """Changes a number on the page."""
    assert files[HTML].count(b">82.00 \xc2\xb1 2.65<") == 1
    files[HTML] = files[HTML].replace(b">82.00 \xc2\xb1 2.65<", b">83.00 \xc2\xb1 2.65<")


def test_a_page_that_was_changed_with_all_digests(bundle: Path) -> None:
    (line,) = forged(bundle, changed_page).differences
    assert line.startswith(HTML)
    assert "83.00 ± 2.65" in line.partition(" is shown, ")[0]


def test_a_later_version_holds_numbers_against_each_other_and_notes_the_rest(bundle: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        changed_page(files)
        files["report/more.md"] = b"a file of another version"
        content = json.loads(files[MANIFEST])
        del content["sha256"]
        words = content["document"]["words"]
        words["title"][0] = "Other words"
        # A number that rounds otherwise in the last digit.
        content["rows"]["temperature"]["static"]["value"]["sd"] *= 1 + 1e-15
        files[MANIFEST] = canonical_json({**content, "sha256": digest(content)}).encode()
        files[HTML] = files[HTML].replace(
            files[HTML].partition(b'id="manifest.json">')[2].partition(b"</script>")[0], files[MANIFEST]
        )

    outcome = forged(bundle, change, LATER)
    assert outcome.differences == ()
    notes = "\n".join(outcome.notes)
    assert "document: 1 entries are worded otherwise by this version" in notes
    assert f"{HTML}: " in notes
    assert "1 files of the report are not the bytes that this version makes" in notes
    assert "the report was made with commit aaaaaaaaaaaa (here bbbbbbbbbbbb)." in notes


def test_a_verdict_that_differs_is_a_difference_for_a_later_version(bundle: Path, packed: Packed) -> None:
    content = json.loads(open_bundle(bundle).read(MANIFEST))
    content["rows"]["temperature"]["static"]["reference"] = "static"

    def change(files: dict[str, bytes]) -> None:
        del content["sha256"]
        files[MANIFEST] = canonical_json({**content, "sha256": digest(content)}).encode()

    lines = forged(bundle, change, LATER).differences
    assert "rows, temperature, static, reference: “static” in the report, “tau_30” from the runs" in lines


def test_a_run_that_was_taken_out_with_all_digests(bundle: Path) -> None:
    def remove(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith("run.json") and b'"test/top1": 84.0' in files[name])
        for member in [member for member in files if member.startswith(name.removesuffix("run.json"))]:
            del files[member]

    lines = forged(bundle, remove).differences
    assert any(line.startswith("run ") and line.endswith("is not in the store") for line in lines)


def test_files_that_are_missing_or_are_more_than_the_report_has(bundle: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        del files[next(name for name in files if "/figures/" in name)]
        files["report/more.csv"] = b"a,b\n"

    lines = forged(bundle, change).differences
    assert any(line.endswith("is missing, which its runs make") for line in lines)
    assert "report/more.csv is not the file that its runs make" in lines
    assert len(lines) == 2


def test_the_formats_of_a_report_are_told_from_the_files_beside_it() -> None:
    beside = ["report/x-runs.csv", "report/tables/x-claims.csv", "report/figures/x-a.pdf"]
    assert _stem_and_formats(["report/x.html", *beside]) == ("x", ["html"])
    assert _stem_and_formats(["report/x.csv", "report/x.html", "report/x.json", *beside]) == (
        "x",
        ["html", "csv", "json"],
    )
    with pytest.raises(ReportError, match="does not hold one report"):
        _stem_and_formats(["report/x.html", "report/y.pdf"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop(MANIFEST), "has no manifest.json"),
        (lambda files: files.update({MANIFEST: b"[1]"}), "manifest cannot be read"),
        (lambda files: files.update({MANIFEST: b"\xff"}), "manifest cannot be read"),
        (lambda files: files.update({"data.json": b'{"facts": 3}'}), "about data sets in the bundle cannot be read"),
        (lambda files: files.update({"frozen.json": b"["}), "frozen.json"),
        (lambda files: files.update({HTML: b"<!doctype html>"}), "carries no manifest"),
        (lambda files: [files.pop(name) for name in list(files) if name.startswith("report/")], "hold one report"),
    ],
    ids=["no manifest", "list", "bytes", "facts", "frozen", "page", "no report"],
)
def test_a_forgers_files_are_errors_in_words(
    bundle: Path, change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    with pytest.raises((BundleError, ReportError), match=message):
        forged(bundle, change)


def test_a_format_that_carries_a_manifest_is_needed(plan: Plan, tracked: Store) -> None:
    with pytest.raises(OptionError, match="needs pdf or html"):
        pack_report(plan, tracked.uri, ("md", "tex"), MAKER, ())


def test_a_registered_study_that_is_another_one_is_a_note_for_a_later_version(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.verify.available_studies", available_studies)
    line = "study 'temperature' is not the one that is registered here under that name"
    assert verify_bundle(bundle, MAKER).differences == (line,)
    outcome = verify_bundle(bundle, LATER)
    assert outcome.differences == ()
    assert line in outcome.notes


def test_the_data_may_be_elsewhere(make_store: Callable[[], Store], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images")
    overrides = {"data.name": "image_folder", "data.root": str(folder), "data.augmentation": "resized_crop_flip"}
    sizes = {"data.train_images": 16, "data.validation_images": 2, "data.test_images": 4}
    plan = make_plan([TEMPERATURE], Request(PRESETS["smoke"], {**overrides, **sizes}, seeds=3))
    store = make_store()
    for node in plan.trials.values():
        experiment = experiment_name("smoke", "image_folder")
        tags = {TAG_KIND: "trial", TAG_FINGERPRINT: node.fingerprint, TAG_SEED: str(node.spec.seed)}
        store.raw(experiment, node.title, tags, {"test/top1": 50.0 + node.spec.seed})
    path = tmp_path / "report.zip"
    path.write_bytes(pack_report(plan, store.uri, ("html",), MAKER, ()).content)
    folder.rename(tmp_path / "gone")
    forget_folders()
    outcome = verify_bundle(path, MAKER)
    assert (outcome.differences, outcome.runs) == ((), len(plan.trials))
    page = remake_report(path, ("html",), tmp_path / "again", MAKER)["html"]
    (name,) = [name for name in open_bundle(path).names if name.endswith(".html")]
    assert page.read_bytes() == open_bundle(path).read(name)


def test_launches_come_from_the_manifest(bundle: Path, plan: Plan, tracked: Store, tmp_path: Path) -> None:
    launch = Record("x", 1.0, ("temperature",), 3, 2, None, 9.5)
    results = collect(plan, tracked.uri).with_launch(launch)
    path = tmp_path / "with.zip"
    path.write_bytes(pack_report(plan, tracked.uri, ("html",), MAKER, (), results=results).content)
    outcome = verify_bundle(path, MAKER)
    assert outcome.differences == ()
    assert outcome.notes == ("the store has no record of launch x any more: its times are not checked",)
    page = remake_report(path, ("html",), tmp_path / "again", MAKER)["html"]
    assert page.read_bytes() == open_bundle(path).read(HTML)
