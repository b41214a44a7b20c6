"""This package is the format of a bundle: one zip file whose bytes follow from its files, so that any change shows.

`layout` makes the bytes, `listing` is `bundle.json`, and `bundle` reads and checks. What is packed is not known here:
that is for `reports.bundles`.
"""
