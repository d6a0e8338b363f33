"""Personal data that can be recognised anywhere: whatever repeats it, repeats this."""

from __future__ import annotations

from pathlib import Path

CANARY = "canary7f3a91"
EMAIL, PHONE, NAME = f"jane@{CANARY}.example", f"+49 30 {CANARY}", f"Jane {CANARY}"
PERSONAL = {"email": EMAIL, "phone": PHONE, "full_name": NAME}


def files_with_canary(folder: Path) -> list[str]:
    """The files below a folder that hold it, in their bytes or their names."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path) for path in found if CANARY.encode() in path.read_bytes() or CANARY in path.name]
