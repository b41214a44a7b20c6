"""From state folders to the tracking store: following running nodes, reservations between machines, taking over
finished results, and bringing over what was left. Writes to MLflow go through `runners.tracking`.
"""
