"""The exports that are known, and how one is told from the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from predictive_scoring.data.exports import hubspot, hubspot_files, salesforce
from predictive_scoring.data.exports.shape import Export, ExportFile
from predictive_scoring.data.profile import column_names


def recognised(paths: Sequence[Path]) -> Export | None:
    """The known export in these files, judged by their names and columns. Raises UnreadableFile."""
    files = [ExportFile(path, column_names(path)) for path in paths]
    products = (hubspot.recognise, hubspot_files.recognise, salesforce.recognise)
    return next((export for product in products if (export := product(files)) is not None), None)


def looked_for() -> tuple[str, ...]:
    """What each known export is recognised by."""
    return (hubspot.LOOKED_FOR, hubspot_files.LOOKED_FOR, salesforce.LOOKED_FOR)
