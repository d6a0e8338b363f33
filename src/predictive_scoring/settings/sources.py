"""Where the tables are."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from predictive_scoring.settings.base import Settings


class TableSource(Settings):
    """One table: a CSV or Parquet file, a query over named files, or a table (or query) of the warehouse.

    `table` names a table or view of the database that `--engine postgres` connects to; `sql` without
    `tables` is a query that the database answers. `missing` lists texts that mean "no value". `time_zone`
    declares that times without an offset in this table are local times of that IANA zone; without it such
    times are refused."""

    path: str | None = None
    sql: str | None = None
    table: str | None = None
    tables: dict[str, str] = Field(default_factory=dict)
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    missing: tuple[str, ...] = ()
    time_zone: str | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if sum(way is not None for way in (self.path, self.sql, self.table)) != 1:
            raise ValueError(
                "give one of `path`, `sql` (over the files in `tables`) and `table` (of the warehouse)"
            )
        if self.tables and self.sql is None:
            raise ValueError("`tables` names the files that `sql` reads: remove it, or write the query")
        return self

    @property
    def in_warehouse(self) -> bool:
        """Whether the rows are in a database, not in files."""
        return self.table is not None or (self.sql is not None and not self.tables)


class Sources(Settings):
    """Either `leads` and `events` (and `attribute_changes`, `touches`), or one `snapshot` table with a row
    per lead."""

    leads: TableSource | None = None
    events: TableSource | None = None
    attribute_changes: TableSource | None = None
    touches: TableSource | None = None
    snapshot: TableSource | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.snapshot is not None:
            if self.leads or self.events or self.touches or self.attribute_changes:
                raise ValueError(
                    "`snapshot` stands alone: remove `leads`, `events`, `attribute_changes` and `touches`"
                )
        elif self.leads is None or self.events is None:
            raise ValueError("give `leads` and `events`, or a `snapshot`")
        return self
