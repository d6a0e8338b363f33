"""The outcome of writing scores into a CRM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Pushed:
    """Which leads were written, and why others were not: the CRM's error code by lead id, never its message, which
    quotes values."""

    written: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Numbers, the failures by reason, and the leads concerned."""
        return {
            "written": len(self.written),
            "failed": len(self.failed),
            "reasons": dict(Counter(self.failed.values()).most_common()),
            "failed_leads": dict(self.failed),
        }


def code_of(error: Mapping[str, Any]) -> str:
    """The CRM's name for what is wrong with one item, `REFUSED` where it gives none."""
    name = error.get("category") or error.get("subCategory") or ""
    return name if isinstance(name, str) and name.replace("_", "").isalpha() else "REFUSED"
