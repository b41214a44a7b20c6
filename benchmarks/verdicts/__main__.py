"""This script prints the simulated tables of docs/explanation/ and of docs/until-decided.md, from fixed seeds."""

from __future__ import annotations

import argparse
import sys

from benchmarks.verdicts import looks, tables


def main() -> None:
    """Print the tables, or those of one of the two pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=10_000, help="simulated tables per number")
    parser.add_argument("--only", choices=("tables", "looks"), help="one of the two modules (default: both)")
    options = parser.parse_args()
    printed: dict[str, str] = {}
    if options.only != "looks":
        printed |= tables.printed_tables(options.tables)
    if options.only != "tables":
        printed |= looks.printed_tables(options.tables)
    for title, table in printed.items():
        sys.stdout.write(f"{title}\n\n{table}\n\n")


if __name__ == "__main__":
    main()
