"""This package builds whole documents, as blocks: the report of studies, of a search, of a comparison, and their
sentences.

Tables and figures come from their own packages; writing files is for `reports.render`.
"""
