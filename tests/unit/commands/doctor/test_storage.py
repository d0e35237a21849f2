"""What the doctor finds about storage drivers, and about storage that the plugin's deletion of a Workflow may have left."""

from __future__ import annotations

import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.doctor import storage
from dws_on_csm.model import render
from tests.unit.stages.dws.test_storage_drivers import a_driver
from tests.unit.stages.test_undeploy import NOW, a_workflow

FACTS = SimpleNamespace(one_or_none=lambda fact: [{"name": "bb77"}])
CTX: Any = SimpleNamespace(site=SimpleNamespace(access=SimpleNamespace(namespace="default")), host="c1", facts=FACTS)


@pytest.mark.parametrize(
    ("seconds", "driver", "names"),
    [
        (60, {}, []),
        (60, {"status": "Error", "error": "no tape"}, ["driver-error"]),
        (60, {"status": "TransientCondition"}, ["driver-error"]),
        (1000, {}, ["driver-slow"]),
        (1000, {"state": "DataIn"}, []),
        (1000, {"state": "DataIn", "status": "Pending"}, ["driver-slow"]),
        (90000, {"state": "DataIn"}, ["driver-slow"]),
    ],
)
def test_a_driver_that_fails_or_is_slow(seconds: int, driver: Any, names: list[str]) -> None:
    """An error at once; without one after a time, which is long where a driver has begun to copy users' data."""
    state = driver.get("state", "Teardown")
    workflow = a_workflow(state=state, ready=False, since=NOW - seconds, drivers=[a_driver(**driver)])
    found = list(storage.drivers(CTX, [workflow], NOW))
    assert [finding.name for finding in found] == names
    assert all("waits in" in finding.text and "storage driver tape" in finding.fix for finding in found)
    assert not list(storage.drivers(CTX, [{**workflow, "namespace": "other"}], NOW))


def line(ago: float, text: str) -> str:
    """A line of slurmctld's log."""
    return f"[{(datetime.now() - timedelta(seconds=ago)).isoformat(timespec='milliseconds')}] {text}\n"


RACED = "error: lua: burst_buffer.lua: slurm_bb_job_teardown(), workflow=bb{}: wait_for_status_complete: DWS driver error(s):\n"


def left(folder: Path, log: str, journal: str = "exit 0") -> list[storage.Left]:
    """What the script finds in this log, or in a journal that a program prints."""
    (folder / "slurmctld.log").write_text(log)
    (folder / "slurm.conf").write_text(f"SlurmctldLogFile={folder}/slurmctld.log\n" if log else "ClusterName=x\n")
    (folder / "journalctl").write_text(f"#!/bin/sh\n{journal}\n")
    (folder / "journalctl").chmod(0o755)
    settings = {"folder": str(folder), "unit": "slurmctld", "days": "3", "reported": "20", "in_pod": ""}
    script = render.script("lib/as.sh", "lib/slurmctld.sh", "controller/doctor_teardown.sh", **settings)
    done = subprocess.run(["sh", "-euc", f"PATH={folder}:$PATH\n{script}"], capture_output=True, timeout=60, check=True)
    return storage.parse(done.stdout)


def test_a_workflow_gone_without_teardown_is_recognised(tmp_path: Path) -> None:
    """The plugin names no driver of Teardown: it has read the former state's error. What is older is left out."""
    log = line(4 * 86400, RACED.format(8)) + line(60, RACED.format(9)) + line(50, "sched: other")
    log += (
        line(40, RACED.format(10)) + "rabbit: still mounted\n\n" + line(30, "lua: slurm_bb_data_in(), workflow=bb11: x")
    )
    log += line(20, RACED.format(12).replace("job_teardown", "data_in")) + "rabbit: no space\n"
    found = left(tmp_path, log)
    assert [(at["workflow"], at["error"]) for at in found] == [("bb9", ""), ("bb10", "rabbit: still mounted")]
    texts = [finding.text for finding in storage.judge_left(CTX, found)]
    assert "before any storage driver ran its Teardown" in texts[0]
    assert "its Teardown has failed (rabbit: still mounted)" in texts[1]
    assert storage.judge_left(CTX, [{**found[0], "workflow": "bb77"}]) == []  # it still exists


def test_an_error_that_is_none_of_teardowns_is_left_out(tmp_path: Path) -> None:
    """The plugin also deletes a Workflow whose Teardown it could not ask for; where it only lacks the errors, it asks."""
    begin = "error: lua: burst_buffer.lua: slurm_bb_job_teardown(), workflow=bb9: "
    unasked = left(tmp_path, line(9, f"{begin}set_desired_state: timed out"))
    (finding,) = storage.judge_left(CTX, unasked)
    assert "without its Teardown, which it could not ask for (timed out)" in finding.text
    assert "driver that failed" not in finding.fix
    assert left(tmp_path, line(9, f"{begin}unable to check driver errors: x")) == []
    assert left(tmp_path, line(9, begin.replace("error: ", "") + "executing scancel --hurry 9")) == []


def test_an_error_after_which_the_workflow_was_still_there_is_left_out(tmp_path: Path) -> None:
    """Without the API server the plugin's deletion fails, too, and Slurm tries again; a Workflow that is not found was deleted by
    somebody else. Several errors of one Workflow are told once."""
    begin = "error: lua: burst_buffer.lua: slurm_bb_job_teardown(), workflow=bb9"
    silent = line(9, f"{begin}: set_desired_state: TLS handshake timeout")
    assert left(tmp_path, silent + line(8, f"{begin}, delete: TLS handshake timeout")) == []
    assert left(tmp_path, line(9, f'{begin}: set_desired_state: workflows "bb9" not found')) == []
    assert [at["error"] for at in left(tmp_path, silent + silent)] == ["set_desired_state: TLS handshake timeout"]


def test_a_journal_is_searched_too(tmp_path: Path) -> None:
    """Where slurm.conf names no log; each further line of an entry is a message of its own there."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    lines = [
        RACED.format(9).strip(),
        "rabbit: still mounted",
        "slurmctld: " + RACED.format(10).strip(),
        "slurmctld: sched: x",
    ]
    printed = "".join(f"{stamp} c1 slurmctld[7]: {text}\n" for text in lines)
    (tmp_path / "said").write_text(printed)
    found = left(tmp_path, "", f"cat {tmp_path}/said")
    assert [(at["workflow"], at["error"]) for at in found] == [("bb9", "rabbit: still mounted"), ("bb10", "")]


def test_what_others_write_into_the_log_states_nothing(tmp_path: Path) -> None:
    """Only a line of the form that the script prints counts."""
    assert storage.parse(b"left=bb1;reboot 2026-01-31T12:00:00 x\nleft=bb2\nnoise\n") == []
