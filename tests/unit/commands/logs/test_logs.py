"""Log entries are split, dated and selected; the script that reads slurmctld's log runs in the real sh."""

import gzip
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.commands.doctor import support_archive
from dws_on_csm.commands.logs.command import nothing_found, request
from dws_on_csm.commands.logs.entries import (
    Clock,
    Entry,
    job_pattern,
    parse_zone,
    pod_log_entries,
    slurm_log_entries,
    slurmctld_pod_entries,
    start_time,
)
from dws_on_csm.commands.logs.host_log import HostLog, clock_skew
from dws_on_csm.commands.logs.pod_log import clock_ahead
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render

pytestmark = pytest.mark.slow

UTC = UTC
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
YAML = ["[2026-01-31T12:00:00.250] lua: apiVersion: v1alpha2", "kind: Workflow", "metadata:", "  name: bb12", ""]


def entries(found: Iterator[Entry | None]) -> list[tuple[float, str]]:
    """Seconds after noon and text of each."""
    return [(round(entry.at - NOON, 3), entry.text) for entry in found if entry]


def test_lines_without_a_time_belong_to_the_entry_before() -> None:
    """The plugin writes a whole Workflow over several lines: they stay together, and the next entry is its own."""
    lines = ["of an entry that was cut off", *YAML, "[2026-01-31T12:00:01] slurm_bb_setup(). job id:12"]
    assert entries(slurm_log_entries(lines, "slurmctl1", Clock())) == [
        (0.25, "lua: apiVersion: v1alpha2\nkind: Workflow\nmetadata:\n  name: bb12\n"),
        (1.0, "slurm_bb_setup(). job id:12"),
    ]


@pytest.mark.parametrize("stamp", ["2026-99-99T00:00:00", "2026-01-31Tnoon", "2026-01-31T12:00:00+99:99"])
def test_a_line_that_only_looks_dated_belongs_to_the_entry_before(stamp: str) -> None:
    """Anybody can write any text to a log: text that only looks like a date ends no entry, of Slurm or of a pod."""
    slurm = [YAML[0], f"[{stamp}] lua: boo", "[2026-01-31T12:00:01] lua: next"]
    assert [text for _, text in entries(slurm_log_entries(slurm, "c1", Clock()))] == [
        f"lua: apiVersion: v1alpha2\n[{stamp}] lua: boo",
        "lua: next",
    ]
    pod = ["2026-01-31T12:00:00Z first", f"{stamp} boo", "2026-01-31T12:00:01Z next"]
    assert [text for _, text in entries(pod_log_entries(pod, "manager", Clock()))] == ["first\nboo", "next"]
    said = ["2026-01-31T12:00:00Z slurmctld: lua: first", f"{stamp} slurmctld: lua: boo"]
    assert [text for _, text in entries(slurmctld_pod_entries(said, "pod", Clock()))] == [
        "lua: first\nslurmctld: lua: boo"
    ]


def test_an_entry_has_an_end() -> None:
    """Lines without a time may never end: an entry's size is bounded, and nothing is lost."""
    lines = [YAML[0], *["A" * 60_000] * 50, "[2026-01-31T12:00:01] lua: next"]
    found = entries(slurm_log_entries(lines, "c1", Clock()))
    assert max(len(text) for _, text in found) < 200_000 and found[-1] == (1.0, "lua: next")
    assert sum(text.count("A") for _, text in found) == 3_000_000


def test_an_archive_has_room_for_the_newest_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of all entries together is bounded, however long each is."""
    monkeypatch.setattr(support_archive, "CHARACTERS", 1000)
    kept = support_archive.newest_entries(Entry(float(at), "c1", "A" * 100) for at in range(500))
    assert [entry.at for entry in kept] == [float(at) for at in range(490, 500)]


def test_an_entry_is_shown_when_nothing_more_comes() -> None:
    """While a log is followed, a pause ends an entry; its later lines get the same time."""
    lines = [*YAML[:2], None, "late", None]
    assert entries(slurm_log_entries(lines, "slurmctl1", Clock())) == [
        (0.25, "lua: apiVersion: v1alpha2\nkind: Workflow"),
        (0.25, "late"),
    ]


@pytest.mark.parametrize(
    ("stamp", "clock", "seconds"),
    [
        ("2026-01-31T12:00:00.500", Clock(), 0.5),
        ("2026-01-31T13:30:00", Clock(zone=parse_zone("+0130")), 0),
        ("2026-01-31T05:00:00", Clock(zone=parse_zone("-0700")), 0),
        ("2026-01-31T13:00:00.250+01:00", Clock(zone=parse_zone("-0700")), 0.25),
        ("2026-01-31T12:00:00.391228052Z", Clock(), 0.391),
        ("2026-01-31T12:01:30", Clock(ahead=90), 0),
        ("2026-01-31T11:59:00", Clock(ahead=-60), 0),
    ],
)
def test_all_times_are_shown_by_one_clock(stamp: str, clock: Clock, seconds: float) -> None:
    """A time stamp has its own zone, or its host's, and is corrected by the host's clock difference."""
    assert clock.time(stamp) - NOON == pytest.approx(seconds, abs=0.001)


def test_pods_tell_their_time_once() -> None:
    """DWS's and Kubernetes' own time stamps are removed: the API's is finer. Stack traces stay with their entries."""
    lines = [
        '2026-01-31T12:00:00.100000000Z 2026-01-31T12:00:00Z\tINFO\tcontrollers.Workflow\ttext\t{"name":"bb12"}',
        "2026-01-31T12:00:00.200000000Z I0131 12:00:00.200000       1 leaderelection.go:257] attempting",
        "2026-01-31T12:00:01.000000000Z panic: runtime error",
        "2026-01-31T12:00:01.000010000Z ",
        "2026-01-31T12:00:01.000020000Z goroutine 1 [running]:",
        "2026-01-31T12:00:02.000000000Z not dated, and by itself",
    ]
    assert entries(pod_log_entries(lines, "manager@ncn-w001", Clock())) == [
        (0.1, 'INFO  controllers.Workflow  text  {"name":"bb12"}'),
        (0.2, "leaderelection.go:257] attempting"),
        (1.0, "panic: runtime error\n\ngoroutine 1 [running]:"),
        (2.0, "not dated, and by itself"),
    ]


def test_slurmctlds_container_in_every_version() -> None:
    """Up to 24.11 a line begins with the program's name, from 25.05 on with its time; a Workflow stays one entry."""
    lines = [
        "2026-01-31T12:00:00.100000000Z slurmctld: lua: apiVersion: v1alpha2",
        "2026-01-31T12:00:00.100010000Z kind: Workflow",
        "2026-01-31T12:00:00.200000000Z slurmctld: sched: no",
        "2026-01-31T12:00:01.000000000Z [2026-01-31T12:00:00.999] lua: apiVersion: v1alpha2",
        "2026-01-31T12:00:01.000010000Z kind: Workflow",
        "2026-01-31T12:00:02.000000000Z [2026-01-31T12:00:01.999] sched: no",
        "2026-01-31T12:00:03.000000000Z [2026-01-31T12:00:02.999] error: Teardown for JobId=1 failed. status: -1",
        "2026-01-31T12:00:04.000000000Z [Jan 31 12:00:03.99] burst_buffer/lua: bb_p_load_state",
        "2026-01-31T12:00:05.000000000Z slurmscriptd: error: _run_script: JobId=1 slurm_bb_job_teardown",
    ]
    assert entries(slurmctld_pod_entries(lines, "slurmctld", Clock())) == [
        (0.1, "lua: apiVersion: v1alpha2\nkind: Workflow"),
        (1.0, "lua: apiVersion: v1alpha2\nkind: Workflow"),
        (3.0, "error: Teardown for JobId=1 failed. status: -1"),
        (4.0, "burst_buffer/lua: bb_p_load_state"),
        (5.0, "slurmscriptd: error: _run_script: JobId=1 slurm_bb_job_teardown"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("burst_buffer.lua: slurm_bb_setup(). job id:12, uid:1500", True),
        ("slurmscriptd: error: _run_script: JobId=12 slurm_bb_job_teardown exit status 0:9", True),
        ("lua: apiVersion\nkind: Workflow\nmetadata:\n  name: bb12\n", True),
        ('INFO  controllers.Workflow  text  {"Workflow": {"name":"bb12","namespace":"default"}}', True),
        ("slurm_bb_job_process(). job_id=12", True),
        ("slurm_bb_setup(). job id:123, uid:1500", False),
        ("slurm_bb_setup(). job id:1, uid:12", False),
        ('  jobID: "12"\n', True),
        ("name: bb120", False),
        ("name: abb12", False),
    ],
)
def test_a_jobs_entries_are_those_that_name_it(text: str, found: bool) -> None:
    """By its number as Slurm and the plugin write it, or by its Workflow's name; not by a part of another number."""
    assert bool(job_pattern("12").search(text)) is found


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_so_long_ago(text: str, seconds: int) -> None:
    """A number and a unit are counted back from now."""
    assert start_time(text, 100_000.0) == 100_000.0 - seconds


@pytest.mark.parametrize(
    ("host", "job", "said"),
    [
        ("slurmctl", "12_3", "squeue -o %A"),
        ("slurmctl", "bb12", "expected a job number"),
        ("nid000001", None, "slurmctl, ncn"),
    ],
)
def test_impossible_requests_are_reported(host: str, job: str | None, said: str) -> None:
    """A job has a number, and nodes have no such logs: an empty answer would look like an empty log."""
    with pytest.raises(ValueError, match=said):
        request(replace(load(DEFAULT), limit=frozenset({host})), job, "10m")


def test_a_silent_source_is_reported() -> None:
    """The note says since when and about which job, and how to stop following."""
    assert nothing_found(NOON, "12", follow=False).startswith("no log entries about job 12 since 2026-01-31 ")
    assert nothing_found(NOON, None, follow=True).endswith("until Ctrl-C")


def test_a_local_time_and_invalid_times() -> None:
    """A time is accepted as it is; for other text the error says what is expected."""
    assert start_time("2026-01-31T12:00:00+00:00", 0.0) == NOON
    with pytest.raises(ValueError, match="10m"):
        start_time("yesterday", 0.0)


@pytest.mark.parametrize(
    ("renewed", "ahead"),
    [("12:00:00.400000", 0.0), ("12:00:01.900000", 0.0), ("12:01:30.500000", 90.0), ("11:59:30.500000", -30.0)],
)
def test_a_nodes_clock_is_read_from_its_lease(renewed: str, ahead: float) -> None:
    """A kubelet writes its own time, the API server its own in whole seconds: differences below two seconds are ignored."""
    fields = [
        {"manager": "kubelet", "time": "2026-01-31T12:00:00Z"},
        {"manager": "other", "time": "2026-01-31T13:00:00Z"},
    ]
    lease = {"metadata": {"managedFields": fields}, "spec": {"renewTime": f"2026-01-31T{renewed}Z"}}
    assert clock_ahead(lease) == ahead


@pytest.mark.parametrize(
    ("told", "ahead"), [(100.1, 0.0), (99.6, 0.0), (104.9, 0.0), (105.4, 0.0), (3704.9, 3599.9), (69.9, -35.1)]
)
def test_a_clock_is_not_called_wrong_for_an_answer_that_took_long(told: float, ahead: float) -> None:
    """A time from a call of five seconds is right if it is right for any moment of them."""
    assert clock_skew(told, 100.0, 105.0) == pytest.approx(ahead)


@pytest.mark.parametrize("told", ["nan", "inf", "-inf", "1e300", "0"])
def test_a_clock_that_tells_no_time(told: str) -> None:
    """A number that is no time of these years is rejected before it dates entries."""
    with pytest.raises(ValueError, match="no time"):
        clock_skew(float(told), NOON, NOON + 1)


# --- the script


def log_line(ago: float, text: str) -> str:
    at = datetime.now() - timedelta(seconds=ago)
    return f"[{at.isoformat(timespec='milliseconds')}] {text}\n"


def command(folder: Path, log: str, back: float, follow: str = "") -> list[str]:
    (folder / "slurm.conf").write_text(f"ClusterName=lab\nslurmctldlogfile = {log}   # here\n")
    settings = {
        "folder": str(folder),
        "unit": "slurmctld",
        "mark": "--mark",
        "follow": follow,
        "past": "60",
        "in_pod": "",
    }
    return [
        "sh",
        "-c",
        render.script(
            "lib/as.sh",
            "lib/slurmctld.sh",
            "controller/logs.sh",
            since=str(int(time.time() - back)),
            **settings,
        ),
    ]


def read(folder: Path, log: str, back: float = 600) -> tuple[list[str], str]:
    """The script's output, and its line when it is ready."""
    done = subprocess.run(
        command(folder, log, back), input="go\n", capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.splitlines(), done.stderr


def test_the_plugins_lines_are_picked_with_what_goes_with_them(tmp_path: Path) -> None:
    """The burst buffer's entries with their continuation lines, and slurmscriptd's; none that is older; then the mark."""
    log = tmp_path / "slurmctld.log"
    log.write_text(
        log_line(5000, "lua: too old")
        + "  with a line of its own\n"
        + log_line(60, "sched: Allocate JobId=1")
        + log_line(50, "lua: apiVersion: v1alpha2")
        + "kind: Workflow\n\n"
        + log_line(40, "_job_complete: JobId=1 done, evaluated")
        + "not wanted either\n"
        + log_line(30, "slurmscriptd: error: _run_script: JobId=1 slurm_bb_job_teardown exit status 0:9")
        + log_line(20, "error: Teardown for JobId=1 failed. status: -1")
        + log_line(10, "burst_buffer/lua: bb_p_load_state")
    )
    lines, said = read(tmp_path, str(log))
    assert [line.partition("] ")[2] or line for line in lines] == [
        "lua: apiVersion: v1alpha2",
        "kind: Workflow",
        "",
        "slurmscriptd: error: _run_script: JobId=1 slurm_bb_job_teardown exit status 0:9",
        "error: Teardown for JobId=1 failed. status: -1",
        "burst_buffer/lua: bb_p_load_state",
        "--mark",
    ]
    word, now, offset, where = said.split(maxsplit=3)
    assert (word, where.strip()) == ("ready", str(log))
    assert abs(float(now) - time.time()) < 30
    assert len(offset) == 5


def test_a_log_that_was_rotated_is_read_too(tmp_path: Path) -> None:
    """Logs rotated since the requested time come first, compressed or not; older ones are not opened."""
    log = tmp_path / "slurmctld.log"
    log.write_text(log_line(10, "lua: newest"))
    (tmp_path / "slurmctld.log.1").write_text(log_line(200, "lua: middle"))
    with gzip.open(tmp_path / "slurmctld.log-20260130.gz", "wt") as packed:
        packed.write(log_line(300, "lua: oldest"))
    (tmp_path / "slurmctld.log.9").write_text(log_line(300, "lua: forgotten"))
    now = time.time()
    for name, ago in (("slurmctld.log-20260130.gz", 250), ("slurmctld.log.1", 150), ("slurmctld.log.9", 5000)):
        os.utime(tmp_path / name, (now - ago, now - ago))
    lines, _ = read(tmp_path, str(log))
    assert [line.rpartition(" ")[2] for line in lines] == ["oldest", "middle", "newest", "--mark"]


def test_a_packed_log_that_unpacks_to_too_much_is_cut_with_a_word(tmp_path: Path) -> None:
    """The output has a limit: a small file may unpack to any size."""
    log = tmp_path / "slurmctld.log"
    log.write_text(log_line(10, "lua: newest"))
    with gzip.open(tmp_path / "slurmctld.log.1.gz", "wt") as packed:
        packed.write(log_line(300, "lua: oldest") + ("A" * 999 + "\n") * 5000)
    words = command(tmp_path, str(log), 600)
    words[-1] = words[-1].replace("room=100000000", "room=1000000")
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout) < 1_100_000
    lines = done.stdout.splitlines()
    assert lines[0].endswith("lua: oldest") and lines[-2:] == ["--mark cut", "--mark"]


BROKEN = "#!/bin/sh\nexit 1\n"


@pytest.mark.parametrize("what", ["a rotated log", "find", "gzip"])
def test_a_part_of_the_log_that_can_not_be_read_is_noticed(tmp_path: Path, what: str) -> None:
    """A read that fails is no empty log: what was read is shown, and that it is not all."""
    log = tmp_path / "slurmctld.log"
    log.write_text(log_line(10, "lua: newest"))
    with gzip.open(tmp_path / "slurmctld.log.1.gz", "wt") as packed:
        packed.write(log_line(300, "lua: oldest"))
    if what == "a rotated log":
        packed_bytes = (tmp_path / "slurmctld.log.1.gz").read_bytes()
        (tmp_path / "slurmctld.log.1.gz").write_bytes(packed_bytes[:-12])
    else:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / what).write_text(BROKEN)
        (tmp_path / "bin" / what).chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        command(tmp_path, str(log), 600),
        input="go\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=path,
    )
    lines = done.stdout.splitlines()
    assert "--mark unread" in lines and lines[-1] == "--mark"
    assert any(line.endswith("newest") for line in lines)


def test_a_journal_that_can_not_be_read_is_noticed(tmp_path: Path) -> None:
    """It is not one without entries."""
    (tmp_path / "journalctl").write_text(BROKEN)
    (tmp_path / "journalctl").chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = command(tmp_path, "none", 600)
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=30, check=True, env=path)
    assert done.stdout.splitlines() == ["--mark unread", "--mark"]


def test_a_slurm_conf_that_can_not_be_read_names_no_log(tmp_path: Path) -> None:
    """It may name one: the journal, which would have nothing then, is not read in its place."""
    words = command(tmp_path, "none", 600)
    (tmp_path / "dd").write_text('#!/bin/sh\n/usr/bin/dd "$@" | head -c 7\nexit 1\n')
    (tmp_path / "dd").chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=30, check=True, env=path)
    assert "nowhere: " in done.stderr and "cannot be read to its end" in done.stderr


def test_lines_without_a_date_are_noticed(tmp_path: Path) -> None:
    """Another LogTimeFormat cannot be ordered by time, and that is reported."""
    log = tmp_path / "slurmctld.log"
    log.write_text("[Jan 31 12:00:00.1 12345 5] lua: something\n")
    assert read(tmp_path, str(log))[0] == ["--mark undated", "--mark"]


def read_from_journal(tmp_path: Path, said: str) -> subprocess.CompletedProcess[str]:
    """The look at slurmctld's log on a host without a log file, whose journal has `said` for slurmctld."""
    (tmp_path / "said").write_text(said)
    journal = tmp_path / "journalctl"
    journal.write_text(f'#!/bin/sh\n[ "$1 $2" = "--unit slurmctld" ] && cat {tmp_path}/said\n')
    journal.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = command(tmp_path, "none", 600)
    return subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=30, check=True, env=path)


def test_without_a_file_the_journal_is_read(tmp_path: Path) -> None:
    """A line has its time, then host and program; a message's further lines are indented, and stay with it."""
    at = datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S.123456%z")
    said = (
        f"{at} slurmctl1 slurmctld[7]: lua: apiVersion\n       kind: Workflow\n{at} slurmctl1 slurmctld[7]: sched: no\n"
    )
    done = read_from_journal(tmp_path, said)
    assert done.stdout.splitlines() == [f"[{at}] lua: apiVersion", "       kind: Workflow", "--mark"]
    assert done.stderr.rstrip().endswith("the journal of slurmctld")
    (entry,) = [one for one in slurm_log_entries(done.stdout.splitlines()[:-1], "slurmctl1", Clock()) if one]
    assert abs(entry.at - time.time()) < 60


@pytest.mark.parametrize("begin", ["slurmctld: ", "[2026-01-31T12:00:00.999] "], ids=["24.11", "25.05"])
def test_in_the_journal_an_entry_of_standard_error_has_a_message_for_each_line(tmp_path: Path, begin: str) -> None:
    """A slurmctld in the foreground writes to its standard error: a Workflow's lines stay together, no other program's do."""
    at = datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S.123456%z")
    head = f"{at} slurmctl1 slurmctld[7]: "
    said = [
        *(f"{head}{begin}lua: apiVersion", f"{head}kind: Workflow", f"{at} slurmctl1 systemd[1]: Reloading slurmctld"),
        *(f"{head}  name: bb12", f"{head}{begin}sched: no", f"{head}further"),
    ]
    done = read_from_journal(tmp_path, "\n".join(said) + "\n")
    assert done.stdout.splitlines() == [f"[{at}] lua: apiVersion", "kind: Workflow", "  name: bb12", "--mark"]


def test_the_log_of_a_container_is_not_read_from_inside(tmp_path: Path) -> None:
    """A pod's image may have journalctl: what slurmctld says in the foreground of a container is in no journal of it."""
    (tmp_path / "journalctl").write_text("#!/bin/sh\necho lua: something\n")
    (tmp_path / "journalctl").chmod(0o755)
    words = command(tmp_path, "none", 600)
    words[-1] = words[-1].replace("in_pod=''", "in_pod=yes")
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=30, check=True, env=path)
    assert done.stdout.splitlines() == ["--mark"]
    assert done.stderr.split()[-1] == "container"


def test_a_missing_log_is_reported(tmp_path: Path) -> None:
    """The message has the path from slurm.conf."""
    lines, said = read(tmp_path, str(tmp_path / "elsewhere.log"))
    assert lines == ["--mark"]
    assert f"nowhere: {tmp_path}/elsewhere.log cannot be read" in said


def test_a_past_that_takes_too_long_is_cut_with_a_word(tmp_path: Path) -> None:
    """Reading has a time limit; the entries so far are shown, with a mark that they are incomplete."""
    log = tmp_path / "slurmctld.log"
    log.write_text(log_line(10, "lua: there"))
    programs = {
        "head": f'case $* in *slurmctld.log) cat "$4"; : >{tmp_path}/printed; exec sleep 900 ;; esac\nexec /usr/bin/head "$@"',
        # the limit is reached once the entry was printed, however fast this machine is
        "timeout": f'case $* in *" head "*slurmctld.log) ;; *) exec /usr/bin/timeout "$@" ;; esac\nshift 4\n"$@" &\n'
        f"until [ -e {tmp_path}/printed ]; do sleep 0.05; done\nkill $!\nexit 124",
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    words = command(tmp_path, str(log), 600)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=60, check=True, env=path)
    assert [line.partition("] ")[2] or line for line in done.stdout.splitlines()] == [
        "lua: there",
        "--mark cut",
        "--mark",
    ]


def test_who_writes_into_a_log_does_not_know_the_mark(tmp_path: Path) -> None:
    """A line with the mark would hide all that comes after it: no command line has it, which everybody could read."""
    log = tmp_path / "slurmctld.log"
    log.write_text(log_line(10, "lua: there"))
    awk = tmp_path / "awk"
    awk.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/words\nexec /usr/bin/awk "$@"\n')
    awk.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = command(tmp_path, str(log), 600)
    done = subprocess.run(words, input="go\n", capture_output=True, text=True, timeout=60, check=True, env=path)
    assert done.stdout.endswith("lua: there\n--mark\n")
    seen = (tmp_path / "words").read_text()
    assert "room=" in seen and "--mark" not in seen


@pytest.mark.parametrize(
    ("lines", "cut"),
    [
        (
            ["[2030-01-01T00:00:00.000] lua: x", "--mark cut", "--mark"],
            "too long, or took more than 300 s to read",
        ),
        (["[2030-01-01T00:00:00.000] lua: x"], "the connection was lost while its log was read"),
        (["[2030-01-01T00:00:00.000] lua: x", None, None], "the host sent nothing for 360 s"),
        (["[2030-01-01T00:00:00.000] lua: x", "--mark"], ""),
    ],
)
def test_missing_parts_of_a_log_are_reported(
    monkeypatch: pytest.MonkeyPatch, lines: list[str | None], cut: str
) -> None:
    """Where a host's past entries are incomplete, those that arrived are shown, and a note says so."""
    clock = iter(range(0, 100_000, 250))
    monkeypatch.setattr("dws_on_csm.commands.logs.host_log.time.monotonic", lambda: float(next(clock)))
    closed: list[bool] = []
    channel: Any = SimpleNamespace(close=lambda: closed.append(True))
    log = HostLog("h", [], Clock(), True, "--mark", iter(lines), channel)
    assert [entry.text for entry in log.past()] == ["lua: x"]
    assert cut in log.cut and bool(log.cut) is bool(cut) and bool(closed) is ("sent nothing" in cut)


def test_a_followed_log_continues_and_ends_with_its_reader(tmp_path: Path) -> None:
    """New entries arrive at once, also after a rotation; no process is left when the input ends."""
    log = tmp_path / "slurmctld.log"
    log.write_text(log_line(10, "lua: before"))
    with subprocess.Popen(
        ["setsid", *command(tmp_path, str(log), 600, "yes")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        assert process.stderr.readline().startswith("ready ")
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("lua: before\n")
        assert process.stdout.readline() == "--mark\n"
        with log.open("a") as more:
            more.write(log_line(0, "sched: nothing") + log_line(0, "lua: after"))
        assert process.stdout.readline().endswith("lua: after\n")
        log.rename(tmp_path / "slurmctld.log.1")
        log.write_text(log_line(0, "lua: rotated"))
        assert process.stdout.readline().endswith("lua: rotated\n")
        process.stdin.close()
        assert process.stdout.read() == ""  # ends only when nobody holds it open any more
        assert process.wait(20) != 0
