"""What documents are made of: blocks, formatted numbers, published numbers, words for plans and names for files.

Nothing here looks at results or writes a file.
"""
