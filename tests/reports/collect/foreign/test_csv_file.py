"""Results in CSV files that strangers write: the forms that are read, and the sentence on each that is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.errors import ResultsError
from reports.collect.foreign.csv_file import read_csv
from reports.collect.foreign.measurements import Columns, ForeignResults
from reports.collect.tracked_runs import FINISHED

HEAD = "variant,seed,acc\n"
TWO = f"{HEAD}a,0,91.5\nb,0,92.25\n"


def read(folder: Path, content: str | bytes, **columns: str) -> ForeignResults:
    """Returns the results in a file with some content."""
    path = folder / "results.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv(path, Columns(**columns))


@pytest.mark.parametrize(
    "content",
    [
        TWO,
        TWO.replace(",", ";"),
        TWO.replace(",", "\t"),
        b"\xef\xbb\xbf" + TWO.encode(),
        TWO.replace("\n", "\r\n"),
        f"\n{TWO}\n\n",
        ",variant,seed,acc\n0,a,0.0,91.5\n1,b,0.0,92.25\n",
        '"Name","State","variant","seed","acc"\n"x","finished","a","0","91.5"\n"y","finished","b","0","92.25"\n',
    ],
    ids=["commas", "semicolons", "tabs", "byte order mark", "Windows", "blank lines", "pandas", "W&B"],
)
def test_the_forms_that_programs_write(tmp_path: Path, content: str | bytes) -> None:
    results = read(tmp_path, content)
    assert [(item.variant, item.seed, item.value) for item in results.measurements] == [("a", 0, 91.5), ("b", 0, 92.25)]
    assert results.metric == "acc"


def test_columns_have_the_names_that_are_asked_for(tmp_path: Path) -> None:
    content = "method,rng,acc,loss\na,0,91.5,0.25\n"
    results = read(tmp_path, content, variant="method", seed="rng", metric="loss")
    assert [item.value for item in results.measurements] == [0.25]


def test_names_with_markup_and_quotes_are_kept(tmp_path: Path) -> None:
    names = ["<b>x</b>", "$x_1$", "50 % & #1", 'say "a"', "a, b"]
    rows = "".join(f'"{name.replace(chr(34), chr(34) * 2)}",0,1.5\n' for name in names)
    assert list(read(tmp_path, HEAD + rows).variants) == names


@pytest.mark.parametrize("text", ["", "nan", "NaN", "N/A", "null"])
def test_a_value_that_is_not_there_has_a_status(tmp_path: Path, text: str) -> None:
    missing = read(tmp_path, f"{TWO}c,0,{text}\n").measurements[-1]
    assert math.isnan(missing.value)
    assert missing.status == f"without a value ({text or 'empty'})"


def test_a_run_that_is_not_over_has_no_value(tmp_path: Path) -> None:
    content = "variant,seed,State,acc\na,0,finished,91.5\na,1,running,50.0\na,2,crashed,\n"
    states = [item.status for item in read(tmp_path, content).measurements]
    assert states == [FINISHED, "running", "crashed"]


def test_a_column_of_other_states_is_not_the_state_of_runs(tmp_path: Path) -> None:
    content = "variant,seed,state,acc\na,0,Ohio,91.5\na,1,running,50.0\n"
    assert [item.value for item in read(tmp_path, content).measurements] == [91.5, 50.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty. Its first line names the columns"),
        (HEAD, "has no row below the names of its columns (variant, seed, acc)"),
        (TWO.replace("variant", "method"), "no column 'variant'. It has 'method', 'seed', 'acc'. Name the right one"),
        (
            TWO.replace("seed", "run"),
            "no column 'seed'. It has 'variant', 'run', 'acc'. Name the right one with --seed",
        ),
        ("variant,seed,acc,loss\na,0,1,2\n", "several metrics: 'acc', 'loss'. Say which one with --metric"),
        ("variant,seed,note\na,0,x\nb,0,y\n", ":2: note is 'x', which is no number"),
        ("variant,seed,note,why\na,0,x,y\n", "has no metric: no numbers beside variant and seed"),
        ("variant,seed,acc,acc\na,0,1,2\n", ":1: 2 columns are called 'acc'"),
        (f"{TWO}c,0,93.1*\n", ":4: acc is '93.1*', which is no number."),
        (f"{TWO}c,0,1_000\n", ":4: acc is '1_000', which is no number."),
        (TWO.replace(",", ";").replace(".", ","), ":2: acc is '91,5', which is no number. Write a point"),
        (f"{TWO}c,0,93%\n", "Leave out the sign, and say unit: per cent"),
        (f"{TWO}c,0,inf\n", ":4: acc is inf. Leave the cell empty if the run has diverged"),
        (f"{TWO}c,0,1e200\n", ":4: acc is 1e+200. Leave the cell empty"),
        (f"{TWO}c,0,nan,5\n", ":4: 4 cells for 3 columns"),
        (f'{TWO}"c,0,1\n', ":4: not CSV"),
        (f"{TWO}c,s1,93\n", ":4: the seed is 's1', which is no whole number"),
        (f"{TWO}c,-1,93\n", ":4: the seed is '-1'"),
        (f"{TWO}c,1.5,93\n", ":4: the seed is '1.5'"),
        (f"{TWO} ,0,93\n", ":4: the variant has no name"),
        (f"{TWO}{'x' * 201},0,93\n", ":4: the name of the variant has 201 characters, 200 are the most"),
        (f"{TWO}a\x07,0,93\n", ":4: the variant 'a\\x07' holds the control character U+0007"),
        (f"{HEAD}a,0,nan\n", "has no value of 'acc' in any of its 1 rows"),
        (TWO.encode("utf-16"), ":1: not UTF-8 text"),
        ("ä,0\n".encode("latin-1"), ":1: not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(ResultsError) as raised:
        read(tmp_path, content)
    assert str(raised.value).startswith(str(tmp_path / "results.csv"))
    assert reason in str(raised.value)


@pytest.mark.parametrize("name", [".", "nothing.csv", "/dev/null"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ResultsError, match="Name a CSV file, or mlflow:URI/EXPERIMENT"):
        read_csv(tmp_path / name, Columns())


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.lists(
                st.sampled_from(["a", "0", "1.5", "nan", "inf", "", '"', "é", "\x00", "-1", "9" * 30]), max_size=4
            ),
            max_size=5,
        ).map(lambda rows: "\n".join(["variant,seed,acc", *map(",".join, rows)]).encode()),
    )
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    message = ""
    values: tuple[float, ...] = ()
    try:
        values = read(tmp_path, content).values
    except ResultsError as error:
        message = str(error)
    assert all(map(math.isfinite, values))
    assert bool(values) != message.startswith(str(tmp_path / "results.csv"))


def with_images(folder: Path, images: str, value: str) -> ForeignResults:
    """Returns the results of a file that names the correct images of its one row."""
    (folder / "a.txt").write_text(images)
    return read(folder, f"variant,seed,checkpoint,correct,acc\na,0,net,a.txt,{value}\n")


def test_correct_images_are_read(tmp_path: Path) -> None:
    (item,) = with_images(tmp_path, "1 0 1\n1, 0", "60.0").measurements
    assert item.checkpoint == "net"
    assert item.correctness is not None
    assert item.correctness.of("acc").tolist() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("images", "value", "reason"),
    [
        ("1 0 2", "50", "not a 0 or a 1 for each image"),
        ("", "50", "not a 0 or a 1"),
        ("1 0 1 1", "50", "75 % of the 4 images in a.txt are right"),
        ("1 0 1 1", "0.75", "their share in per cent"),
    ],
)
def test_images_that_do_not_fit_are_refused(tmp_path: Path, images: str, value: str, reason: str) -> None:
    with pytest.raises(ResultsError, match=reason):
        with_images(tmp_path, images, value)
