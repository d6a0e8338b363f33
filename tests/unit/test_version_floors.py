"""No known hole comes back: what talks to the network or reads what others wrote is at a version that mended it.

A lower bound in pyproject.toml counts for what is installed elsewhere, constraints.txt for what is tested.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]

# Package, first mended version, advisory, and what it was about.
HOLES = (
    ("aiohttp", "3.14.1", "CVE-2026-54273", "the last of a series in its parser and client"),
    ("bentoml", "1.4.8", "CVE-2025-32375", "unpickles the body of an unauthenticated request"),
    ("cryptography", "50.0.0", "CVE-2026-69247", "padding oracle in PKCS#7"),
    ("gitpython", "3.1.54", "GHSA-3rp5-jjmw-4wv2", "commands through the names of sections"),
    ("h11", "0.16.0", "CVE-2025-43859", "request smuggling through chunked bodies"),
    ("jinja2", "3.1.6", "CVE-2025-27516", "escape from the sandbox through |attr"),
    ("mlflow", "3.16.0", "CVE-2026-71211", "requests to others through the gateway"),
    ("pillow", "12.3.0", "PYSEC-2026-2253", "the first of five in its decoders"),
    ("protobuf", "6.33.5", "CVE-2026-0994", "recursion without end while parsing"),
    ("pyarrow", "23.0.1", "CVE-2026-25087", "use after free in a prepared file"),
    ("python-multipart", "0.0.27", "CVE-2026-42561", "endless headers of a part"),
    ("requests", "2.33.0", "CVE-2026-25645", "predictable names of temporary files"),
    ("starlette", "1.0.1", "CVE-2026-48710", "a Host header that changes the path which others check"),
    ("starlette", "1.3.1", "CVE-2026-54283", "limits of forms that are not applied"),
    ("urllib3", "2.7.0", "CVE-2026-44432", "unpacks more than was asked for"),
    ("werkzeug", "3.1.6", "CVE-2026-27199", "names of devices as files"),
)


def names(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    return {names(one.name): one for one in map(Requirement, listed)}


def pinned() -> dict[str, str]:
    lines = re.findall(
        r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )
    return {names(name): pin for name, pin in lines}


@pytest.mark.parametrize(("package", "mended", "advisory", "about"), HOLES, ids=[hole[2] for hole in HOLES])
def test_a_known_hole_stays_closed(package, mended, advisory, about):
    told = f"{advisory} ({about}) is mended in {package} {mended}"
    assert Version(pinned()[package]) >= Version(mended), f"constraints.txt: {told}"
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = mended
    assert Version(installed) >= Version(mended), f"installed: {told}"
    if package in declared():
        (lowest,) = [one.version for one in declared()[package].specifier if one.operator == ">="]
        assert Version(lowest) >= Version(mended), f"pyproject.toml: {told}"


def test_every_dependency_of_ours_has_a_lower_and_an_upper_bound():
    for name, requirement in declared().items():
        operators = {one.operator for one in requirement.specifier}
        assert ">=" in operators, name
        # The versions of tzdata are years.
        assert "<" in operators or name == "tzdata" or requirement.extras, name
