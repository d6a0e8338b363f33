"""The verb doctor: what of the environment is there, what is missing, how to mend it."""

from __future__ import annotations

import importlib
import platform
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import typer
from rich.table import Table

from predictive_scoring.cli.diagnosing_service import Check, service_checks
from predictive_scoring.cli.output import people, print_json
from predictive_scoring.data.spark import OLDEST_JAVA, has_java, java_version
from predictive_scoring.errors import EnvironmentMissing, PredictiveScoringError


def doctor(
    project: Path,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    *,
    port: int = 3000,
    database: str | None = None,
) -> None:
    """Print every check; exit 4 when something the main job needs is missing."""
    name = _project_name(project)
    checks = [
        _python(),
        *(
            _library(name)
            for name in ("lightgbm", "scikit-learn", "duckdb", "ibis-framework", "mlflow", "bentoml")
        ),
        _writable(models),
        _tracking(tracking_uri),
        _project(project, models),
        *service_checks(models, name, database, int(time.time())),
        _port(port),
        _engine("postgres", "psycopg"),
        _engine("spark", "pyspark"),
        _java(),
        _program("chromium", "Only the page tests need a browser."),
    ]
    if as_json:
        print_json(
            {
                "healthy": all(check.health != "missing" for check in checks),
                "checks": [asdict(c) for c in checks],
            }
        )
    else:
        table = Table("check", "", "detail", "to do")
        for check in checks:
            table.add_row(check.name, check.health, check.detail, check.remedy)
        people.print(table)
    if any(check.health == "missing" for check in checks):
        raise typer.Exit(EnvironmentMissing.exit_code)


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _library(name: str) -> Check:
    module = {"scikit-learn": "sklearn", "ibis-framework": "ibis"}.get(name, name)
    if importlib.util.find_spec(module) is None:
        return Check(name, "missing", "not installed", "Install the package again: make run, or pip install.")
    return Check(name, "ok", metadata.version(name))


def _writable(models: Path) -> Check:
    place = models if models.exists() else models.absolute().parent
    probe = place / ".doctor"
    try:
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as refused:
        return Check("models folder", "missing", f"{models}: {refused.strerror}", "Make the folder writable.")
    free = shutil.disk_usage(place).free // 2**30
    return Check("models folder", "ok", f"{models}, {free} GiB free")


def _tracking(uri: str) -> Check:
    return _attempt("MLflow", lambda: f"{uri}, {_experiments(uri)} experiments", "Check --tracking-uri.")


def _experiments(uri: str) -> int:
    from predictive_scoring.keeping.registry import Registry

    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return 0
    return Registry(uri).experiments()


def _project(project: Path, models: Path) -> Check:
    if not project.exists():
        return Check(
            "project",
            "optional",
            f"{project} does not exist",
            "Name one with --project, or draft it with init.",
        )

    def champion() -> str:
        from predictive_scoring.data.sources import load_project
        from predictive_scoring.keeping.bundle import read_bundle, try_bundle
        from predictive_scoring.keeping.champion import BundleStore

        loaded = load_project(project)
        store = BundleStore(models / loaded.project.name)
        promotion = store.succession().champion
        if promotion is None:
            return f"{loaded.project.name}: no champion yet (train, then promote)"
        path = store.path(promotion.bundle)
        read_bundle(path)
        try_bundle(path)
        return f"{loaded.project.name}: champion version {promotion.version} loads and scores its golden rows"

    return _attempt("project", champion, "See the error; the project file or the bundle is at fault.")


def _project_name(project: Path) -> str | None:
    from predictive_scoring.data.sources import load_project

    try:
        return load_project(project).project.name
    except PredictiveScoringError:
        # The check of the project says why.
        return None


def _port(port: int) -> Check:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            remedy = "Fine if it is the service; else serve on another one with --port."
            return Check(f"port {port}", "optional", "in use", remedy)
    return Check(f"port {port}", "ok", "free")


def _program(name: str, need: str) -> Check:
    found = shutil.which(name)
    return Check(name, "ok", found) if found else Check(name, "optional", "not found", need)


def _engine(name: str, driver: str) -> Check:
    if importlib.util.find_spec(driver) is None:
        remedy = f"For --engine {name}: pip install 'predictive-scoring[{name}]'."
        return Check(f"engine {name}", "optional", f"{driver} is not installed", remedy)
    return Check(f"engine {name}", "ok", f"{driver} {metadata.version(driver)}")


def _java() -> Check:
    remedy = (
        f"--engine spark needs Java {OLDEST_JAVA} or newer (Debian: openjdk-17-jre-headless), or JAVA_HOME."
    )
    found = java_version()
    if found is None:
        return Check("java", "optional", "not found", remedy)
    return Check("java", "ok", found) if has_java() else Check("java", "optional", found, remedy)


def _attempt(name: str, look: Callable[[], str], remedy: str) -> Check:
    try:
        return Check(name, "ok", look())
    except PredictiveScoringError as refused:
        return Check(name, "missing", refused.what, refused.remedy)
    except Exception as refused:  # noqa: BLE001 a doctor reports whatever is wrong
        return Check(name, "missing", f"{type(refused).__name__}: {refused}", remedy)
