"""Contains the command line: a module per verb, the options, and the functions that several verbs share.

It is the only package that knows `click` and `reports`; no other package imports a verb.
"""
