"""This module prints addresses of tracking stores and clusters without their secrets, and makes them from paths.

`shown` is the only way an address gets into text. `ablations.stores.secrets` takes secrets out of what others wrote.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ablations.errors import TrackingError

HIDDEN = "***"
SETTINGS = re.compile(r"\w+\s*=")
"""An address as libpq writes it: host=… password=…"""
NAMED_SECRET = re.compile(
    r"(?i)((?:[\w-]*(?:passw(?:or)?d|pwd|token|secret|api[_-]?key|access[_-]?key|signature|credentials?)|\bsig|\bauth)"
    r"[\"']?\s*(?:=|:|%3D)\s*[\"']?)([^\s&\"',;)]+)"
)
"""The name of a secret and the secret, in settings or elsewhere."""

_BARE_PATH = re.compile(r"[\w./ ~@:,+=-]*")
"""Paths whose address as a SQLite store is the path itself, in every version of SQLAlchemy."""
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*):(?P<slashes>/+)(?P<remainder>.*)", re.DOTALL)
_LONGEST_USER = 20
"""Longer user names are taken for tokens."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Address:
    """The parts of an address, each as it is written there; `None` for one whose mark is not there either."""

    scheme: str
    slashes: str
    user_info: str
    host: str
    port: str | None
    path: str
    query: str | None
    fragment: str | None

    @property
    def user(self) -> str:
        """The name of the user, or a token in its place."""
        return self.user_info.partition(":")[0]

    @property
    def password(self) -> str:
        """The password."""
        return self.user_info.partition(":")[2]

    @property
    def has_token(self) -> bool:
        """True if a token stands in place of the user's name."""
        # On the web a user without a password is a token; towards a data base the password may be in a file.
        is_alone_on_web = _is_web(self.scheme) and self.password in ("", "x-oauth-basic")
        return bool(self.user_info) and (len(self.user) > _LONGEST_USER or is_alone_on_web)

    @property
    def has_odd_port(self) -> bool:
        """True if the port is no number; it may then be a piece of a password."""
        return bool(self.port) and not str(self.port).isdigit()

    def without_secrets(self) -> str:
        """Return the address without password, tokens, values of its query, and its fragment."""
        shown = f"{self.scheme}:{self.slashes}"
        if self.user_info:
            user = HIDDEN if self.has_token else self.user
            shown += f"{user}@"
        shown += self.host
        if self.port is not None:
            port = HIDDEN if self.has_odd_port else self.port
            shown += f":{port}"
        shown += self.path
        if self.query is not None:
            shown += f"?{_shown_query(self.query)}"
        if self.fragment is not None:
            shown += "#"
        if self.fragment:
            shown += HIDDEN
        return shown


def parse_address(text: str) -> Address | None:
    """Return the parts of an address; without a scheme, those of a text that may be one, otherwise `None`."""
    match = _SCHEME.fullmatch(text)
    scheme, slashes, remainder = "", "", text
    if match is not None:
        scheme, slashes, remainder = match["scheme"], match["slashes"], match["remainder"]
    elif not may_be_address(text) or SETTINGS.match(text):
        return None
    if scheme.partition("+")[0].lower() in ("sqlite", "file") and len(slashes) != 2:
        # A file has no host, and a `#` is part of its name.
        path, query = _split(remainder, "?")
        return Address(scheme, slashes, "", "", None, path, query, None)
    user_info, remainder = _split_user(scheme, remainder)
    remainder, fragment = _split(remainder, "#")
    remainder, query = _split(remainder, "?")
    authority, slash, path = remainder.partition("/")
    # An IPv6 address has colons too, in brackets.
    before, bracket, host = authority.rpartition("]")
    host, port = _split(host, ":")
    return Address(scheme, slashes, user_info, f"{before}{bracket}{host}", port, f"{slash}{path}", query, fragment)


def _split(text: str, mark: str) -> tuple[str, str | None]:
    """Return the text before the first `mark`, and that after it, which is `None` without the mark."""
    before, separator, after = text.partition(mark)
    if not separator:
        return before, None
    return before, after


def _split_user(scheme: str, remainder: str) -> tuple[str, str]:
    """Return user and password before the host, without the `@`, and the remainder of the address."""
    authority = re.split(r"[/?#]", remainder, maxsplit=1)[0]
    if "@" not in remainder or not (":" in authority or "@" in authority):
        return "", remainder
    # Of data bases SQLAlchemy reads the address, which takes a slash or a question mark for a part of the password.
    if not _is_web(scheme) or "@" not in authority:
        authority = remainder
    user_info = authority.rpartition("@")[0]
    return user_info, remainder[len(user_info) + 1 :]


def shown(address: str) -> str:
    """Return an address as it may be printed: without password, tokens, values of its query, and its fragment."""
    if _SCHEME.fullmatch(address) is None:
        if not may_be_address(address):
            text = address
        elif SETTINGS.match(address):
            text = NAMED_SECRET.sub(lambda match: f"{match[1]}{HIDDEN}", address)
        else:
            return shown(f"http://{address}").removeprefix("http://")
    else:
        parts = parse_address(address)
        assert parts is not None
        text = parts.without_secrets()
    return _UNPRINTABLE.sub("?", text)


def may_be_address(text: str) -> bool:
    """Return True if a text without a scheme may be an address rather than the path of a folder."""
    return not text.startswith(("/", ".", "~")) and any(mark in text for mark in "@?=")


def _shown_query(query: str) -> str:
    settings = []
    for setting in filter(None, query.split("&")):
        name, separator, _ = setting.partition("=")
        settings.append(f"{name}={HIDDEN}" if separator else HIDDEN)
    return "&".join(settings)


def _is_web(scheme: str) -> bool:
    return scheme.lower() in ("http", "https")


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
    if path in ("", ":memory:"):
        return None
    return Path(path)


def is_sqlite(address: str) -> bool:
    """Return True if the store is one of SQLite, in a file or in memory."""
    return re.match(r"sqlite(\+\w+)?:", address) is not None
