"""A bundle: exact round trip, identity by content, and nothing damaged ever reaches LightGBM."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predictive_scoring.data.dataset import build_dataset
from predictive_scoring.errors import CorruptBundle, UnknownModel, UnreadableFile
from predictive_scoring.keeping.bundle import (
    MANIFEST,
    ScoringModel,
    identity_of,
    read_bundle,
    try_bundle,
    write_bundle,
)
from predictive_scoring.keeping.golden import FILE as GOLDEN
from predictive_scoring.keeping.golden import ROWS, check_golden
from predictive_scoring.keeping.pyfunc import _load_pyfunc
from predictive_scoring.model.reference import synthetic_frame
from predictive_scoring.training import bundle_files, fit_candidate


@pytest.fixture(scope="module")
def bundle(small_champion):
    return read_bundle(small_champion.store.path(small_champion.store.champion().bundle))


@pytest.fixture(scope="module")
def dataset(small_champion, bundle):
    return build_dataset(small_champion.tables, bundle.scoring_model().views)


@pytest.fixture
def damaged(bundle, tmp_path):
    """A copy of the bundle's folder for a test to damage."""
    for name in (*bundle.files, MANIFEST):
        (tmp_path / name).write_bytes((bundle.path / name).read_bytes())
    return tmp_path


# Round trip -------------------------------------------------------------------------------------------------


def test_a_model_read_back_gives_every_score_to_the_last_bit(bundle, dataset):
    first = bundle.scoring_model()
    files = first.to_files()
    second = ScoringModel.from_files(files)
    assert second.to_files() == files == {name: bundle.files[name] for name in files}
    for frame in (dataset.frame, synthetic_frame(first.reference, 500, 3)):
        assert np.array_equal(first.model.logit(frame), second.model.logit(frame))
        for one, other in zip(
            first.model.contributions(frame), second.model.contributions(frame), strict=True
        ):
            assert np.array_equal(one, other)
        for one, other in zip(first.model.interval(frame), second.model.interval(frame), strict=True):
            assert np.array_equal(one, other)


def test_what_decides_a_score_besides_the_model_comes_back_equal(bundle, small_champion):
    scoring = bundle.scoring_model()
    assert scoring.project == small_champion.loaded.project
    again = ScoringModel.from_files(scoring.to_files())
    for part in ("project", "views", "grading", "reference", "stages", "playbook", "metrics"):
        assert getattr(again, part) == getattr(scoring, part), part
    assert again.fingerprint == bundle.manifest["features"]


def test_the_mlflow_flavour_predicts_what_the_scorer_scores(bundle, dataset):
    scoring = bundle.scoring_model()
    frame = dataset.frame.iloc[:50]
    predicted = _load_pyfunc(str(bundle.path)).predict(frame)
    assert list(predicted.columns) == ["probability", "log_odds", "score"]
    assert np.array_equal(predicted["probability"], scoring.model.probability(frame))
    assert predicted["score"].tolist() == scoring.grading.scores(scoring.model.logit(frame)).tolist()


# Identity ---------------------------------------------------------------------------------------------------


def test_equal_content_has_equal_identity_wherever_and_by_whomever_it_is_written(bundle, tmp_path):
    one = write_bundle(tmp_path / "one", bundle.files, {"run_id": "a"})
    other = write_bundle(tmp_path / "other", dict(reversed(bundle.files.items())), {"run_id": "b"})
    assert one.identity == other.identity == bundle.identity
    assert one.path.name == bundle.path.name == bundle.identity.removeprefix("sha256:")[:16]


def test_training_again_on_the_same_tables_gives_the_same_bundle(bundle, small_champion):
    candidate = fit_candidate(small_champion.loaded, small_champion.tables)
    again = bundle_files(candidate)
    assert {name for name in again if again[name] != bundle.files[name]} == set()
    assert f"sha256:{identity_of(again)}" == bundle.identity
    assert candidate.dataset.data_hash == bundle.manifest["data_hash"]


def test_writing_the_same_content_again_changes_nothing(bundle, tmp_path):
    first = write_bundle(tmp_path, bundle.files, {"run_id": "a"})
    before = {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()}
    second = write_bundle(tmp_path, bundle.files, {"run_id": "b"})
    assert second.manifest["run_id"] == "a"
    assert {path.name: path.stat().st_mtime_ns for path in second.path.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]


@settings(max_examples=50)
@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4),
    st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4),
)
def test_different_files_never_share_an_identity(one, other):
    assert (identity_of(one) == identity_of(other)) == (one == other)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused_by_the_name_of_its_file(bundle, damaged, data):
    name = data.draw(st.sampled_from(sorted(bundle.files)))
    original = (bundle.path / name).read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[place] ^= data.draw(st.integers(1, 255))
    (damaged / name).write_bytes(bytes(changed))
    try:
        with pytest.raises(CorruptBundle) as refused:
            read_bundle(damaged)
        assert name in refused.value.what
        assert refused.value.exit_code == 4
    finally:
        (damaged / name).write_bytes(original)


def test_a_missing_file_is_refused_by_its_name(bundle, damaged):
    for name in bundle.files:
        (damaged / name).rename(damaged / "away")
        with pytest.raises(CorruptBundle, match=name.replace(".", r"\.")):
            read_bundle(damaged)
        (damaged / "away").rename(damaged / name)
    assert read_bundle(damaged).identity == bundle.identity


def test_files_that_were_never_in_the_manifest_are_not_read(bundle, damaged):
    (damaged / "model.pkl").write_bytes(b"\x80\x04.")
    assert read_bundle(damaged).files.keys() == bundle.files.keys()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda m: {**m, "format": 2}, CorruptBundle, "format 2"),
        (lambda m: {**m, "bundle": "0" * 64}, CorruptBundle, "own hash"),
        (
            lambda m: {**m, "files": {k: v for k, v in m["files"].items() if k != "model.txt"}},
            CorruptBundle,
            "own hash",
        ),
        (lambda m: {**m, "verdict": "validated?"}, CorruptBundle, "own hash"),
        (lambda m: [m], CorruptBundle, "manifest"),
        (lambda m: {**m, "files": ["model.txt"]}, CorruptBundle, "manifest"),
        (lambda m: None, CorruptBundle, "manifest"),
    ],
    ids=[
        "another format",
        "wrong hash",
        "a file left out",
        "another verdict",
        "a list",
        "files as a list",
        "null",
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(bundle, damaged, change, error, says):
    (damaged / MANIFEST).write_text(json.dumps(change(dict(bundle.manifest))), "utf-8")
    with pytest.raises(error, match=says):
        read_bundle(damaged)


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"], ids=["gone", "half", "not text"])
def test_a_folder_without_a_readable_manifest_is_no_bundle(damaged, content):
    (damaged / MANIFEST).unlink()
    if content is not None:
        (damaged / MANIFEST).write_bytes(content)
    with pytest.raises(UnreadableFile, match="manifest"):
        read_bundle(damaged)


def test_a_bundle_that_is_not_there_is_an_unknown_model(small_champion):
    for name in ("sha256:" + "0" * 64, "", "abc", "../../../etc/passwd"):
        with pytest.raises(UnknownModel):
            small_champion.store.path(name)


# No pickle, no person ---------------------------------------------------------------------------------------

PICKLE_STARTS = (b"\x80", b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"x\x9c", b"(dp", b"ccopy_reg")


def test_a_bundle_is_readable_text_and_no_pickle(bundle):
    found = [path for path in bundle.path.rglob("*") if path.is_file()]
    assert {path.name for path in found} == {*bundle.files, MANIFEST}
    for path in found:
        assert path.suffix in (".json", ".jsonl", ".txt", ".md"), path
        content = path.read_bytes()
        assert not content.startswith(PICKLE_STARTS), path
        content.decode("utf-8")
        if path.suffix == ".json":
            json.loads(content)


def test_no_file_of_a_bundle_holds_the_id_of_a_lead(bundle, small_champion):
    text = "\n".join(bundle.files.values())
    assert not [lead for lead in small_champion.tables.leads["lead_id"] if lead in text]


def test_golden_rows_hold_no_real_leads_row(bundle, dataset):
    golden = [json.loads(line)["features"] for line in bundle.files[GOLDEN].splitlines()]
    assert len(golden) == ROWS
    names = list(dataset.frame.columns)

    def plain(value):
        return None if pd.isna(value) else value

    real = {tuple(plain(v) for v in row) for row in dataset.frame.itertuples(index=False, name=None)}
    assert len(real) > ROWS
    for row in golden:
        assert sorted(row) == sorted(names)
        assert tuple(row[name] for name in names) not in real


# Trial load -------------------------------------------------------------------------------------------------


def test_a_sound_bundle_passes_its_trial_load(bundle):
    try_bundle(bundle.path)
    assert check_golden(bundle.scoring_model(), bundle.files[GOLDEN], "here") == ROWS


def test_a_bundle_that_scores_a_golden_row_otherwise_is_refused(bundle, tmp_path):
    lines = bundle.files[GOLDEN].splitlines()
    wrong = json.loads(lines[4])
    wrong["logit"] += 1e-6
    lines[4] = json.dumps(wrong, sort_keys=True)
    resigned = write_bundle(tmp_path, {**bundle.files, GOLDEN: "\n".join(lines) + "\n"}, {})
    with pytest.raises(CorruptBundle, match="golden row 5") as refused:
        try_bundle(resigned.path)
    assert "exit 4" in refused.value.what


def test_a_truncated_model_text_is_refused_before_lightgbm_sees_it(bundle, damaged):
    text = bundle.files["model.txt"]
    assert text.startswith("tree"), "the small champion has no trees, so this would prove nothing"
    (damaged / "model.txt").write_text(text[: len(text) // 2], "utf-8")
    with pytest.raises(CorruptBundle, match=r"model\.txt"):
        read_bundle(damaged)


def test_a_resigned_truncated_model_text_kills_the_child_and_not_us(bundle, tmp_path):
    text = bundle.files["model.txt"]
    cut = text.index("leaf_value=") + 40
    resigned = write_bundle(tmp_path, {**bundle.files, "model.txt": text[:cut]}, {})
    with pytest.raises(CorruptBundle, match="trial load") as refused:
        try_bundle(resigned.path)
    # A signal, not an exit: LightGBM takes its process down.
    assert "exit -" in refused.value.what
    assert int(refused.value.what.split("exit ")[1].split(")")[0]) in (-signal.SIGSEGV, -signal.SIGABRT)


def test_a_trial_load_that_hangs_is_given_up(bundle):
    with pytest.raises(CorruptBundle, match="did not end within"):
        try_bundle(bundle.path, timeout=0.01)


# Atomic write -----------------------------------------------------------------------------------------------

WRITER = textwrap.dedent(
    """
    import os, resource, signal, sys
    from pathlib import Path
    from predictive_scoring.errors import PredictiveScoringError
    from predictive_scoring.keeping.bundle import write_bundle

    into, fault = Path(sys.argv[1]), sys.argv[2]
    files = {f"part-{n}.txt": "x" * 50_000 for n in range(4)} | {"late.txt": "y" * 200_000}
    if fault == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    if fault == "killed":
        real = os.fsync
        def fsync(handle, seen=[]):
            seen.append(handle)
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            real(handle)
        os.fsync = fsync
    try:
        print(write_bundle(into, files, {}).path.name)
    except PredictiveScoringError as refused:
        print(refused.name, refused.what)
        raise SystemExit(1)
    """
)


def written(into, fault):
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(into), fault], capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits and signals")
def test_a_write_that_the_disk_refuses_leaves_nothing_behind(tmp_path):
    # The system itself refuses the last file: its size is above the process's limit.
    answer = written(tmp_path, "full")
    assert answer.returncode == 1, answer.stderr
    assert answer.stdout.startswith("UnreadableFile cannot write the bundle: File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits and signals")
def test_a_killed_write_leaves_no_bundle_and_the_next_one_succeeds(tmp_path):
    assert written(tmp_path, "killed").returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir()]
    assert all(name.startswith(".draft-") for name in left)
    assert len(left) == 1
    again = write_bundle(tmp_path, {"late.txt": "y"}, {})
    assert read_bundle(again.path).files == {"late.txt": "y"}
