"""What keeps slurmctld from starting: by the real scontrol and munge of the lab's Slurm root, and by a judge of what they say."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, Finding, StepContext
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import slurmctld, start
from lab import cache

pytestmark = pytest.mark.slow

SITE = load(DEFAULT)
HOST = SITE.controllers[0].name
LIBRARY = ("lib/as.sh", "lib/slurmctld.sh", "lib/slurm_start.sh")
TEXT = """\
ClusterName=lab
SlurmctldHost=ctl1
SlurmUser=slurm
StateSaveLocation=/trial/state
Include nodes.conf
"""


# --- by real programs


def slurm_root() -> Path | None:
    """The root with the lab's Slurm, where a lab was built on this machine."""
    return next(
        (folder / "root" for folder in cache.folder().glob("slurm-*") if (folder / "root/usr/bin").is_dir()), None
    )


@dataclass(frozen=True)
class Controller:
    """A controller without systemd: the lab's Slurm root, with `work` of its own as /trial, which has slurm.conf."""

    root: Path
    work: Path

    def run(self, script: str, before: str = "") -> str:
        """What root's script prints there; `before` are commands for what is wrong."""
        up = self.work.with_name("up")
        inside = f"mkdir -p /trial && mount --bind /mnt /trial; {before}\n{script}"
        layers = f"lowerdir={self.root},upperdir={up}/written,workdir={up}/more"
        steps = (
            f"mkdir -p {up}/written {up}/more {up}/root && mount -t overlay none -o {layers} {up}/root && cd {up}/root",
            f"mount --bind {self.work} mnt && mount -t proc none proc && mount --bind /dev dev",
            "mount -t tmpfs none run && mount -t tmpfs none dev/shm && exec chroot . sh -s",
        )
        told = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", " && ".join(steps)],
            input=inside, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told
        return told.stdout

    def look(self, before: str = "") -> start.Start:
        """The check's result there."""
        script = render.script(*LIBRARY, "controller/start.sh", folder="/trial", unit="slurmctld")
        return start.parse(self.run(script, before).encode())


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    """With a slurm.conf and a state folder that are right, and no munge yet."""
    root = slurm_root()
    if root is None or os.geteuid() != 0:
        pytest.skip("needs root, and a lab's Slurm (`invoke lab.build`)")
    work = tmp_path / "work"
    (work / "state").mkdir(parents=True)
    work.chmod(0o755)
    tmp_path.chmod(0o755)
    (work / "slurm.conf").write_text(TEXT)
    (work / "nodes.conf").write_text("NodeName=n1 CPUs=1\nPartitionName=p Nodes=ALL\n")
    yield Controller(root, work)


MUNGE = """
head -c 128 /dev/urandom >/etc/munge/munge.key; chown munge /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
mkdir -p /run/munge && chown munge /run/munge /var/log/munge /var/lib/munge /etc/munge
setpriv --reuid munge --regid munge --clear-groups munged
chown slurm /trial/state
"""


def test_a_controller_with_nothing_wrong(controller: Controller) -> None:
    """Slurm reads its slurm.conf and what that includes, munge works, and SlurmUser can write the state."""
    have = controller.look(MUNGE)
    assert have == {
        "unparsed": [], "closed_conf": None, "auth": "auth/munge", "proof": "", "state": "/trial/state", "state_problem": "",
        "cluster": "lab", "recorded": "", "holder": "", "user": "slurm",
    }  # fmt: skip
    assert start.judge(place({}), have) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SchedulerTyp=sched/backfill", "Parsing error at unrecognized key: SchedulerTyp"),
        ("MailProg=", 'Parse error in file /trial/slurm.conf line 6: "MailProg="'),
        ("KillWait=soon", 'KillWait value "soon" is not a valid number'),
        ("PluginDir=/nowhere", 'Bad value "/nowhere" for PluginDir'),
        ("AuthType=auth/nothing", "cannot find auth plugin for auth/nothing"),
        ("Include gone.conf", "cannot read file /trial/gone.conf"),
    ],
)
def test_what_slurm_cannot_read_is_said_in_its_own_words(controller: Controller, line: str, words: str) -> None:
    """Each of these ends slurmctld at its next start."""
    (controller.work / "slurm.conf").write_text(f"{TEXT}{line}\n")
    assert words in "\n".join(controller.look()["unparsed"])


def test_what_is_closed_to_slurm_user_is_a_fact(controller: Controller) -> None:
    """A folder that he may not enter, and a file that he may not read: nothing is read out of a sentence."""
    (controller.work / "slurm.conf").write_text(f"{TEXT}Include site/more.conf\n")
    have = controller.look("mkdir /trial/site; touch /trial/site/more.conf; chmod 700 /trial/site")
    assert have["unparsed"] and have["closed_conf"] == ("enter", "/trial/site")
    have = controller.look("chmod 755 /trial/site; chmod 600 /trial/site/more.conf")
    assert have["closed_conf"] == ("read", "/trial/site/more.conf")


def test_munge_and_the_state_folder(controller: Controller) -> None:
    """No munged; no folder, one of root's, and one that SlurmUser makes himself."""
    have = controller.look("rmdir /trial/state; chown root /trial")
    assert "munge.socket.2" in have["proof"] and have["state_problem"] == "missing"
    assert (
        controller.look("mkdir /trial/state; chown root /trial/state; chmod 755 /trial/state")["state_problem"]
        == "closed"
    )
    inside = "mkdir /trial/state/hash.2 /trial/state/lost+found; chown slurm /trial/state; chmod 700 /trial/state/*"
    assert controller.look(inside)["state_problem"] == "inside"
    assert controller.look("chown slurm /trial/state/hash.2")["state_problem"] == ""
    assert controller.look("rm -r /trial/state; chown slurm /trial")["state_problem"] == ""


@pytest.mark.parametrize(
    ("recorded", "line", "said"),
    [
        ("lab|77", "", ""),
        ("lab", "", ""),
        ("lab|77\nanything", "", ""),
        ("LAB|77", "", "has the name LAB"),
        ("old|77", "", "has the name old"),
        ("labs", "", "has the name labs"),
        ("lab\n", "", "has the name lab, and a line break behind it"),
        ("", "", "has no name"),
        ("|77", "", "has no name"),
        ("lab|77", "ClusterName=New", "has the name lab"),
        ("new|77", "ClusterName=New", ""),
    ],
)
def test_the_state_of_another_cluster(controller: Controller, recorded: str, line: str, said: str) -> None:
    """As slurmctld compares it; a missing file is written by slurmctld itself."""
    (controller.work / "state/clustername").write_text(recorded)
    with (controller.work / "slurm.conf").open("a") as conf:
        conf.write(f"{line}\n")
    assert controller.look("chown slurm /trial/state")["recorded"] == said


def test_another_process_on_slurmctlds_port(tmp_path: Path) -> None:
    """It is named with its number; a port that nobody has is nobody's."""
    script = render.script(*LIBRARY, folder=str(tmp_path), unit="no-such-unit") + "\nport_holder\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "slurm.conf").write_text(f"{TEXT}SlurmctldPort={port - 1}-{port}\n")
        told = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
        assert told.stdout.split(" ")[:2] == [str(port), str(os.getpid())], told
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True).stdout == ""


def test_a_text_is_tried_before_it_is_put(controller: Controller) -> None:
    """From memory, with the files beside slurm.conf; slurm.conf itself stays as it was, and nothing is left."""
    (controller.work / "next").write_text(f"{TEXT}BurstBufferType=burst_buffer/lua\n")
    (controller.work / "typo").write_text(f"{TEXT}BurstBufferTyp=burst_buffer/lua\n")
    fixed = render.script(*LIBRARY, folder="/trial", unit="slurmctld", state="/trial")
    said = {
        name: controller.run(
            f"{fixed}\nfind_slurm\nstart_problem /trial/{name}; ls /dev/shm | grep dws-on-csm || true", MUNGE
        )
        for name in ("next", "typo", "slurm.conf")
    }
    assert said["next"] == said["slurm.conf"] == ""
    assert "BurstBufferTyp" in said["typo"]
    (controller.work / "state/clustername").write_text("old|1")
    assert "old, but slurm.conf has ClusterName=lab" in controller.run(
        f"{fixed}\nfind_slurm\nstart_problem /trial/next", MUNGE
    )
    assert (controller.work / "slurm.conf").read_text() == TEXT


def test_a_pod_says_what_slurm_cannot_read(controller: Controller) -> None:
    """The script for a container gets the text in itself, ends with 9 where it cannot be read, and leaves nothing."""
    fixed = render.script(*LIBRARY, "pod/pod_candidate.sh", folder="/trial", unit="slurmctld", state="/trial")

    def tried(line: str) -> str:
        text = base64.b64encode(f"{TEXT}{line}\n".encode()).decode()
        return controller.run(f"(text_={text}\n{fixed}); echo $?; ls /dev/shm | grep dws-on-csm || true")

    assert tried("BurstBufferType=burst_buffer/lua") == "0\n"
    assert "unrecognized key: BurstBufferTyp\n" in (said := tried("BurstBufferTyp=burst_buffer/lua"))
    assert said.endswith("\n9\n")


# --- the judge

RIGHT: start.Start = start.parse(b"auth=auth/munge\nstate=/var/state\nas=slurm\n")
CONF = SITE.slurm.conf


def place(
    running: dict[str, Any], text: str = TEXT, plugins: str = "sched_backfill sched_builtin", unit: str = "loaded"
) -> StepContext:
    """A controller with this slurmctld, its unit in this state, and this slurm.conf."""
    state = {
        "LoadState": unit,
        "files": {CONF: text},
        "library": "/usr/lib/slurm/burst_buffer_lua.so",
        "plugins": plugins.split(),
    }
    daemon = {**slurmctld.parse(b""), **running}
    return StepContext(SITE, Facts({CONTROLLER.name: {HOST: state}, slurmctld.FACT.name: {HOST: daemon}}), HOST)


def test_a_masked_unit_is_said_before_it_is_started() -> None:
    """systemd would refuse the start that every other fix asks for."""
    (found,) = judged({}, place({}, unit="masked"))
    assert (found.name, "slurmctld cannot start" in found.text) == ("slurm-unit-masked", True)
    assert f"`systemctl unmask {SITE.slurm.service}` on {HOST}" in found.fix


def judged(have: dict[str, Any], ctx: StepContext) -> list[Finding]:
    return list(start.judge(ctx, {**RIGHT, **have}))  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("have", "name", "fix"),
    [
        ({"unparsed": ["error: bad"]}, "slurm-conf-unparsable", f"SLURM_CONF={CONF} scontrol show aliases localhost"),
        (
            {"unparsed": ["error: cannot read file"], "closed_conf": ("enter", "/etc/slurm")},
            "slurm-files-closed",
            "chmod a+rx /etc/slurm",
        ),
        (
            {"unparsed": ["error: cannot read file"], "closed_conf": ("read", CONF)},
            "slurm-files-closed",
            f"chmod a+r {CONF}",
        ),
        ({"proof": "no socket"}, "munge-down", "systemctl restart munge"),
        ({"proof": "no key", "auth": "auth/slurm"}, "slurm-key-unreadable", "chown slurm /etc/slurm/slurm.key"),
        ({"state_problem": "missing"}, "state-folder-unusable", "mkdir -p -m 755 /var/state && chown slurm /var/state"),
        ({"state_problem": "closed"}, "state-folder-unusable", "chown -R slurm /var/state && chmod u+rwx /var/state"),
        (
            {"state_problem": "inside"},
            "state-folder-unusable",
            "chown -R slurm /var/state && chmod -R u+rwX /var/state",
        ),
        ({"state_problem": "read-only"}, "state-folder-unusable", "findmnt -T /var/state"),
        ({"state_problem": "silent"}, "state-folder-unusable", "timeout 10 ls /var/state"),
        (
            {"cluster": "new", "recorded": "has the name old"},
            "cluster-name-mismatch",
            "rm /var/state/clustername",
        ),
        ({"holder": "6817 77 nc"}, "slurmctld-port-used", "kill 77"),
    ],
)
def test_each_cause_has_its_name_and_a_fix_to_type(have: dict[str, Any], name: str, fix: str) -> None:
    """And says whether slurmctld still runs: then nobody may restart it."""
    (stopped,), (running,) = judged(have, place({})), judged(have, place({"main": "9"}))
    assert stopped.name == running.name == name and f"`{fix}`" in stopped.fix
    assert "lurmctld cannot start" in stopped.text
    assert "lurmctld still runs, but would not start again" in running.text


def test_an_unknown_key_is_shown_with_its_line() -> None:
    """Slurm names the key alone; and the keys that changed since slurmctld started say who may know more."""
    now = f"{TEXT}# SchedulerTyp=x\n  schedulertyp = sched/backfill # pushed\n"
    running = {"main": "9", "was": {CONF: f"{TEXT}SchedulerType=sched/backfill\n"}, "now": {CONF: now}}
    (finding,) = judged({"unparsed": ["error: Parsing error at unrecognized key: SchedulerTyp"]}, place(running, now))
    assert f'{CONF} line 7: "schedulertyp = sched/backfill # pushed"' in finding.text
    assert "these keys were changed: " in finding.text and "SchedulerType" in finding.text


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("SchedulerType=sched/backfill", False),
        ("SchedulerType=builtin", False),
        ("SchedulerType=sched/bakfill", True),
        (
            "JobSubmitPlugins=lua,nothing",
            False,
        ),  # Slurm's folder has no plugin of this kind: another folder may have them
        ("PreemptType=preempt/none", False),
        ("PluginDir=/a:/b\nSchedulerType=sched/bakfill", False),
    ],
)
def test_a_plugin_that_slurm_lacks(line: str, found: bool) -> None:
    """Where it has others of that kind: the fix names them."""
    findings = judged({}, place({}, f"{TEXT}{line}\n"))
    assert [one.name for one in findings] == ["slurm-plugin-missing"] * found
    assert all("sched_backfill, sched_builtin" in one.fix for one in findings)
    assert slurm_conf.value(f"{TEXT}{line}\n", line.partition("=")[0])
