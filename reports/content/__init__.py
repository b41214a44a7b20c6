"""This package holds the parts of documents: blocks, formatted and published numbers, words for plans, file names.

Nothing here looks at results or writes a file.
"""
