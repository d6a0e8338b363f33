"""Where a pull puts what it fetched: pages that are safe on the disk before the cursor moves past them, and tables that
are put together from the pages at the end.

    tables/hubspot/contact.parquet            the tables, which `init`, `train` and `score` read
    tables/hubspot/.pull/cursor.json          how far the pull is; written after a page, in one step
    tables/hubspot/.pull/contact/000000017.parquet   a page, all columns as text

A pull that is killed goes on after its last page. It fetches the page that was under way again, under the same number,
so the tables come out the same. Tables are replaced whole: a reader sees the old ones or the new ones.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.profile import literal
from predictive_scoring.data.sinks import whole_file
from predictive_scoring.data.sources import reason_of
from predictive_scoring.errors import InvalidSetting, UnreadableFile

Row = Mapping[str, str | None]
Page = tuple[Mapping[str, Sequence[Row]], Mapping[str, Any]]
"""Rows by table, and the position from which to go on after them."""
Stage = Callable[[Mapping[str, Any] | None], Iterator[Page]]
"""Pages of one kind from a position on (None: from the start)."""
Derive = Callable[["Rewriting", Path, Path], None]


@dataclass(frozen=True)
class LandedTable:
    """A table made of pages. Of rows with the same `key` the newest stays. With `group`, the rows of the newest page
    that names a group replace all older rows of that group: links that were cut disappear. `inner` ones lie in `.pull`,
    for a later step."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    group: str | None = None
    inner: bool = False


@dataclass(frozen=True)
class Window:
    """What one pull fetches: changes at or after `since` and before `until` (epoch seconds)."""

    since: int
    until: int


class Landing:
    """The folder of one CRM's tables. Open it with `landing`."""

    def __init__(self, folder: Path, tables: Sequence[LandedTable]) -> None:
        self.folder = folder
        self._tables = {table.name: table for table in tables}
        self._inside = folder / ".pull"
        self._cursor: dict[str, Any] = _read_cursor(self._inside / "cursor.json")

    def begin(self, now: int, first: int, overlap: int, asked: Sequence[str] = ()) -> Window:
        """The window of this pull: the unfinished one, else from the end of the last one to `now`.

        `first` is where the very first pull begins, and one for which other columns are `asked`, or one that finds a
        table gone: of what did not change since, nothing would come. `overlap` seconds are fetched twice, because a
        CRM's search shows a change only after a moment."""
        window = self._cursor.get("window")
        same = self._cursor.get("asked", []) == sorted(asked)
        if window is None or not same:
            until = self._cursor.get("until") if same and self._is_whole() else None
            window = [first if until is None else max(0, int(until) - overlap), now]
            begun = {"window": window, "positions": {}, "done": [], "asked": sorted(asked)}
            self._move(begun | {"page": self._cursor.get("page", 0)})
        return Window(int(window[0]), int(window[1]))

    def fetch(self, stages: Mapping[str, Stage], say: Callable[[str], None] = lambda _: None) -> None:
        """Land the pages of every stage that is not done yet, each from where it stopped."""
        for name, stage in stages.items():
            if name in self._cursor["done"]:
                continue
            say(f"fetching {name}")
            for rows, position in stage(self._cursor["positions"].get(name)):
                self._land(rows)
                self._move(
                    {
                        **self._cursor,
                        "page": self._cursor.get("page", 0) + 1,
                        "positions": {**self._cursor["positions"], name: dict(position)},
                    }
                )
            self._move({**self._cursor, "done": [*self._cursor["done"], name]})

    def finish(self, derive: Derive = lambda _rewriting, _folder, _inside: None) -> dict[str, int]:
        """Put the tables together, let `derive` (given the folder and the inner one) make what follows from them, and
        close the window. Rows by table."""
        with Rewriting() as rewriting:
            rows = {name: self._put_together(table, rewriting) for name, table in self._tables.items()}
            derive(rewriting, self.folder, self._inside)
        closed = {"until": self._cursor["window"][1]}
        self._move(closed | {name: self._cursor[name] for name in ("page", "asked")})
        for name in self._tables:
            shutil.rmtree(self._inside / name, ignore_errors=True)
        return rows

    def _is_whole(self) -> bool:
        places = {table: self._inside if table.inner else self.folder for table in self._tables.values()}
        return all((place / f"{table.name}.parquet").exists() for table, place in places.items())

    def _land(self, rows: Mapping[str, Sequence[Row]]) -> None:
        for name, content in rows.items():
            if not content:
                continue
            columns = list(
                dict.fromkeys([*self._tables[name].columns, *(key for row in content for key in row)])
            )
            arrays = [pa.array([row.get(column) for row in content], pa.string()) for column in columns]
            folder = self._inside / name
            folder.mkdir(parents=True, exist_ok=True)
            with _safely(folder / f"{self._cursor.get('page', 0):09d}.parquet") as draft:
                pq.write_table(pa.table(arrays, names=columns), draft)

    def _move(self, cursor: dict[str, Any]) -> None:
        self._inside.mkdir(parents=True, exist_ok=True)
        with _safely(self._inside / "cursor.json") as draft:
            draft.write_text(json.dumps(cursor, sort_keys=True), "utf-8")
        self._cursor = cursor

    def _put_together(self, table: LandedTable, rewriting: Rewriting) -> int:
        target = (self._inside if table.inner else self.folder) / f"{table.name}.parquet"
        pages = sorted((self._inside / table.name).glob("[0-9]*.parquet"))
        if not target.exists() and not pages:
            empty = pa.table([pa.array([], pa.string()) for _ in table.columns], names=list(table.columns))
            with _safely(target) as draft:
                pq.write_table(empty, draft)
        elif pages:
            rewriting.replace(target, _merged(table, target, pages))
        return int(pq.read_metadata(target).num_rows)


@contextmanager
def landing(folder: Path, tables: Sequence[LandedTable]) -> Iterator[Landing]:
    """The folder, for one pull at a time. Raises UnreadableFile, and InvalidSetting while another pull is running."""
    try:
        (folder / ".pull").mkdir(parents=True, exist_ok=True)
        # The system lets go of the lock when a process dies, however it dies.
        with (folder / ".pull" / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidSetting(
                    what="another pull into this folder is running",
                    where=str(folder),
                    remedy="Wait for it, or name another folder with --tables.",
                ) from None
            yield Landing(folder, tables)
    except OSError as refused:
        raise UnreadableFile(
            what=f"cannot write the tables: {reason_of(refused)}",
            where=str(folder),
            remedy="Name a folder that may be written to, on a disk with room.",
        ) from refused


class Rewriting:
    """Parquet files replaced whole by what SQL makes of them. Close it at the end."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(config={"threads": "1"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def replace(self, target: Path, query: str) -> None:
        """Replace `target` by the answer of `query`."""
        with _safely(target) as draft:
            self._connection.execute(f"COPY ({query}) TO {literal(str(draft))} (FORMAT parquet)")

    def without(self, file: Path, condition: str) -> int:
        """Drop the rows of `file` for which `condition` holds, and say how many; where there are none, it is not
        written."""
        rows = f"read_parquet({literal(str(file))})"
        found = self._connection.execute(f"SELECT count(*) FROM {rows} WHERE {condition}").fetchone()
        dropped = int(found[0]) if found else 0
        if dropped:
            self.replace(file, f"SELECT * FROM {rows} WHERE ({condition}) IS NOT TRUE")
        return dropped

    def blank(self, file: Path, flag: str, kept: Sequence[str]) -> None:
        """Empty every cell, but those of the columns `kept`, of the rows of `file` whose `flag` is true."""
        rows, gone = f"read_parquet({literal(str(file))})", f"{quoted(flag)} = 'true'"
        others = [quoted(name) for name in pq.read_schema(file).names if name not in kept]
        filled = " OR ".join(f"{name} IS NOT NULL" for name in others) or "false"
        if self._any(f"SELECT 1 FROM {rows} WHERE {gone} AND ({filled}) LIMIT 1"):
            cells = ", ".join(f"CASE WHEN {gone} THEN NULL ELSE {name} END AS {name}" for name in others)
            self.replace(file, f"SELECT * REPLACE ({cells}) FROM {rows}")

    def _any(self, query: str) -> bool:
        return self._connection.execute(query).fetchone() is not None


def _merged(table: LandedTable, target: Path, pages: Sequence[Path]) -> str:
    files = [*([target] if target.exists() else []), *pages]
    key = ", ".join(quoted(column) for column in table.key)
    # The table itself is older than every page.
    age = f"CASE WHEN filename = {literal(str(target))} THEN '' ELSE filename END"
    newest = f"row_number() OVER (PARTITION BY {key} ORDER BY {age} DESC, file_row_number DESC) = 1"
    if table.group is not None:
        newest += f" AND {age} = max({age}) OVER (PARTITION BY {quoted(table.group)})"
    return f"""
SELECT * EXCLUDE (filename, file_row_number)
FROM read_parquet([{_listed(files)}], union_by_name = true, filename = true, file_row_number = true)
QUALIFY {newest}
ORDER BY {key}
"""


def _listed(files: Iterable[Path]) -> str:
    return ", ".join(literal(str(file)) for file in files)


@contextmanager
def _safely(path: Path) -> Iterator[Path]:
    """A whole file that survives a power cut too: contents and name are on the disk when this ends."""
    with whole_file(path) as draft:
        yield draft
        _flush(draft)
    _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_cursor(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        cursor = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as refused:
        raise UnreadableFile(
            what=f"the cursor of the pull cannot be read: {reason_of(refused)}",
            where=str(path),
            remedy="Remove the file: the next pull then fetches everything again.",
        ) from refused
    if not isinstance(cursor, dict):
        raise UnreadableFile(
            what="the cursor of the pull is not a JSON object",
            where=str(path),
            remedy="Remove the file: the next pull then fetches everything again.",
        )
    return cursor
