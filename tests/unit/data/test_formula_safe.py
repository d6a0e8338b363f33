"""Cells of a CSV file that no spreadsheet runs."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.data.sinks import formula_safe


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_begins_like_a_formula_is_quoted(sign):
    assert formula_safe(f"{sign}HYPERLINK(1)") == f"'{sign}HYPERLINK(1)"


@pytest.mark.parametrize(
    "value", [-1, -0.5, 0, None, True, "", "a=b", "L-1", "1+1", "'=1", "Viewed pricing (+4)"]
)
def test_numbers_and_plain_text_stay_as_they_are(value):
    assert formula_safe(value) is value


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_a_cell_reads_back_as_it_was_apart_from_one_quote(text):
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow([formula_safe(text)])
    ((found,),) = csv.reader(io.StringIO(line.getvalue(), newline=""))
    assert found in (text, f"'{text}")
    assert found[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
