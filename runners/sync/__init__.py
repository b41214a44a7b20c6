"""This package brings state folders to the tracking store: it follows running nodes and later brings over the rest.

It also reserves nodes between machines and takes over results that other machines have measured. Writes to MLflow go
through `runners.tracking`.
"""
