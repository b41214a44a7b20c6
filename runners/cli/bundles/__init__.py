"""This package contains what the command line does with bundles: packing a report, and training parts of it again."""
