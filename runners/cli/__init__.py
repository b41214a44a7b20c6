"""Contains the command line: modules of verbs, groups of options as typed objects, and what launching verbs share.

It is the only package that knows `click` and `reports`; no other package imports a verb.
"""
