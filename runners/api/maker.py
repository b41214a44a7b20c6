"""Names the running code as the maker of a report."""

from __future__ import annotations

from reports.content.maker import Maker
from runners.provenance import project_commit


def running_code() -> Maker:
    """Return the commit of the running code, for a report's manifest."""
    commit = project_commit()
    return Maker(commit.sha, commit.dirty)
