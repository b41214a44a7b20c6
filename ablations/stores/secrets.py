"""This module takes the secrets of addresses out of texts that others wrote, such as an error or a line of a log.

Addresses themselves are printed by `ablations.stores.addresses.shown`.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

from ablations.stores.addresses import HIDDEN, NAMED_SECRET, SETTINGS, may_be_address, parse_address, shown

_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*:/{1,3}[^\s\"'<>`]*[^\s\"'<>`).,;:]")
_HEADER = re.compile(
    r"((?i:authorization)[\"']?\s*[:=]\s*[\"']?(?i:basic|bearer)?\s*|\b(?:Basic|Bearer)\s+(?=\S{16}))[^\s\"']+"
)
_ALONE = 4
"""A secret of so many characters is hidden wherever it stands, a shorter one where it is a word of its own."""


def without_secrets(text: str, *addresses: str) -> str:
    """Return a text of somebody else, such as an error, without the secrets of these and of all other addresses in it.

    Four things are recognised: the addresses themselves, in part, decoded or percent-encoded; other addresses; values
    of settings that are called password, token and the like; headers that authorise.
    """
    forms: set[str] = set()
    # Long before short, here and below: an address or a secret may be a part of a longer one.
    for address in sorted(filter(None, addresses), key=len, reverse=True):
        secrets = secrets_of(address)
        if secrets:
            text = text.replace(address, shown(address))
        for secret in secrets:
            forms.update(_forms(secret))
    text = _ADDRESS_IN_TEXT.sub(lambda match: shown(match[0]), text)
    text = _HEADER.sub(lambda match: f"{match[1]}{HIDDEN}", text)
    text = NAMED_SECRET.sub(lambda match: f"{match[1]}{HIDDEN}", text)
    for form in sorted(forms, key=len, reverse=True):
        pattern = re.escape(form)
        if len(form) < _ALONE:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(pattern, HIDDEN, text)
    return text


def secrets_of(address: str) -> tuple[str, ...]:
    """Return the secrets that `shown` hides in an address, each as it is written there."""
    return tuple(dict.fromkeys(filter(None, _secrets(address))))


def _secrets(address: str) -> Iterator[str]:
    parts = parse_address(address)
    if parts is None:
        if may_be_address(address) and SETTINGS.match(address):
            yield from (match[2] for match in NAMED_SECRET.finditer(address))
        return
    yield parts.password
    # A library that reads such a password otherwise quotes a part of it.
    yield from (piece for piece in re.split(r"[/?#@:]", parts.password) if len(piece) > 1)
    if parts.has_token:
        yield parts.user
    if parts.password:
        # HTTP sends user and password in this form (basic authentication, RFC 7617).
        yield base64.b64encode(f"{unquote(parts.user)}:{unquote(parts.password)}".encode()).decode()
    if parts.fragment:
        yield parts.fragment
        yield from _query_values(parts.fragment)
    if parts.query:
        yield from _query_values(parts.query)
    if parts.has_odd_port:
        yield str(parts.port)


def _query_values(query: str) -> Iterator[str]:
    for setting in query.split("&"):
        yield setting.rpartition("=")[2] if "=" in setting else setting
    for _, value in parse_qsl(query):
        yield value


def _forms(secret: str) -> Iterable[str]:
    """Return a secret as it may be quoted: as it is, decoded, encoded, and as Python prints it."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    forms = set(plain)
    for text in plain:
        # Without the quotes of the representation, which a string and bytes share.
        forms.update((quote(text, safe=""), quote_plus(text, safe=""), repr(text)[1:-1]))
    return forms


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
