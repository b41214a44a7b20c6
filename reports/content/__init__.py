"""This package holds the content of documents: blocks, formatted and published numbers, words for plans, names for
files.

Nothing here looks at results or writes a file.
"""
