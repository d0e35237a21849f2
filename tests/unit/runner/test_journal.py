"""The journals of runs: how many are kept, and which are never removed."""

import json
from pathlib import Path

from dws_on_csm.model.events import Done, Opened, Outcome
from dws_on_csm.model.stage_names import PASSING, PROOFS
from dws_on_csm.runner.journal import Journal, prune
from dws_on_csm.stages import verify, verify_cancel
from dws_on_csm.stages.dws import open_dws
from dws_on_csm.stages.slurm import close_dws


def _run(folder: Path, name: str, task: str = "install", stage: str = "slurm", outcome: Outcome = "changed") -> None:
    """A run that has ended, with one step of this stage."""
    journal = Journal(name, 2, folder)
    journal(Opened(name, task, {}, {}, 0.0))
    journal(Done("one", stage, "step", outcome, 0.0, 0.0))
    journal.close()


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_are_kept_and_whatever_is_at_work(tmp_path: Path) -> None:
    """A run that began before many others and is still running keeps its folder."""
    long = Journal("1", 2, tmp_path)
    long(Opened("1", "install", {}, {}, 0.0))
    for number in "2345":
        _run(tmp_path, number)
    prune(2, tmp_path)
    assert _left(tmp_path) == ["1", "4", "5"]
    long(Done("one", "slurm", "step", "changed", 0.0, 0.0))
    long.close()
    prune(2, tmp_path)
    assert _left(tmp_path) == ["4", "5"]


def test_runs_that_changed_nothing_push_none_out_that_did(tmp_path: Path) -> None:
    """However many plans, proofs and refused runs follow an install, its journal stays; of those the newest stay."""
    _run(tmp_path, "1")
    for number in range(2, 6):
        _run(tmp_path, f"{number}a", "verify", "verify")
        _run(tmp_path, f"{number}b", "plan", "slurm", "failed")
        _run(tmp_path, f"{number}c", "install", "preflight", "failed")
        _run(tmp_path, f"{number}d", "install", "slurm", "ok")
    prune(2, tmp_path)
    assert _left(tmp_path) == ["1", "5c", "5d"]


def test_the_runs_of_a_site_push_none_of_another_out(tmp_path: Path) -> None:
    """Several sites share a checkout: each keeps as many runs as its site file says, of both kinds."""
    for number in range(1, 6):
        for site in ("a", "b"):
            for kind, outcome in (("did", "changed"), ("not", "ok")):
                journal = Journal(f"{number}{site}-{kind}", 9, tmp_path, site)
                journal(Opened(journal.run, "install", {}, {}, 0.0, site))
                journal(Done("one", "slurm", "step", outcome, 0.0, 0.0))  # type: ignore[arg-type]
                journal.close()
    Journal("6a", 2, tmp_path, "a").close()
    left = [name for name in _left(tmp_path) if "a" in name]
    assert left == ["4a-did", "4a-not", "5a-did", "5a-not"]
    assert len([name for name in _left(tmp_path) if "b" in name]) == 10
    prune(1, tmp_path, "b")
    assert [name for name in _left(tmp_path) if "b" in name] == ["5b-did", "5b-not"]


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    """A run that ended while it connected leaves no folder: there is nothing to read."""
    journal = Journal("1", 2, tmp_path)
    journal(Opened("1", "plan", {}, {}, 0.0))
    journal.close()
    assert _left(tmp_path) == []


def test_an_incomplete_journal_does_not_prevent_pruning(tmp_path: Path) -> None:
    """An incomplete last line does not matter: the run is judged by the complete lines."""
    for number in "123":
        _run(tmp_path, number)
    with (tmp_path / "3" / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps({"event": "done", "outcome": "changed"})[:-3])
    prune(1, tmp_path)
    assert _left(tmp_path) == ["3"]


def test_records_and_stages_agree_on_what_lasts() -> None:
    """Records name stages; those that are known to change nothing lasting are the present ones."""
    proofs = (verify.STAGE, verify_cancel.STAGE)
    assert tuple(stage.name for stage in proofs) == PROOFS and all(stage.proves for stage in proofs)
    assert (close_dws.NAME, open_dws.STAGE.name) == PASSING
