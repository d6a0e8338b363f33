"""A lead's lines taken out of the kept feature vectors (`keeping.vectors`), while others go on appending.

A line is overwritten with blanks in its place: the file keeps its length, nothing moves, and a line that another
process appends at that moment is not lost. Readers step over blank lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from predictive_scoring.errors import UnreadableFile
from predictive_scoring.keeping.vectors import VectorLog


def forget_vectors(log: VectorLog, lead_ids: Iterable[str]) -> int:
    """Blank every line of these leads, torn ones too; how many. Raises UnreadableFile."""
    # How `vectors` begins each line.
    heads = tuple(f'{{"lead_id":{json.dumps(one)},'.encode() for one in lead_ids)
    place = log.folder
    blanked = 0
    try:
        for place in log.files():
            blanked += _blank(place, heads)
    except OSError as refused:
        raise UnreadableFile(
            what=f"cannot erase from the kept vectors: {refused.strerror}",
            where=str(place),
            remedy="Run as a user who may write the service's files, then erase again.",
        ) from refused
    return blanked


def _blank(file: Path, heads: tuple[bytes, ...]) -> int:
    try:
        stream = file.open("r+b")
    except FileNotFoundError:
        # Its day was over.
        return 0
    blanked = place = 0
    with stream:
        for line in list(stream):
            text = line.rstrip(b"\n")
            # A torn line may end within the id: then it might be the lead's.
            if text.startswith(heads) or (
                len(text) > len(b'{"lead_id":"') and any(head.startswith(text) for head in heads)
            ):
                os.pwrite(stream.fileno(), b" " * len(text), place)
                blanked += 1
            place += len(line)
        if blanked:
            os.fsync(stream.fileno())
    return blanked
