"""Look through every file that is, or would be, committed for what must never be there.

- the address of a package index (a registry host, or an option that sets one): it would tie users to it;
- a pickle, by name or by content: reading one runs code;
- the path of this checkout or of the home directory: it means nothing elsewhere.

Prints each finding as `file:line: what` and exits 1 if there is any.
"""

from __future__ import annotations

import pickletools
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

INDEX = re.compile(
    r"(?:test\.|files\.)?pypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg\.com|conda\.anaconda\.org"
    r"|deb\.debian\.org|archive\.ubuntu\.com|proxy\.golang\.org|index\.crates\.io"
    r"|--(?:extra-)?index-url|--find[-]links|\b(?:extra-)?index-url\s*=|\bPIP_INDEX[_]URL|\bUV_(?:DEFAULT_)?INDEX\b"
    r"|https?://[^\s\"')>]+/simple(?=[/\s\"')>]|$)"
)
PICKLE_NAMES = {".pkl", ".pickle", ".joblib", ".skops", ".dill", ".cloudpickle", ".pt", ".pth"}
SMALLEST_PICKLE = 4


def committed_files() -> Iterator[Path]:
    """Files git tracks or would add, that exist."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    ).stdout  # fmt: skip
    for name in sorted(set(listed.decode().split("\0"))):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            yield path


def is_pickle(path: Path, content: bytes) -> bool:
    """Whether a file is a pickle (protocol 2 or newer) or an archive that holds one."""
    if path.suffix.lower() in PICKLE_NAMES:
        return True
    if content[:2] == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix.lower() in PICKLE_NAMES for name in archive.namelist())
    if len(content) < SMALLEST_PICKLE or content[0] != 0x80 or content[1] > 5:
        return False
    try:
        # Only reads the opcodes; nothing is executed.
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except ValueError:
        return False


def private_paths() -> list[str]:
    """Spellings of this checkout and the home directory that a committed text must not contain."""
    return [f"{path}/" for path in {str(ROOT), str(Path.home())} if len(path) > 1]


def findings(path: Path) -> Iterator[str]:
    """Each finding in one file, ready to print."""
    name = path.relative_to(ROOT).as_posix()
    content = path.read_bytes()
    if is_pickle(path, content):
        yield f"{name}:1: is a pickle, or carries one"
    if b"\0" in content[:8192]:
        return
    private = private_paths()
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        if match := INDEX.search(line):
            yield f"{name}:{number}: names a package index: {match.group()}"
        yield from (
            f"{name}:{number}: names a path of this machine: {path}" for path in private if path in line
        )


def main() -> int:
    """Exit code: 0 when nothing was found."""
    count = 0
    for path in committed_files():
        for finding in findings(path):
            count += 1
            print(finding)
    if count:
        print(f"{count} finding(s): remove them before committing", file=sys.stderr)
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main())
