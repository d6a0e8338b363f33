"""Workers killed in the middle of their work: nothing is lost, nothing comes twice. More kills are trials."""

import random
import secrets
import shutil

from predictive_scoring.keeping.store.opening import open_store
from worker_kills import kept, kill_some, prepared, work_calmly

KILLS = 3


def test_what_killed_workers_leave_comes_out_as_if_nobody_had_been_killed(small_champion, tmp_path):
    calm, killed = (f"sqlite:///{tmp_path / name}.db" for name in ("calm", "killed"))
    prepared(calm, small_champion, 60).close()
    shutil.copy(tmp_path / "calm.db", tmp_path / "killed.db")
    work_calmly(calm, small_champion.store.folder)
    seed = secrets.randbits(32)
    died = kill_some(killed, small_champion.store.folder, random.Random(seed), KILLS, limit=3, longest=0.4)
    assert died, f"seed {seed}: every worker was quicker"
    answers = []
    for url in (calm, killed):
        store = open_store(url)
        answers.append(kept(store))
        store.close()
    assert answers[0] == answers[1], f"seed {seed}"
    assert sum(answers[0]["scores"].values()) == 120
    assert set(answers[0]["messages"].values()) == {1}
    assert answers[0]["jobs"][0][1:] == ("done", 61, 61, 1)
