"""Spark as an engine: on this machine, or on a cluster.

File sources are handed over as Parquet in a temporary folder, folders and addresses of Parquet are read in place.
One Java process serves all engines of a Python process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from predictive_scoring.data import canonical
from predictive_scoring.data.engines import Session
from predictive_scoring.errors import EnvironmentMissing, UnreadableFile
from predictive_scoring.settings import TableSource

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend as DuckdbBackend
    from ibis.backends.pyspark import Backend as SparkBackend
    from pyspark.sql import SparkSession

OLDEST_JAVA = 17
LOCAL = {
    # Nothing listens beyond this machine.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.maxResultSize": "0",
}
ALWAYS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    # A wrong cast is an error, as on the other engines, and never a silent NULL.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


@dataclass(frozen=True)
class Spark(Session):
    """A Spark session. `scratch` is the folder of what was handed over; with a cluster, its parent (`TMPDIR`)
    must be one that the executors see too. `started` says that closing stops Spark."""

    backend: SparkBackend
    session: SparkSession
    scratch: tempfile.TemporaryDirectory[str]
    started: bool
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    name = "spark"

    @contextlib.contextmanager
    def temporary(self, name: str, frame: pd.DataFrame) -> Iterator[ir.Table]:
        name = f"{name}_{next(self._numbers)}"
        arrow = pa.Table.from_pandas(frame, preserve_index=False)
        self.session.createDataFrame(arrow).createOrReplaceTempView(name)
        try:
            yield self.backend.table(name)
        finally:
            self.session.catalog.dropTempView(name)

    def adopt(self, reader: DuckdbBackend, table: str) -> ir.Table:
        name = f"{table}_{next(self._numbers)}"
        path = Path(self.scratch.name) / f"{name}.parquet"
        reader.raw_sql(
            f"COPY (SELECT * FROM {canonical.quoted(table)}) TO {canonical.literal(str(path))} (FORMAT parquet)"
        )
        self.session.read.parquet(str(path)).createOrReplaceTempView(name)
        return self.backend.table(name)

    def close(self) -> None:
        if self.started:
            self.session.stop()
        self.scratch.cleanup()

    # -- Sources read where they lie (see `engines.InPlace`).

    def in_place(self, source: TableSource, path: str | None) -> Spark | None:
        if path is None or source.in_warehouse:
            return None
        return self if "://" in path or Path(path).is_dir() else None

    def relation(self, name: str, source: TableSource, path: str | None) -> str:
        name = f"{name}_{next(self._numbers)}"
        try:
            self.session.read.parquet(str(path)).createOrReplaceTempView(name)
        except Exception as refused:
            raise UnreadableFile(
                what=f"Spark cannot read the table: {str(refused).strip().splitlines()[0]}",
                where=f"{source.path}",
                remedy="Check that it is a folder of Parquet files that Spark may read.",
            ) from refused
        return self.quoted(name)

    def kinds(self, relation: str) -> dict[str, str]:
        fields = self.session.table(relation).schema.fields
        return {column.name: _kind(column.dataType.simpleString()) for column in fields}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.session.sql(sql).collect()]

    def view(self, name: str, sql: str) -> ir.Table:
        name = f"{name}_{next(self._numbers)}"
        self.session.sql(sql).createOrReplaceTempView(name)
        return self.backend.table(name)

    def fetch(self, relation: str, columns: Sequence[str], reader: DuckdbBackend, table: str) -> None:
        rows = self.session.table(relation).select(*(self.quoted(name) for name in columns)).toArrow()
        reader.con.register("fetched", rows)
        reader.raw_sql(
            f"CREATE OR REPLACE TABLE {canonical.quoted(table)} AS "
            "SELECT row_number() OVER () AS row_number, * FROM fetched"
        )
        reader.con.unregister("fetched")

    def quoted(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def text(self, column: str) -> str:
        return f"CAST({column} AS string)"

    def number(self, column: str) -> str:
        return f"nullif(CAST({column} AS double), CAST('NaN' AS double))"

    def instant(self, column: str, kind: str, time_zone: str | None) -> str:
        zone = canonical.literal(time_zone or "UTC")
        moment = (
            column
            if kind == "instant"
            else f"CAST(convert_timezone({zone}, 'UTC', CAST({column} AS timestamp_ntz)) AS timestamp)"
        )
        return f"CAST(floor(unix_micros({moment}) / CAST(1000000 AS decimal(18, 0))) AS bigint)"

    def is_time_zone(self, name: str) -> bool:
        from zoneinfo import available_timezones

        return name in available_timezones()


def _kind(spelled: str) -> str:
    exact = {
        "timestamp": "instant",
        "timestamp_ntz": "local",
        "date": "date",
        "boolean": "flag",
        "string": "text",
    }
    if spelled in ("tinyint", "smallint", "int", "bigint", "float", "double") or spelled.startswith(
        "decimal"
    ):
        return "number"
    return exact.get(spelled, "other")


def open_spark(master: str) -> Spark:
    """A session on the Spark that runs in this process already, or on a new one at `master`.

    Raises EnvironmentMissing without pyspark or Java, or when Spark does not start."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ibis.backends.pyspark
            from pyspark.sql import SparkSession
    except ImportError as missing:
        raise EnvironmentMissing(
            what=f"Spark is not installed: {missing}",
            where="--engine spark",
            remedy="Install the extra: pip install 'predictive-scoring[spark]'.",
        ) from missing
    # Said in every call; the pandas interface it warns about is used for plain columns only.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    active = SparkSession.getActiveSession()
    scratch = tempfile.TemporaryDirectory(prefix="predictive-scoring-")
    try:
        session = (active or _start(master, Path(scratch.name) / "spark.log")).newSession()
        for name, value in ALWAYS.items():
            if name.startswith("spark.sql."):
                session.conf.set(name, value)
        return Spark(ibis.pyspark.connect(session), session, scratch, active is None)
    except BaseException:
        scratch.cleanup()
        raise


def java_version() -> str | None:
    """What the Java that Spark would start says of itself, such as `17.0.15`; None without one that answers."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=str(Path(home, "bin")) if home else None)
    if program is None:
        return None
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    # "1.8.0_402" is how Java spelled 8.
    found = re.search(r'version "(?:1\.)?(\d[^"]*)"', said.stderr)
    return found[1] if found else None


def has_java() -> bool:
    """Whether there is a Java that Spark runs on."""
    found = java_version()
    return found is not None and int(re.split(r"\D", found)[0]) >= OLDEST_JAVA


def _start(master: str, log: Path) -> SparkSession:
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    if not has_java():
        raise EnvironmentMissing(
            what=f"Spark needs Java {OLDEST_JAVA} or newer and found {java_version() or 'none'}",
            where="--engine spark",
            remedy="Install one (Debian: openjdk-17-jre-headless), or set JAVA_HOME to it.",
        )
    chosen = {**ALWAYS, **(LOCAL if master.startswith("local") else {})}
    if master.startswith("local"):
        if "SPARK_DRIVER_MEMORY" not in os.environ:
            chosen["spark.driver.memory"] = "4g"
        # The 200 of a cluster cost more than the work in them; what does not fit into memory goes to disk.
        chosen["spark.sql.shuffle.partitions"] = str(max(4, 2 * (os.cpu_count() or 1)))
    conf = SparkConf().setMaster(master).setAppName("predictive-scoring").setAll(list(chosen.items()))
    try:
        # Spark talks to stderr from before its logging is set up until after it ends: it talks to a file instead.
        with log.open("wb") as talk:
            gateway = SparkContext._gateway or launch_gateway(  # type: ignore[no-untyped-call]  # untyped there
                conf, {"stdout": talk, "stderr": talk}
            )
        context = SparkContext(conf=conf, gateway=gateway)
        if master.startswith("local") and "PYSPARK_PYTHON" not in os.environ:
            # Otherwise the workers run the first python3 on the PATH, which need not be the one with this package.
            context.pythonExec = sys.executable
    except Exception as refused:
        told = [
            line
            for line in log.read_text("utf-8", "replace").splitlines()
            if "rror" in line or "xception" in line
        ]
        raise EnvironmentMissing(
            what=f"Spark does not start: {told[0].strip() if told else str(refused).splitlines()[0]}",
            where=f"--master {master}",
            remedy="Check Java (17 or newer) and that the master can be reached; without a cluster leave --master out.",
        ) from refused
    return SparkSession(context)
