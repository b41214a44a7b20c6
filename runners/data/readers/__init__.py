"""One module per source of images, and readers of the file formats.

How batches are made of images is in `runners.data`.
"""
