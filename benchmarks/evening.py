"""Makes the sample report, and the tables of the README and of the findings page, from the bundles of the evening run.

    python -m benchmarks.evening

The bundles in `docs/evening/` hold the reports on the run and all that they rest on. `docs/sample-report.pdf` and
`.html` are the report on the paper's core, made by the code at hand. A page says where a table belongs, and of which
report and section it is: `<!-- evening: core, Kernel aggregation -->` begins it and `<!-- end -->` ends it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUNDLES = DOCS / "evening"
CORE = "core"
"""The bundle of which the sample report is made."""
PAGES = (ROOT / "README.md", DOCS / "findings.md")

_LEFT_OUT = frozenset({"n", "stars", "P(better)", "level", "rank", "top-5", "top-5 (%)"})
_MARKED = re.compile(r"(<!-- evening: (\w+), ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def remake(bundle: str, folder: Path, formats: str) -> None:
    """Make the report of a bundle again in a folder, as a user does.

    Raises:
        subprocess.CalledProcessError: If it cannot be made.
    """
    command = [sys.executable, "run_ablation.py", "report", str(BUNDLES / f"{bundle}.zip")]
    subprocess.run([*command, "--format", formats, "--output", f"{folder}/"], cwd=ROOT, check=True)


def tables_of(report: str) -> dict[str, str]:
    """Return the first table of each section of a report in Markdown, by the title of the section.

    Without the columns of a page's least interest, such as numbers of seeds and top-5 accuracies of ten classes.
    """
    tables: dict[str, str] = {}
    for section in report.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
        if rows:
            tables[title.strip()] = _narrowed(rows.group())
    return tables


def _narrowed(table: str) -> str:
    """Return a table in Markdown without some of its columns."""
    # A bar within a cell is escaped.
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
    kept = [n for n, title in enumerate(rows[0]) if title.strip().rpartition(": ")[2] not in _LEFT_OUT]
    return "".join(f"|{'|'.join(row[n] for n in kept)}|\n" for row in rows)


def filled(page: str, tables: dict[str, dict[str, str]]) -> str:
    """Return a page with the tables that it asks for.

    Raises:
        KeyError: If no report has such a table.
    """

    def table(match: re.Match[str]) -> str:
        begin, bundle, section, end = match.groups()
        return f"{begin}\n{tables[bundle][section]}\n{end}"

    return _MARKED.sub(table, page)


def main() -> None:
    """Write all of it."""
    tables: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        for bundle in sorted(BUNDLES.glob("*.zip")):
            folder = Path(name, bundle.stem)
            remake(bundle.stem, folder, "pdf,html,md")
            (text,) = folder.glob("*.md")
            tables[bundle.stem] = tables_of(text.read_text(encoding="utf-8"))
            if bundle.stem == CORE:
                for ending in (".pdf", ".html"):
                    shutil.copyfile(text.with_suffix(ending), DOCS / f"sample-report{ending}")
                (figure,) = folder.glob("figures/*-aggregation-accuracy.png")
                shutil.copyfile(figure, DOCS / "aggregation.png")
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
