"""Addresses are shown without what is secret in them, also where a library quotes them; paths become addresses."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from ablations.errors import TrackingError
from ablations.stores import secrets
from ablations.stores.addresses import is_sqlite, shown, sqlite_address, sqlite_file
from ablations.stores.secrets import hide_secrets, secrets_of, without_secrets

SECRET = "hunter2pass"
HIDING = [
    "http://me:hunter2pass@host:5000/path",
    "https://hunter2pass@host/",
    "https://hunter2pass:@host/",
    "https://hunter2pass:x-oauth-basic@host/",
    "http://:hunter2pass@host",
    "HTTP://me:hunter2pass@host",
    "http:/me:hunter2pass@host",
    "http://me:hunter2pass@[::1]:5000/",
    "http://host:hunter2pass/path",
    "http://host:5000/?token=hunter2pass",
    "http://host:5000/?hunter2pass",
    "http://host:5000/path?a=b&x-api-key=hunter2pass&c=d",
    "http://host:5000/path#access_token=hunter2pass",
    "postgresql://me:hunter2pass@host/db",
    "postgresql+psycopg2://me:hunter2pass@host:5432/db?sslmode=require",
    "postgresql://host/db?user=me&password=hunter2pass",
    "mysql+pymysql://root:hunter2pass@host/db",
    "postgresql://me:hunter2pass/with?all#of@it@host/db",
    "http://me:hunter2pass/slash@host/db",
    "sqlite:///runs/mlflow.db?password=hunter2pass",
    "s3://key:hunter2pass@bucket/x",
    "ray://me:hunter2pass@head:10001",
    "me:hunter2pass@host:5000",
    "host:5000?token=hunter2pass",
    "host=h user=me password=hunter2pass",
]


@pytest.mark.parametrize("address", HIDING)
def test_nothing_secret_is_shown(address: str) -> None:
    assert SECRET not in shown(address)


@pytest.mark.parametrize("address", HIDING)
def test_nothing_secret_is_left_in_what_others_write(address: str) -> None:
    text = f"cannot open {address!r} (Caused by {address}): port 'hunter2pass', {quote(address)} password=hunter2pass"
    assert SECRET not in without_secrets(text, address)


@pytest.mark.parametrize("address", [address for address in HIDING if "://" in address])
def test_an_address_in_a_text_is_recognised_without_being_named(address: str) -> None:
    assert SECRET not in without_secrets(f"no server at {address}, it says")


@pytest.mark.parametrize(
    "address",
    [
        "http://host:5000",
        "http://[::1]:5000/a/b",
        "http://host/@user/page",
        "sqlite:////tmp/a@b/mlflow.db",
        "sqlite:////tmp/a:b@c/ml#flow.db",
        "sqlite:///runs/mlflow.db",
        "postgresql://me@host/db",
        "/home/me/a:b@c/runs",
        "./runs@home",
        "runs",
        "10.0.0.1:6379",
        "auto",
        "databricks",
        "file:///tmp/a:b@c",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(address: str) -> None:
    assert shown(address) == address
    assert secrets_of(address) == ()


def test_what_is_left_of_an_address_tells_which_it_is() -> None:
    assert shown("http://me:secret@host:5000/path?token=x#y") == "http://me@host:5000/path?token=***#***"
    assert shown("https://ghp_0123456789abcdefghij@host/x") == "https://***@host/x"
    assert shown("http://host/\x1b[31mred") == "http://host/?[31mred"


PASSWORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=6).filter(
    lambda text: not set(text) <= set("*%/?#@:.") and "***" not in text
)


@given(PASSWORDS)
def test_any_encoded_password_is_hidden_in_all_its_forms(password: str) -> None:
    encoded = quote(password, safe="")
    address = f"http://me:{encoded}@host.example:5000/x"
    text = f"for {address}: {password} {encoded} {password!r}"
    hidden = without_secrets(text, address)
    assert encoded not in shown(address).replace("host.example", "")
    assert encoded not in hidden.replace("host.example", "")


@pytest.mark.parametrize(
    "text",
    [
        "HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /api?token=hunter2pass (Caused by …)",
        "{'Authorization': 'Basic bWU6aHVudGVyMnBhc3M='}",
        "Authorization: Bearer hunter2pass",
        "connection to server failed: password='hunter2pass' host=h",
        "https://h/x?X-Amz-Signature=hunter2pass&y=1",
        "api_key: hunter2pass",
    ],
)
def test_what_is_called_a_secret_is_hidden_without_an_address(text: str) -> None:
    hidden = without_secrets(text)
    assert SECRET not in hidden
    assert "bWU6aHVudGVyMnBhc3M" not in hidden
    assert "***" in hidden


def test_a_text_without_secrets_stays_as_it_is() -> None:
    text = "[Errno 111] Connection refused: http://host:5000/api (attempt 2 of 3), see sqlite:////tmp/a@b/mlflow.db"
    assert without_secrets(text, "http://host:5000") == text
    assert without_secrets("a pw is short", "http://me:pw@host") == "a *** is short"
    assert without_secrets("upward", "http://me:pw@host") == "upward"


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts back what `hide_secrets` replaces."""
    factory, hook = logging.getLogRecordFactory(), sys.excepthook
    hidden, secrets._hidden_addresses[:] = secrets._hidden_addresses[:], []
    yield
    secrets._hidden_addresses[:] = hidden
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook


def test_logs_and_tracebacks_hide_the_secrets_of_an_address(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    address = "http://me:hunter2pass@host"
    hide_secrets(address)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("tests.addresses")
    logger.addHandler(handler)
    try:
        raise ValueError(f"cannot open {address}")
    except ValueError as error:
        logger.exception("retrying %s: %s", address, error)
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        logger.removeHandler(handler)
    written = stream.getvalue() + capsys.readouterr().err
    assert SECRET not in written
    assert written.count("ValueError: cannot open http://***@host") == 2


def test_without_secrets_nothing_is_replaced(restored: None) -> None:
    before = logging.getLogRecordFactory(), sys.excepthook
    hide_secrets("http://host:5000", "")
    assert (logging.getLogRecordFactory(), sys.excepthook) == before


PATHS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda name: name not in (".", "..")
)


@given(PATHS)
def test_every_path_has_an_address_that_leads_back_to_it(name: str) -> None:
    path = Path("/folder") / name / "mlflow.db"
    address = sqlite_address(path)
    assert is_sqlite(address)
    assert sqlite_file(address) == path
    assert make_url(address).database == str(path)
    assert not address.startswith("sqlite:///") or Path(address.removeprefix("sqlite:///")) == path


def test_a_plain_path_has_the_address_that_it_always_had() -> None:
    assert sqlite_address(Path("runs/mlflow.db")) == "sqlite:///runs/mlflow.db"
    assert sqlite_address(Path("/x y/mlflow.db")) == "sqlite:////x y/mlflow.db"
    assert sqlite_file("sqlite:///runs/mlflow.db") == Path("runs/mlflow.db")


def test_a_path_that_is_no_text_is_an_error() -> None:
    with pytest.raises(TrackingError, match="UTF-8"):
        sqlite_address(Path("/tmp/\udcff/mlflow.db"))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("http://host", None),
        ("postgresql://host/x.db", None),
        ("sqlite:///a.db?timeout=60", "a.db"),
        ("sqlite+pysqlite:////x/a%20b.db", "/x/a b.db"),
        ("sqlite:///file:/x/a%2520b.db?mode=ro&uri=true", "/x/a b.db"),
    ],
)
def test_the_file_of_an_address(address: str, path: str | None) -> None:
    assert sqlite_file(address) == (Path(path) if path else None)
