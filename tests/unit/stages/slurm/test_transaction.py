"""The activation's script where a real slurmctld can't be made to follow: what its parts do is in tests/lab.

slurmctld, scontrol and the service manager are stood in for by scripts that keep a slurmctld as a file; it ends when
slurm.conf has the word BROKEN in it, and never answers when it has SILENT. Files, locks, checksums and shells are real.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dws_on_csm.engine.host_script import BUSY, LIBRARY
from dws_on_csm.model import render
from tests.unit.hostile import Host

pytestmark = pytest.mark.slow

RESTART = """
if [ -e "$TOP/starts" ]; then # what each start comes to, a word a line: up, ends or silent
    how=$(sed -n 1p "$TOP/starts"); sed -i 1d "$TOP/starts"; cat "$TOP/etc/slurm.conf" >>"$TOP/tried"
    if [ "$how" = ends ]; then rm -f "$TOP/alive"; echo "[now] fatal: no munge" >>"$TOP/log"; exit 1; fi
    rm -f "$TOP/silent"; [ "$how" = up ] || : >"$TOP/silent"
fi
if [ -e "$TOP/slow" ]; then rm "$TOP/alive" "$TOP/slow"; sleep 3; fi
if grep -q BROKEN "$TOP/etc/slurm.conf"; then
    rm -f "$TOP/alive"; echo "[now] fatal: no burst buffer" >>"$TOP/log"; exit 1
fi
echo x >>"$TOP/restarts"; : >"$TOP/alive"; [ ! -e "$TOP/meanwhile" ] || sh "$TOP/meanwhile"
"""
PROGRAMS = {
    "service": RESTART,
    "pgrep": '[ ! -e "$TOP/alive" ] || cat "$TOP/process"',
    "systemctl": f"""
case "$*" in
restart*) {RESTART} ;;
*MainPID*) if [ -e "$TOP/alive" ]; then echo MainPID=4711; else echo MainPID=0; fi ;;
*ActiveState*) if [ -e "$TOP/alive" ]; then echo ActiveState=active; else echo ActiveState=failed; fi ;;
is-active*) exit 3 ;;
esac""",
    "systemd-run": 'for last; do :; done; exec sh "$last"',
    "journalctl": "true",
    "scontrol": 'if [ -e "$TOP/alive" ] && ! grep -q SILENT "$TOP/etc/slurm.conf" && [ ! -e "$TOP/silent" ]; then\n'
    's=UP; else s=DOWN; fi; echo "Slurmctld(primary) at $(uname -n) is $s"',
}
OLD, NEW = "ClusterName=lab\n", "ClusterName=lab\nBurstBufferType=burst_buffer/lua\n"
Activate = Callable[..., subprocess.CompletedProcess[str]]


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def controller(host: Host, old: str = OLD) -> None:
    """Makes it a controller: etc/slurm.conf, and the programs around a slurmctld that is alive."""
    for folder in (host.etc, host.state):
        folder.mkdir(parents=True)
    (host.etc / "slurm.conf").write_text(old)
    (host.top / "alive").touch()
    for name, body in PROGRAMS.items():
        host.program(name, body)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A controller: etc/slurm.conf, a running slurmctld, and the programs around it."""
    controller(Host(tmp_path))
    shutil.copy("/bin/sleep", tmp_path / "slurmctld")  # what is taken for one is a process of that name
    process = subprocess.Popen([tmp_path / "slurmctld", "600"])
    (tmp_path / "process").write_text(f"{process.pid}\n")
    yield tmp_path
    process.kill()
    process.wait()


@pytest.fixture(params=["dash", "bash"])
def activate(host: Path, request: pytest.FixtureRequest) -> Activate:
    """activate(next, back, seen=OLD, cut=0, deadline=30): the whole of it, as the stage would, in the shells that /bin/sh
    may be.

    `next` None: only the restart. `cut`: so many bytes of the texts get lost on the way. `deadline`: seconds for an answer.
    """
    shell = shutil.which(request.param)
    assert shell, f"{request.param} is needed: apt-get install {request.param}"
    (host / "bin/sh").symlink_to(shell)

    def run(
        following: str | None, back: str | None, seen: str = OLD, cut: int = 0, deadline: int = 30
    ) -> subprocess.CompletedProcess[str]:
        fixed = {"state": f"{host}/state", "folder": f"{host}/etc", "unit": "slurmctld", "log": f"{host}/log"}
        had, has = ("BurstBufferType" in text for text in (seen, seen if following is None else following))
        fixed |= {"units": f"{host}/units", "burst_buffer": "" if had == has else "added" if has else "removed"}
        fixed |= {"seen": checksum(seen), "deadline": str(deadline)}
        settings = {"state": f"{host}/state", "conf": f"{host}/etc/slurm.conf", "longest": "120"}
        settings |= {
            "program": render.script(
                "lib/safe_file.sh",
                "lib/as.sh",
                "lib/slurmctld.sh",
                "lib/slurm_start.sh",
                "controller/activate.sh",
                **fixed,
            )
        }
        texts = {"next": following or "", "back": back or ""}
        for name, text in texts.items():
            settings |= {f"{name}_size": str(len(text)), f"{name}_sum": checksum(text) if text else ""}
        data = "".join(texts.values())
        activation = render.script("lib/detach.sh", "lib/temporary.sh", "controller/run_activation.sh", **settings)
        script = f"STATE={host}/state; RUN=test\n{LIBRARY}\n(\n{activation}\n)"
        environment = {"PATH": f"{host}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TOP": str(host)}
        return subprocess.run(
            [shell, "-c", script],
            env=environment,
            input=data[: len(data) - cut],
            capture_output=True,
            timeout=120,
            check=False,
            text=True,
        )

    return run


def conf(host: Path) -> str:
    return (host / "etc/slurm.conf").read_text()


def outcome(host: Path) -> str:
    result = host / "state/activation"
    return result.read_text().partition("\n")[0].removeprefix("outcome=") if result.exists() else "none"


def leftovers(host: Path) -> list[str]:
    return [path.name for path in (*host.glob("etc/.*"), *host.glob("state/activation.d.*"))]


def test_a_good_one(host: Path, activate: Activate) -> None:
    """The text is put, with mode and times of its own; slurmctld is started once; nothing is left."""
    (host / "etc/slurm.conf").chmod(0o640)
    told = activate(NEW, OLD)
    assert (told.returncode, told.stderr) == (0, "")
    assert "slurmctld responds" in told.stdout
    assert (conf(host), outcome(host), leftovers(host)) == (NEW, "activated", [])
    assert (host / "etc/slurm.conf").stat().st_mode & 0o777 == 0o640
    assert (host / "restarts").read_text() == "x\n"
    assert (host / f"state/before/test{host}/etc/slurm.conf").read_text() == OLD


def test_each_addition_of_the_burst_buffer_is_recorded(host: Path, activate: Activate) -> None:
    """A line for each, until this tool itself removes it: by several of them doctor knows that something else removes it."""
    record = host / "state/added"
    for count in (1, 2):
        (host / "etc/slurm.conf").write_text(OLD)
        assert activate(NEW, OLD).returncode == 0
        assert len(record.read_text().splitlines()) == count
    assert activate(None, OLD, seen=NEW).returncode == 0 and len(record.read_text().splitlines()) == 2
    assert activate(OLD, NEW, seen=NEW).returncode == 0 and not record.exists()
    assert activate(NEW + "BROKEN\n", OLD).returncode != 0 and not record.exists()


def test_one_that_ends(host: Path, activate: Activate) -> None:
    """The old text is put back, slurmctld is started with it, and its last words are told."""
    told = activate("BROKEN\n", OLD)
    assert told.returncode == 1
    assert "fatal: no burst buffer" in told.stdout
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "reverted", [])
    assert (host / "alive").exists()


def test_one_that_never_answers(host: Path, activate: Activate) -> None:
    """Alive is not enough for ever: after the deadline the old text is put back."""
    told = activate("SILENT\n", OLD, deadline=1)
    assert told.returncode == 1
    assert "did not respond within 1 s" in told.stdout
    assert (conf(host), outcome(host)) == (OLD, "reverted")


def test_one_that_is_still_being_stopped(host: Path, activate: Activate) -> None:
    """What takes longer to stop than there is time for an answer has not ended, and nobody is told so."""
    (host / "slow").touch()
    told = activate(NEW, OLD, deadline=1)
    assert told.returncode == 1
    assert "did not respond within 1 s" in told.stdout and "slurmctld ended" not in told.stdout
    assert (conf(host), outcome(host)) == (OLD, "reverted")


def test_both_texts_fail(host: Path, activate: Activate) -> None:
    """If it doesn't start with the old text either, that is said, and the file is as it was."""
    (host / "etc/slurm.conf").write_text("BROKEN before\n")
    told = activate("BROKEN\n", "BROKEN before\n", seen="BROKEN before\n")
    assert told.returncode == 1
    assert "so its change is not the cause" in told.stdout
    assert told.stdout.rstrip().endswith("ended again; slurmctld says: fatal: no burst buffer")
    assert (conf(host), outcome(host)) == ("BROKEN before\n", "down")


def test_what_would_not_start_is_not_stopped(host: Path, activate: Activate) -> None:
    """Slurm cannot read the text that would come, or SlurmUser has no munge: slurmctld runs on, and slurm.conf is not touched."""
    reads = 'if grep -q TYPO "$SLURM_CONF"; then echo "scontrol: fatal: TYPO" >&2; exit 1; fi\n'
    Host(host).program("scontrol", reads + PROGRAMS["scontrol"])
    told = activate(f"{NEW}TYPO=1\n", OLD)
    assert told.returncode == 1
    assert (
        "Slurm cannot read the text of slurm.conf: fatal: TYPO" in told.stdout and "It was not stopped" in told.stdout
    )
    for name in ("munge", "unmunge"):
        Host(host).program(name, "echo no socket >&2; exit 6")
    told = activate(NEW, OLD)
    assert "auth/munge does not work: no socket" in told.stdout and told.returncode == 1
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "refused", [])
    assert not (host / "restarts").exists()


def test_a_file_that_changed_since(host: Path, activate: Activate) -> None:
    """Somebody else's text stays, and slurmctld is not touched."""
    told = activate(NEW, OLD, seen="another\n")
    assert told.returncode == 1
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "refused", [])
    assert not (host / "restarts").exists()


def test_a_file_that_changes_meanwhile(host: Path, activate: Activate) -> None:
    """What somebody writes while slurmctld is awaited is not overwritten by what would have been put back."""
    (host / "meanwhile").write_text(f"echo 'BROKEN by somebody' >{host}/etc/slurm.conf; rm {host}/alive\n")
    told = activate(NEW, OLD)
    assert told.returncode == 1
    assert "changed by somebody else" in told.stdout
    assert conf(host) == "BROKEN by somebody\n"


@pytest.mark.parametrize("cut", [1, len(OLD), len(OLD) + 1, len(OLD) + len(NEW)])
def test_a_text_that_did_not_come_whole(host: Path, activate: Activate, cut: int) -> None:
    """A connection that breaks while the texts are sent changes nothing."""
    told = activate(NEW, OLD, cut=cut)
    assert told.returncode != 0
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "none", [])
    assert not (host / "restarts").exists()


def test_a_restart_alone(host: Path, activate: Activate) -> None:
    """Without a new text slurm.conf is the same file before and after."""
    before = (host / "etc/slurm.conf").stat()
    assert activate(None, "without\n").returncode == 0
    assert (host / "etc/slurm.conf").stat().st_ino == before.st_ino
    assert (host / "restarts").read_text() == "x\n"


@pytest.mark.parametrize(("back", "after"), [("without\n", "without\n"), (None, "BROKEN by now\n")])
def test_a_restart_that_fails(host: Path, activate: Activate, back: str | None, after: str) -> None:
    """It comes up without the burst buffer; where the file belongs to another one too it is left, and that is told."""
    (host / "etc/slurm.conf").write_text("BROKEN by now\n")
    assert activate(None, back, seen="BROKEN by now\n").returncode == 1
    assert conf(host) == after
    assert outcome(host) == ("reverted" if back else "down")


@pytest.mark.parametrize(
    ("starts", "end", "without", "said"),
    [
        ("ends ends ends", "down", False, "ended again"),
        ("ends ends up", "reverted", False, "slurmctld responds"),
        ("silent silent silent", "reverted", False, "has not responded yet"),
        ("silent ends silent", "reverted", False, "has not responded yet"),
        ("ends up", "reverted", True, "slurmctld responds"),
        ("silent up", "reverted", True, "slurmctld responds"),
        ("ends silent", "reverted", True, "has not responded yet"),
    ],
)
def test_a_line_that_is_not_the_cause_stays(
    host: Path, activate: Activate, starts: str, end: str, without: bool, said: str
) -> None:
    """A slurmctld that does not start without BurstBufferType either has another reason: slurm.conf gets its former text again."""
    (host / "etc/slurm.conf").write_text(NEW)
    (host / "etc/slurm.conf").chmod(0o640)
    (host / "starts").write_text(starts.replace(" ", "\n") + "\n")
    told = activate(None, OLD, seen=NEW, deadline=1 if "silent" in starts else 30)
    assert told.returncode == 1
    assert (conf(host), outcome(host), leftovers(host)) == (OLD if without else NEW, end, [])
    assert (host / "tried").read_text() == NEW + OLD + (NEW if not without else "")
    assert (host / "etc/slurm.conf").stat().st_mode & 0o777 == 0o640
    assert ("so that line is not the cause; slurm.conf has its former text" in told.stdout) is not without
    assert said in told.stdout.splitlines()[-1]
    assert (host / "alive").exists() == (end != "down")


def test_somebody_elses_text_is_no_proof_of_the_cause(host: Path, activate: Activate) -> None:
    """What somebody writes while slurmctld is tried without the line is left, and nothing is said of the cause."""
    (host / "etc/slurm.conf").write_text(NEW)
    (host / "meanwhile").write_text(f"[ -s {host}/starts ] || echo X=1 >{host}/etc/slurm.conf; rm -f {host}/alive\n")
    (host / "starts").write_text("up\nup\n")
    told = activate(None, OLD, seen=NEW)
    assert (told.returncode, conf(host), outcome(host)) == (1, "X=1\n", "down")
    assert "not the cause" not in told.stdout


def test_a_link_stays_one(host: Path, activate: Activate) -> None:
    """What gets the new text is the link's target, in its own folder."""
    (host / "site").mkdir()
    (host / "etc/slurm.conf").rename(host / "site/slurm.conf")
    (host / "etc/slurm.conf").symlink_to(host / "site/slurm.conf")
    assert activate(NEW, OLD).returncode == 0
    assert (host / "etc/slurm.conf").readlink() == host / "site/slurm.conf"
    assert (host / "site/slurm.conf").read_text() == NEW


def test_a_file_that_can_not_be_replaced(host: Path, activate: Activate) -> None:
    """Where its sibling can't be written (a full disk, here a file without room), nothing is touched."""
    (host / "bin/cp").write_text('#!/bin/sh\ncase "$*" in *preserve=all*/new) exit 1 ;; esac\nexec /bin/cp "$@"\n')
    (host / "bin/cp").chmod(0o755)
    told = activate(NEW, OLD)
    assert told.returncode == 1
    assert (conf(host), outcome(host), leftovers(host)) == (OLD, "refused", [])
    assert not (host / "restarts").exists()


def test_two_at_once(host: Path, activate: Activate) -> None:
    """While one works, held here by its lock, another does nothing and says why; a look tells that one works."""
    lock = host / "state/activation.lock"
    lock.touch()
    look = f"lock={lock}\n" + render.read("controller/activation_look.sh")
    with subprocess.Popen(["flock", str(lock), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        holder.stdin.write(b"x\n")
        holder.stdin.flush()
        os.read(holder.stdout.fileno(), 2)  # cat runs, so the lock is held
        assert subprocess.check_output(["sh", "-c", look], text=True).startswith("running since ")
        told = activate(NEW, OLD)
    assert told.returncode == BUSY
    assert "another activation is running" in told.stdout
    assert (conf(host), leftovers(host)) == (OLD, [])
    assert subprocess.check_output(["sh", "-c", look], text=True) == ""


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd gives what it starts files of its own")
def test_a_slurmctld_gets_no_open_file_of_roots(host: Path, activate: Activate) -> None:
    """What starts it without systemd passes on its files: what root follows, and reads, would be SlurmUser's to write."""
    Host(host).program("service", f'for one in /proc/$$/fd/*; do readlink "$one" >>"$TOP/open"; done\n{RESTART}')
    told = activate(NEW, OLD)
    assert told.returncode == 0 and "slurmctld responds" in told.stdout
    opened = (host / "open").read_text().split()
    assert set(opened) <= {"/dev/null", f"{host}/bin/service", f"{host}/open"} and "/dev/null" in opened


@pytest.mark.parametrize("starter", ["controller/run_activation.sh", "pod/run_rollout.sh"])
@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(("begins", "left"), [(": >$work/begun", 1), (":", 0)])
def test_a_run_that_stops_leaves_no_folder_of_an_activation_that_never_began(
    host: Path, starter: str, shell: str, begins: str, left: int
) -> None:
    """Ended while the activation is started: it never begins, and its copy of slurm.conf goes. One at work keeps its folder."""
    program = f"{begins}; echo started >>$work/progress; until [ -e {host}/go ]; do sleep 0.1; done"
    settings = {"state": f"{host}/state", "conf": f"{host}/etc/slurm.conf", "longest": "60", "program": program}
    settings |= {"next_size": "0", "next_sum": "", "back_size": str(len(OLD)), "back_sum": checksum(OLD)}
    settings |= {"unit": "rollout", "next": "", "back": "", "was": "", "text": ""}
    activation = render.script("lib/detach.sh", "lib/temporary.sh", starter, **settings)
    script = f"STATE={host}/state; RUN=test\n{LIBRARY}\n(\n{activation}\n)"
    with subprocess.Popen(
        [shell, "-c", script],
        env={"PATH": f"{host}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TOP": str(host)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as starting:
        assert starting.stdin and starting.stdout
        starting.stdin.write(OLD.encode())
        starting.stdin.close()
        assert starting.stdout.readline() == b"started\n"
        os.killpg(starting.pid, signal.SIGTERM)
        starting.wait(30)
    (host / "go").touch()
    assert len(leftovers(host)) == left
