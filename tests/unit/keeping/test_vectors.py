"""Kept feature vectors: which are sampled, and a log that no crowd, crash or full disk can spoil."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.errors import UnreadableFile
from predictive_scoring.keeping.vectors import Kept, ServedVector, TornLine, VectorLog, is_sampled, sample
from predictive_scoring.schema import ModelReference, Score
from predictive_scoring.timeline import DAY, format_instant, parse_instant

NOON = parse_instant("2026-11-10T12:00:00Z")
VECTOR = ServedVector(
    "L-1", NOON - 5, NOON, "stored", "sha256:aa", {"visits": 3.0, "country": "DE", "age": None}
)


def lines_of(folder):
    (file,) = folder.glob("*.jsonl")
    return file.read_bytes().splitlines()


# The sample ---------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 2**33), st.text())
def test_no_share_keeps_nothing_a_whole_share_everything_and_a_larger_one_what_a_smaller_one_kept(
    lead_id, as_of, salt
):
    assert not is_sampled(lead_id, as_of, 0.0, salt)
    assert is_sampled(lead_id, as_of, 1.0, salt)
    kept = [is_sampled(lead_id, as_of, share / 10, salt) for share in range(11)]
    assert kept == sorted(kept)


def test_the_sample_has_about_the_size_that_was_asked_for():
    kept = sum(is_sampled(f"L-{n}", NOON, 0.05, "sha256:aa") for n in range(20_000))
    # Five standard deviations.
    assert abs(kept - 1000) < 5 * math.sqrt(20_000 * 0.05 * 0.95)


def test_every_lead_and_every_model_comes_up_in_the_end():
    leads = [f"L-{n}" for n in range(50)]
    assert all(any(is_sampled(lead, NOON + hour, 0.05, "a") for hour in range(2000)) for lead in leads)
    first, second = ({lead for lead in leads if is_sampled(lead, NOON, 0.5, salt)} for salt in "ab")
    assert first != second


def score(lead_id, **more):
    model = ModelReference(name="small", version="1", bundle="sha256:aa")
    more = {"status": "scored", "horizon_days": 30, **more}
    return Score(lead_id=lead_id, as_of=format_instant(NOON - 5), model=model, **more)


def test_a_vector_holds_the_values_of_a_scored_lead_and_a_lead_without_score_leaves_none():
    values = [
        {"visits": 3.0, "country": "DE"},
        {"visits": 1.0, "country": "FR"},
        {"visits": None, "country": None},
    ]
    scores = [
        score("L-1"),
        score("L-2", status="suppressed", status_reason="opted_out"),
        score("L-3"),
    ]
    found = sample(scores, values, share=1.0, source="body", served_at=NOON)
    assert found == [
        ServedVector("L-1", NOON - 5, NOON, "body", "sha256:aa", {"visits": 3.0, "country": "DE"}),
        ServedVector("L-3", NOON - 5, NOON, "body", "sha256:aa", {"visits": None, "country": None}),
    ]
    assert sample(scores, values, share=0.0, source="body", served_at=NOON) == []


# The log ------------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=20)
VALUES = st.one_of(st.none(), st.floats(allow_nan=False), TEXTS)


@given(
    st.lists(
        st.builds(
            ServedVector,
            lead_id=TEXTS,
            as_of=st.integers(0, 2**33),
            served_at=st.integers(NOON - 20 * DAY, NOON),
            source=st.sampled_from(["stored", "body"]),
            bundle=TEXTS,
            values=st.dictionaries(TEXTS, VALUES, max_size=4),
        ),
        max_size=5,
    )
)
def test_what_was_kept_is_read_again_exactly_day_by_day(tmp_path_factory, vectors):
    log = VectorLog(tmp_path_factory.mktemp("served"))
    ordered = sorted(vectors, key=lambda vector: vector.served_at // DAY)
    assert log.append(ordered) == Kept(kept=len(ordered))
    assert list(log.read()) == ordered
    assert log.count() == len(ordered)


APPEND = """
import sys
from pathlib import Path
from predictive_scoring.keeping.vectors import ServedVector, VectorLog
log = VectorLog(Path(sys.argv[1]))
for n in range(2000):
    if n % 250 == 0:
        # Wait for the other one, so that both do write at once.
        print(flush=True)
        sys.stdin.readline()
    values = {"text": sys.argv[2] * (n % 300), "number": float(n)}
    vector = ServedVector(f"{sys.argv[2]}-{n}", n, 1_790_000_000, "body", "sha256:aa", values)
    assert log.append([vector]).kept == 1
"""


def test_processes_that_append_at_once_leave_whole_lines(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), name], **pipes) for name in "ab"
    ]
    for _ in range(8):
        for writer in writers:
            assert writer.stdout.readline() == "\n"
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    found = list(VectorLog(tmp_path).read())
    for name in "ab":
        own = [vector for vector in found if vector.lead_id.startswith(name)]
        assert [vector.as_of for vector in own] == list(range(2000))
        assert all(vector.values["text"] == name * (vector.as_of % 300) for vector in own)
    order = [vector.lead_id[0] for vector in found]
    assert len(order) == 4000
    assert order != sorted(order)


@given(cut=st.integers(1, 60))
def test_a_torn_last_line_costs_itself_only(tmp_path_factory, cut):
    log = VectorLog(tmp_path_factory.mktemp("served"))
    log.append([VECTOR, replace(VECTOR, lead_id="L-2")])
    (file,) = log.files()
    file.write_bytes(file.read_bytes()[:-cut])
    log.append([replace(VECTOR, lead_id="L-3")])
    first, second, third = log.read()
    assert first == VECTOR
    # Only the line break lost: nothing is.
    torn = TornLine("2026-11-10.jsonl", 2)
    assert second == (replace(VECTOR, lead_id="L-2") if cut == 1 else torn)
    assert third == replace(VECTOR, lead_id="L-3")


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"null", b"\xff\xfe", b'{"lead_id": "L-1"}', b"{" * 5000])
def test_a_line_of_something_else_is_stepped_over(tmp_path, line):
    log = VectorLog(tmp_path)
    log.append([VECTOR])
    (file,) = log.files()
    file.write_bytes(line + b"\n\n" + file.read_bytes())
    assert list(log.read()) == [TornLine("2026-11-10.jsonl", 1), VECTOR]
    assert log.count() == 2


def test_a_day_grows_to_its_size_and_the_next_one_begins_anew(tmp_path):
    VectorLog(tmp_path).append([VECTOR])
    (line,) = lines_of(tmp_path)
    log = VectorLog(tmp_path, day_bytes=3 * len(line) + 10)
    assert log.append([VECTOR] * 5) == Kept(kept=2, full=3)
    assert log.append([VECTOR]) == Kept(full=1)
    assert log.append([replace(VECTOR, served_at=NOON + DAY)]) == Kept(kept=1)
    assert len(list(log.read())) == 4


def test_old_days_go_when_a_new_one_begins_and_other_files_stay(tmp_path):
    log = VectorLog(tmp_path, kept_days=3)
    (tmp_path / "notes.txt").write_text("mine")
    for day in range(6):
        log.append([replace(VECTOR, served_at=NOON + day * DAY)])
    assert [file.stem for file in log.files()] == ["2026-11-13", "2026-11-14", "2026-11-15"]
    assert [file.stem for file in log.files("2026-11-14", "2026-11-14")] == ["2026-11-14"]
    assert (tmp_path / "notes.txt").exists()


def test_a_full_disk_is_told_and_raises_nothing(tmp_path):
    (tmp_path / "2026-11-10.jsonl").symlink_to("/dev/full")
    outcome = VectorLog(tmp_path).append([VECTOR, VECTOR])
    assert (outcome.kept, outcome.lost) == (0, 2)
    assert "space" in outcome.reason


def test_a_folder_that_cannot_be_made_is_told_and_raises_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    outcome = VectorLog(tmp_path / "file" / "served").append([VECTOR])
    assert (outcome.kept, outcome.lost) == (0, 1)
    assert outcome.reason


def test_others_may_not_read_what_is_kept(tmp_path):
    log = VectorLog(tmp_path / "served")
    log.append([VECTOR])
    (file,) = log.files()
    assert file.stat().st_mode & 0o007 == 0
    assert log.folder.stat().st_mode & 0o007 == 0


def test_nothing_kept_is_nothing_read_and_what_cannot_be_read_is_named(tmp_path):
    assert list(VectorLog(tmp_path / "nowhere").read()) == []
    (tmp_path / "2026-11-10.jsonl").mkdir()
    with pytest.raises(UnreadableFile, match=r"2026-11-10\.jsonl"):
        list(VectorLog(tmp_path).read())
