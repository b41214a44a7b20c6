"""Results as a stranger might have written them."""

from __future__ import annotations

from pathlib import Path

from reports.content.blocks import Document, Table

NAMES = ("plain", "<b>mixup</b>", '$x_1$ & #1 "q"')
VALUES = {
    "plain": (93.12, 93.45, 92.98, 93.30, 93.21),
    "<b>mixup</b>": (94.02, 94.40, 93.79, 94.21, 94.05),
    '$x_1$ & #1 "q"': (93.50, 93.71, 93.20, 93.66, 93.40),
}
STUDY = """\
title: Which augmentation helps?
reference: plain
metric: {name: accuracy, unit: per cent}
variants: {plain: Plain, <b>mixup</b>: {label: <i>Mixup</i>, published: 94.3}, '$x_1$ & #1 "q"': }
published: Somebody 2020, table 3
size_of_interest: 0.5
claims:
- {name: mixup, statement: Mixup helps., contrasts: [{better: [<b>mixup</b>], worse: [plain]}]}
- {name: loses, statement: Plain is best., contrasts: [{better: [plain], worse: [<b>mixup</b>]}]}
- {name: same, statement: They are alike., contrasts: [{better: ['$x_1$ & #1 "q"'], worse: [plain], kind: same}]}
"""


def write_csv(path: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Writes the results and returns their path."""
    lines = ["variant,seed,accuracy"]
    for name in names:
        quoted = name.replace('"', '""')
        lines += [f'"{quoted}",{seed},{value:.2f}' for seed, value in enumerate(VALUES[name])]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_study(path: Path) -> Path:
    """Writes the study file and returns its path."""
    path.write_text(STUDY)
    return path


def tables_of(document: Document) -> dict[str, Table]:
    """Returns the tables of a document by title."""
    tables = {}
    for section in document.all_sections:
        for block in section.blocks:
            if isinstance(block, Table):
                tables[block.title] = block
    return tables
