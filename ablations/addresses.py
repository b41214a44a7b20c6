"""This module prints addresses of tracking stores and clusters without their secrets, and makes them from paths.

`shown` is the only way an address gets into text. `without_secrets` is the only way for a text that others wrote about
an address, such as an error or a line of a log.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

from ablations.errors import TrackingError

HIDDEN = "***"
_BARE_PATH = re.compile(r"[\w./ ~@:,+=-]*")
"""Paths whose address as a SQLite store is the path itself, in every version of SQLAlchemy."""
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*):(?P<slashes>/+)(?P<rest>.*)", re.DOTALL)
_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*:/{1,3}[^\s\"'<>`]*[^\s\"'<>`).,;:]")
_NAMED_SECRET = re.compile(
    r"(?i)((?:[\w-]*(?:passw(?:or)?d|pwd|token|secret|api[_-]?key|access[_-]?key|signature|credentials?)|\bsig|\bauth)"
    r"[\"']?\s*(?:=|:|%3D)\s*[\"']?)([^\s&\"',;)]+)"
)
_HEADER = re.compile(
    r"((?i:authorization)[\"']?\s*[:=]\s*[\"']?(?i:basic|bearer)?\s*|\b(?:Basic|Bearer)\s+(?=\S{16}))[^\s\"']+"
)
_SETTINGS = re.compile(r"\w+\s*=")
"""An address as libpq writes it: host=… password=…"""
_LONGEST_USER = 20
"""Longer user names are taken for tokens."""
_ALONE = 4
"""A secret of so many characters is hidden wherever it stands, a shorter one where it is a word of its own."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def shown(address: str) -> str:
    """Return an address as it may be printed: without password, tokens, values of its query, and its fragment."""
    match = _SCHEME.fullmatch(address)
    if match is None:
        return _printable(_without_scheme(address))
    scheme, slashes, remainder = match["scheme"], match["slashes"], match["rest"]
    if _is_file(scheme) and len(slashes) != 2:
        path, mark, query = remainder.partition("?")
        return _printable(f"{scheme}:{slashes}{path}{mark}{_shown_query(query)}")
    user_info, remainder = _split_user(scheme, remainder)
    user = _shown_user(scheme, user_info)
    remainder, fragment_mark, fragment = remainder.partition("#")
    remainder, query_mark, query = remainder.partition("?")
    remainder = _shown_port(remainder)
    hidden_fragment = HIDDEN if fragment else ""
    return _printable(
        f"{scheme}:{slashes}{user}{remainder}{query_mark}{_shown_query(query)}{fragment_mark}{hidden_fragment}"
    )


def without_secrets(text: str, *addresses: str) -> str:
    """Return a text of somebody else, such as an error, without the secrets of these and of all other addresses in it.

    Four things are recognised: the addresses themselves, in part, decoded or percent-encoded; other addresses; values
    of settings that are called password, token and the like; headers that authorise.
    """
    # Long before short, here and below: an address or a secret may be a part of a longer one.
    for address in sorted(filter(None, addresses), key=len, reverse=True):
        if secrets_of(address):
            text = text.replace(address, shown(address))
    secrets = {form for address in addresses if address for secret in secrets_of(address) for form in _forms(secret)}
    text = _ADDRESS_IN_TEXT.sub(lambda match: shown(match[0]), text)
    text = _HEADER.sub(lambda match: f"{match[1]}{HIDDEN}", text)
    text = _NAMED_SECRET.sub(lambda match: f"{match[1]}{HIDDEN}", text)
    for secret in sorted(secrets, key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(pattern if len(secret) >= _ALONE else rf"(?<!\w){pattern}(?!\w)", HIDDEN, text)
    return text


def secrets_of(address: str) -> tuple[str, ...]:
    """Return the secrets that `shown` hides in an address, each as it is written there."""
    return tuple(dict.fromkeys(secret for secret in _secrets(address) if secret))


def _secrets(address: str) -> Iterator[str]:
    fields = _SCHEME.fullmatch(address)
    scheme, slashes, remainder = (fields["scheme"], fields["slashes"], fields["rest"]) if fields else ("", "", address)
    if fields is None and not _may_be_address(address):
        return
    if fields is None and _SETTINGS.match(address):
        yield from (match[2] for match in _NAMED_SECRET.finditer(address))
        return
    if _is_file(scheme) and len(slashes) != 2:
        yield from _query_values(remainder.partition("?")[2])
        return
    user_info, remainder = _split_user(scheme, remainder)
    if user_info:
        user, _, password = user_info.partition(":")
        is_shown = _shown_user(scheme, user_info) == f"{user}@"
        yield password
        # A library that reads such a password otherwise quotes a part of it.
        yield from (piece for piece in re.split(r"[/?#@:]", password) if len(piece) > 1)
        if not is_shown:
            yield user
        # HTTP sends user and password in this form (basic authentication, RFC 7617).
        yield base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode() if password else ""
    remainder, _, fragment = remainder.partition("#")
    yield fragment
    yield from _query_values(fragment)
    remainder, _, query = remainder.partition("?")
    yield from _query_values(query)
    port = remainder.partition("/")[0].rpartition("]")[2].partition(":")[2]
    # A port that is no number may be a piece of a password; `_shown_port` hides it too.
    yield port if port and not port.isdigit() else ""


def hide_secrets(*addresses: str) -> None:
    """Keep the secrets of addresses out of tracebacks and the logs of libraries from now on.

    Does nothing for addresses without secrets.
    """
    fresh = [address for address in addresses if address not in _hidden_addresses and secrets_of(address)]
    if fresh and not _hidden_addresses:
        logging.setLogRecordFactory(partial(_make_hiding_record, logging.getLogRecordFactory()))
        sys.excepthook = partial(_show_hiding, sys.excepthook)
    _hidden_addresses.extend(fresh)


_hidden_addresses: list[str] = []


def _make_hiding_record(make_record: Callable[..., logging.LogRecord], *arguments: Any, **more: Any) -> Any:
    record = make_record(*arguments, **more)
    try:
        record.msg, record.args = without_secrets(record.getMessage(), *_hidden_addresses), None
    except Exception:
        # A message that does not fit its arguments is the logger's business.
        return record
    if record.exc_info and record.exc_info[0] is not None:
        # A formatter takes what stands here instead of formatting the traceback itself.
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        record.exc_text = without_secrets(text, *_hidden_addresses)
    return record


def _show_hiding(
    show: Callable[..., Any], kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        show(kind, error, trace)
    else:
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(without_secrets(text, *_hidden_addresses))


def sqlite_address(file: Path) -> str:
    """Return the address of a SQLite store in a file; a relative path stays relative.

    Characters that mean something in an address (`%`, `?`, `#`, a line break) are encoded as SQLAlchemy reads them.

    Raises:
        TrackingError: If the path is not text in UTF-8.
    """
    path = os.fspath(file)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise TrackingError(f"the path of the store is not text in UTF-8: {path!a}. Choose another folder.") from None
    if _BARE_PATH.fullmatch(path):
        return f"sqlite:///{path}"
    # Imported only here: SQLAlchemy takes long to import, and most paths do without it.
    from sqlalchemy.engine import URL

    # With the driver's name: for an address that begins with `sqlite:///` MLflow makes the folders of the encoded path.
    return URL.create("sqlite+pysqlite", database=path).render_as_string(hide_password=False)


def sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite store, or `None` for another store and for one in memory."""
    if not is_sqlite(address):
        return None
    path, _, query = address.partition(":")[2].removeprefix("//").removeprefix("/").partition("?")
    if not _BARE_PATH.fullmatch(path) or query:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            path = make_url(address).database or ""
        except (ArgumentError, ValueError):
            return None
        # SQLite's own form of an address, which it decodes once more.
        if path.startswith("file:") and "uri=" in query:
            path = unquote(path.removeprefix("file:"))
    return None if path in ("", ":memory:") else Path(path)


def is_sqlite(address: str) -> bool:
    """Return True if the store is one of SQLite, in a file or in memory."""
    return re.match(r"sqlite(\+\w+)?:", address) is not None


def _is_file(scheme: str) -> bool:
    return scheme.partition("+")[0].lower() in ("sqlite", "file")


def _is_web(scheme: str) -> bool:
    return scheme.lower() in ("http", "https")


def _may_be_address(text: str) -> bool:
    """Return True if a text without a scheme may be an address rather than the path of a folder."""
    return not text.startswith(("/", ".", "~")) and any(mark in text for mark in "@?=")


def _without_scheme(address: str) -> str:
    if not _may_be_address(address):
        return address
    if _SETTINGS.match(address):
        return _NAMED_SECRET.sub(lambda match: f"{match[1]}{HIDDEN}", address)
    return shown(f"http://{address}").removeprefix("http://")


def _split_user(scheme: str, rest: str) -> tuple[str, str]:
    """Return user and password before the host, without the `@`, and the remainder of the address."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or not (":" in authority or "@" in authority):
        return "", rest
    # Of data bases SQLAlchemy reads the address, which takes a slash or a question mark for a part of the password.
    holder = authority if _is_web(scheme) and "@" in authority else rest
    user_info = holder.rpartition("@")[0]
    return user_info, rest[len(user_info) + 1 :]


def _shown_user(scheme: str, user_info: str) -> str:
    if not user_info:
        return ""
    user, _, password = user_info.partition(":")
    # On the web a user without a password is a token; towards a data base the password may be in a file.
    is_token = len(user) > _LONGEST_USER or (_is_web(scheme) and password in ("", "x-oauth-basic"))
    return f"{HIDDEN if is_token else user}@"


def _shown_port(rest: str) -> str:
    """Return host, port and path; a port that is no number is hidden, as it may be a part of a password."""
    host, slash, path = rest.partition("/")
    before, bracket, name = host.rpartition("]")
    name, colon, port = name.partition(":")
    port = port if port.isdigit() or not port else HIDDEN
    return f"{before}{bracket}{name}{colon}{port}{slash}{path}"


def _shown_query(query: str) -> str:
    settings = []
    for setting in filter(None, query.split("&")):
        name, separator, _ = setting.partition("=")
        settings.append(f"{name}={HIDDEN}" if separator else HIDDEN)
    return "&".join(settings)


def _query_values(query: str) -> Iterator[str]:
    for setting in query.split("&"):
        yield setting.rpartition("=")[2] if "=" in setting else setting
    yield from (value for _, value in parse_qsl(query))


def _forms(secret: str) -> Iterable[str]:
    """Return a secret as it may be quoted: as it is, decoded, encoded, and as Python prints it."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    encoded = {form(text, safe="") for text in plain for form in (quote, quote_plus)}
    # As the representation of a string or of bytes shows it.
    return {form for form in plain | encoded | {repr(text)[1:-1] for text in plain} if form}


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)
