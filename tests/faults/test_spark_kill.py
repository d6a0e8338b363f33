"""A scoring job on Spark, killed again and again at random moments."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from predictive_scoring.data.spark import has_java
from spark_kills import rows_of, score_until

if TYPE_CHECKING:
    from conftest import SmallProject

KILLS = 5

pytestmark = [pytest.mark.engine, pytest.mark.trial, pytest.mark.timeout(2400)]


@pytest.mark.skipif(not has_java(), reason="Spark needs a Java runtime")
@pytest.mark.parametrize("there", [False, True], ids=["no output yet", "output of an earlier run"])
def test_killed_at_any_moment_the_output_is_complete_or_not_there(
    small_champion: SmallProject, tmp_path: Path, there: bool
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    drawn = random.Random(seed)
    first, out = tmp_path / "first.parquet", tmp_path / "scores.parquet"
    former = tmp_path / ".scores.parquet.former"
    started = time.monotonic()
    assert not score_until(small_champion, first, lambda: False)
    whole = time.monotonic() - started
    wanted = rows_of(first)
    if there:
        assert not score_until(small_champion, out, lambda: False)
    for _ in range(KILLS):
        # The second half: before it Spark only starts.
        end = time.monotonic() + whole * drawn.uniform(0.5, 1.0)
        killed = score_until(small_champion, out, lambda end=end: time.monotonic() >= end)
        # Between two renames the earlier output lies beside its place for an instant, until the next run.
        standing = next((path for path in (out, former) if path.exists()), None)
        assert standing is not None or (killed and not there)
        if standing is not None:
            pd.testing.assert_frame_equal(rows_of(standing), wanted, check_exact=True)
    assert not score_until(small_champion, out, lambda: False)
    pd.testing.assert_frame_equal(rows_of(out), wanted, check_exact=True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
