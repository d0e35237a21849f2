"""A rollout's script on the master: it ends whatever does not answer it, and puts back what it had changed.

kubectl is stood in for by a program that keeps objects as files and hangs where it is told to; `timeout` by one that is
impatient. Shells, signals, locks and pod_edit.py are real.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.model import render

pytestmark = pytest.mark.slow

KUBECTL = """#!{python}
import json, os, pathlib, sys, time
words, folder = sys.argv[1:], pathlib.Path({folder!r})
hangs = (folder / "hangs").read_text().split()
if hangs and all(one in words for one in hangs) and ("candidate" in hangs or "candidate" not in words):
    with (folder / "hung").open("a") as log:
        log.write(f"{{os.getpid()}}\\n")
    time.sleep(600)
if "get" in words and "pods" in words:
    print("slurmctld-1 0")
elif "get" in words and "configmap" in words:
    print(json.loads((folder / "configmap_c").read_text())["data"]["slurm.conf"])
    sys.exit((folder / "cut").exists())
elif "candidate" in words:
    script = sys.stdin.read()
    with (folder / "candidates").open("a") as log:
        log.write(script.partition("\\n")[0] + "\\n")
    if (folder / "floods").exists():
        sys.stdout.write("x" * 20_000_000)
    if (folder / "unreadable").exists():
        print("error: Parsing error")
        sys.exit(9)
elif "get" in words:
    print((folder / words[words.index("get") + 1].replace("/", "_")).read_text())
elif "replace" in words:
    made = json.load(sys.stdin)
    made["metadata"]["resourceVersion"] = str(int(made["metadata"].get("resourceVersion", 7)) + 1)
    (folder / made["kind"]).write_text(json.dumps(made))
    with (folder / "writes").open("a") as log:
        log.write(made["data"]["slurm.conf"] + "\\n")
elif "exec" in words:
    sys.stdin.read()
    if (folder / "starts").exists():
        there = json.loads((folder / "configmap_c").read_text())["data"]["slurm.conf"]
        with (folder / "tried").open("a") as log:
            log.write(there + "\\n")
        how, *rest = (folder / "starts").read_text().split()
        (folder / "starts").write_text(" ".join(rest) or "no")
        sys.exit(how != "up")
    if (folder / "floods").exists():
        for stream in (sys.stdout, sys.stderr):
            stream.write("x" * 20_000_000)
        sys.exit(int((folder / "floods").read_text()))
elif "logs" in words and (folder / "floods").exists():
    print("error: no end of it " + "x" * 20_000_000)
    print("fatal: the last of it")
"""
# As timeout(1), but it gives up at once a command that has come to a kubectl that hangs, and no other: a busy machine is slow.
IMPATIENT = """#!{python}
import pathlib, signal, subprocess, sys, time
words, hung = sys.argv[1:], pathlib.Path({folder!r}) / "hung"
while words[0].startswith("-"):
    del words[: 2 if words[0] == "-k" else 1]
process = subprocess.Popen(words[1:])

def end(code):
    for pid in [str(process.pid), *hanging()]:
        subprocess.run(["kill", pid], stderr=subprocess.DEVNULL)
    process.wait()
    sys.exit(code)

def hanging():
    return [pid for pid in (hung.read_text().split() if hung.exists() else ()) if of_ours(pid)]

def of_ours(pid):
    while pid not in ("0", "1", str(process.pid)):
        try:
            pid = pathlib.Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return False
    return pid == str(process.pid)

signal.signal(signal.SIGTERM, lambda *_: end(143))
limit = time.monotonic() + float(words[0])
while process.poll() is None:
    if hanging() or time.monotonic() > limit:
        end(124)
    time.sleep(0.05)
sys.exit(process.returncode)
"""


class Rollout:
    """A rollout of a slurmctld whose slurm.conf is a key of a ConfigMap."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "state/activation.d.x"
        for one in (self.work, folder / "bin"):
            one.mkdir(parents=True)
        self.object = folder / "configmap_c"
        there = {"kind": "configmap_c", "metadata": {"resourceVersion": "7"}, "data": {"slurm.conf": "old"}}
        self.object.write_text(json.dumps(there))
        self.hang("")
        programs = {"kubectl": KUBECTL, "timeout": IMPATIENT}
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text.format(python=sys.executable, folder=str(folder)))
            (folder / "bin" / name).chmod(0o755)
        for name, seen, value in (("next", "old", "new"), ("back", "new", "old")):
            edits = [{"object": "configmap/c", "at": ["data", "slurm.conf"], "seen": seen, "value": value}]
            (self.work / name).write_text(json.dumps(edits))
        settings = {
            "work": str(self.work),
            "state": f"{folder}/state",
            "host": "pod",
            "namespace": "user",
            "selector": "a=b",
        }
        settings |= {"container": "slurmctld", "workload": "deployment/slurmctld", "context": "", "deadline": "4"}
        settings |= {"edit": render.read("pod/pod_edit.py"), "edit_limit": "300", "answers": "exit 0"}
        settings |= {"config": "c", "candidate": ": whether Slurm can read it"}
        (self.work / "activate").write_text(render.script("pod/rollout.sh", **settings))

    def hang(self, words: str) -> None:
        """kubectl never answers a call that has all of these words."""
        (self.folder / "hangs").write_text(words)

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """The script at work."""
        environment = {"PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.Popen(["sh", str(self.work / "activate"), *words], env=environment)

    def text(self) -> str:
        """slurm.conf as the ConfigMap has it."""
        there: Any = json.loads(self.object.read_text())
        return str(there["data"]["slurm.conf"])

    def told(self) -> str:
        """What was said."""
        return (self.work / "progress").read_text()


@pytest.fixture
def rollout(tmp_path: Path) -> Rollout:
    """A rollout that would do."""
    return Rollout(tmp_path)


def test_a_good_one(rollout: Rollout) -> None:
    """The edit is made, and the pod's slurmctld answers."""
    assert rollout.begin().wait(60) == 0
    assert (rollout.text(), (rollout.work / "done").exists()) == ("new", True)


@pytest.mark.parametrize("text", ["new", ""])
def test_a_text_that_slurm_cannot_read_is_not_rolled_out(rollout: Rollout, text: str) -> None:
    """It is tried in the pod that runs, as the edits make it, else as the ConfigMap has it for the next pod."""
    if text:
        (rollout.work / "text").write_text(text)
    (rollout.folder / "unreadable").touch()
    assert rollout.begin().wait(60) == 1
    tried = (rollout.folder / "candidates").read_text()
    assert base64.b64decode(tried.removeprefix("text_=")).decode().strip() == (text or "old")
    assert "Slurm cannot read the text of slurm.conf: error: Parsing error" in rollout.told()
    assert "nothing was changed" in rollout.told() and rollout.text() == "old"
    assert not (rollout.folder / "writes").exists() and (rollout.work / "done").exists()


def test_a_part_of_a_text_is_not_tried(rollout: Rollout) -> None:
    """Slurm would find a mistake in it that the text has not: where kubectl could not write all of it, nothing is known."""
    (rollout.folder / "cut").touch()
    (rollout.folder / "unreadable").touch()
    assert rollout.begin().wait(60) == 0
    assert not (rollout.folder / "candidates").exists() and rollout.text() == "new"


@pytest.mark.parametrize("words", ["get pods", "rollout", "exec", "candidate", "get configmap/c", "replace"])
def test_what_never_answers(rollout: Rollout, words: str) -> None:
    """No call of kubectl is waited for for ever: the rollout ends, its lock is free, and what it changed is put back."""
    rollout.hang(words)
    code = rollout.begin().wait(120)
    assert (rollout.work / "done").exists() and (rollout.folder / "hung").exists()
    assert subprocess.call(["flock", "-n", str(rollout.folder / "state/activation-pod.lock"), "true"]) == 0
    assert code == 1 or (code == 0 and words in ("get pods", "candidate"))  # without which less is known
    assert rollout.text() == ("new" if code == 0 else "old")


@pytest.mark.parametrize("code", [0, 1])
def test_a_container_that_prints_without_end_fills_no_disk(rollout: Rollout, code: int) -> None:
    """What SlurmUser's container says in a rollout, and in its log, takes no room on the master: its exit code counts."""
    (rollout.folder / "floods").write_text(str(code))
    assert rollout.begin().wait(120) == code
    assert rollout.text() == ("old" if code else "new")
    assert sum(one.stat().st_size for one in rollout.work.rglob("*") if one.is_file()) < 1_000_000
    assert ("error: no end of it" in rollout.told()) is bool(code)


@pytest.mark.parametrize("cut", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_rollout(rollout: Rollout, cut: signal.Signals) -> None:
    """What it changed is put back: by itself where it is asked to stop, by its unit's end where it was killed."""
    rollout.hang("exec")
    process = rollout.begin()
    until = time.monotonic() + 60
    while not (rollout.folder / "hung").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert rollout.text() == "new"
    process.send_signal(cut)
    rollout.hang("")
    assert process.wait(60) != 0
    rollout.begin("stopped").wait(60)
    assert rollout.text() == "old"
    assert "the rollout was interrupted" in rollout.told() and "undone" in rollout.told()


def restart_alone(rollout: Rollout, starts: str) -> None:
    """What the stage sends where only another pod is wanted; `starts`: whether slurmctld answers in each, in turn."""

    def edits(seen: str, value: str) -> str:
        return json.dumps([{"object": "configmap/c", "at": ["data", "slurm.conf"], "seen": seen, "value": value}])

    for name, text in (("next", "[]"), ("back", edits("old", "without")), ("was", edits("without", "old"))):
        (rollout.work / name).write_text(text)
    (rollout.work / "edit").write_text(render.read("pod/pod_edit.py"))
    (rollout.folder / "starts").write_text(starts)


@pytest.mark.parametrize(
    ("starts", "tried", "after", "said"),
    [
        ("no no no", ["old", "without", "old"], "old", "slurmctld has not responded yet"),
        ("no no up", ["old", "without", "old"], "old", "slurmctld responds"),
        ("no up", ["old", "without"], "without", "BurstBufferType was removed from slurm.conf; slurmctld responds"),
    ],
)
def test_a_line_that_is_not_the_cause_stays(
    rollout: Rollout, starts: str, tried: list[str], after: str, said: str
) -> None:
    """Where slurmctld does not answer without BurstBufferType either, slurm.conf has its former text, and that is said."""
    restart_alone(rollout, starts)
    assert rollout.begin().wait(120) == 1
    assert (rollout.text(), (rollout.folder / "tried").read_text().split()) == (after, tried)
    assert said in rollout.told().splitlines()[-1]
    assert ("so that line is not the cause; slurm.conf has its former text" in rollout.told()) is (after == "old")


def test_a_cut_after_that_leaves_the_line(rollout: Rollout) -> None:
    """Killed while slurm.conf is put back as it was: its unit's end does that."""
    restart_alone(rollout, "up")
    (rollout.work / "again").touch()
    (rollout.work / "edited").touch()
    rollout.object.write_text(rollout.object.read_text().replace('"old"', '"without"'))
    assert rollout.begin("stopped").wait(60) == 1
    assert rollout.text() == "old" and "not the cause" in rollout.told()


def test_each_call_of_kubectl_has_a_deadline() -> None:
    """In every template around a pod: `timeout` before it, and for what is no stream the request's own."""
    for path in render.TEMPLATES.rglob("pod_*.sh"):
        calls = [
            line for line in path.read_text().replace("\\\n", "").splitlines() if re.search(r"\bkubectl \S*\$", line)
        ]
        assert [line for line in calls if "timeout --foreground -k 5" not in line] == []
