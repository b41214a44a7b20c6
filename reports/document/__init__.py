"""This package builds whole documents, as blocks: the reports of studies, of a search and of a comparison.

Tables and figures come from their own packages; writing files is for `reports.render`.
"""
