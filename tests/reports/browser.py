"""A headless Chromium for tests: the machine's own, driven by playwright; without one a test is skipped, with why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yields a running browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(_NAMES)} is on the path, and CHROMIUM names none")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def patient_page(browser: Any, **options: Any) -> Any:
    """Returns a new page of a browser, or of one of its contexts, that waits long: other work may have the machine."""
    page = browser.new_page(**options)
    page.set_default_timeout(600_000)
    return page
