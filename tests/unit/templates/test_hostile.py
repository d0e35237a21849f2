"""Root's scripts where a hostile SlurmUser or an ordinary user has been before them: real users, real shells, real files."""

from __future__ import annotations

import base64
import grp
import shutil
from pathlib import Path

import pytest

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.stages.access import revocation_proof
from dws_on_csm.stages.slurm import controller, plugin
from tests.unit import steps
from tests.unit.hostile import SECRET, SLURM_USER, USER, Host, hostile_host, needs_root, running

__all__ = ["hostile_host"]
pytestmark = [needs_root, pytest.mark.slow]
SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])

# --- what another user gets


@SHELLS
def test_what_another_user_gets_of_root(hostile_host: Host, shell: str) -> None:
    """Its own rights and groups, a stated environment, and no file but the three that every program has: no lock."""
    script = render.script("lib/as.sh") + (
        'exec 8>>"$TOP/entry" 9>>"$TOP/busy"\n'
        f"as {SLURM_USER} sh -c 'id -u; id -G; echo ---; env | sort; echo ---; ls /proc/self/fd; grep CapEff /proc/self/status'"
    )
    answer = hostile_host.run(script, shell, {"TOP": str(hostile_host.top), "TOKEN": "geheim", "KUBECONFIG": "/x"})
    ids, environment, rest = answer.stdout.split("---\n")
    assert ids == "1\n1\n", answer
    named = dict(line.partition("=")[::2] for line in environment.splitlines())
    assert set(named) <= {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    *descriptors, rights = rest.splitlines()
    assert set(descriptors) == {"0", "1", "2", "3"}  # 3 is the folder that ls reads
    assert rights.split() == ["CapEff:", "0000000000000000"]


@SHELLS
def test_no_open_file_of_roots_goes_along(hostile_host: Host, shell: str) -> None:
    """What root's script has open beside the first three is none of what runs as another user."""
    opened = "".join(f"exec {number}</etc/shadow\n" for number in range(3, 10))
    script = render.script("lib/as.sh") + opened + f"as {SLURM_USER} sh -c 'ls -l /proc/self/fd'\n"
    assert "shadow" not in hostile_host.run(script, shell).stdout


@SHELLS
def test_no_open_file_of_roots_goes_to_what_asks_a_process(hostile_host: Host, shell: str) -> None:
    """As that process's user, where root may not look, as in a container."""
    opened = "".join(f"exec {number}</etc/shadow\n" for number in range(3, 10))
    asks = "as_process_user $one sh -c '[ \"$(id -u)\" != 0 ] && ls -l /proc/self/fd'\n"
    with running(SLURM_USER, ["sleep", "600"]) as process:
        answer = hostile_host.run(f"{render.script('lib/as.sh')}{opened}one={process}\n{asks}", shell)
    assert "pipe:" in answer.stdout and "shadow" not in answer.stdout


@SHELLS
def test_an_event_of_a_workflow_stays_one_line(hostile_host: Host, shell: str) -> None:
    """What somebody's kubectl says of a Workflow makes no line of its own, and a failure is told as it came."""
    lines = render.read("controller/test_job.sh").split("\n")
    loop = next(line for line in lines if "read -r line; do" in line and "now" in line).split(" <")[0]
    begin = lines.index("failed() {")
    script = f"now() {{ echo 1; }}\njob=\nprintf '%s\\n' 'a\\nb|c' | {{ {loop}\n}}\n"
    script += "\n".join(lines[begin : lines.index("}", begin) + 1]) + "\nfailed 'x\\ny'\n"
    assert hostile_host.run(script, shell).stdout.split("\n")[:2] == ["1|a\\nb|c", "x\\ny"]


@SHELLS
def test_nobody_can_stop_the_timeout(hostile_host: Host, shell: str) -> None:
    """A command that runs for too long is ended by root's timeout, whatever it does to processes that it may signal."""
    stops = "kill -STOP $PPID 2>/dev/null; exec sleep 300"
    script = render.script("lib/as.sh") + f"as {SLURM_USER} timeout 1 sh -c '{stops}'\necho $?\n"
    assert hostile_host.run(script, shell, seconds=60).stdout == "124\n"
    assert hostile_host.run(render.script("lib/as.sh") + f"as {SLURM_USER} timeout 20 echo 7", shell).stdout == "7\n"


@SHELLS
def test_files_of_root_alone(hostile_host: Host, shell: str) -> None:
    """Neither the file nor a folder above it, nor where a link leads to or lies, can be changed by somebody else."""
    top = hostile_host.top
    safe = hostile_host.program("safe", "true")
    (top / "link").symlink_to("bin/safe")
    (top / "open-file").write_text("")
    (top / "open-file").chmod(0o666)
    (top / "open-group").write_text("")
    (top / "open-group").chmod(0o664)
    shutil.chown(top / "open-group", group=grp.getgrnam(SLURM_USER).gr_gid)
    (top / "group-of-root").write_text("")
    (top / "group-of-root").chmod(0o664)
    (top / "both").write_text("")
    (top / "both").chmod(0o666)
    (hostile_host.etc / "link").symlink_to(safe)
    (hostile_host.etc / "roots").write_text("")
    (top / "to-theirs").symlink_to(hostile_host.etc / "slurm.conf")
    (top / "circle").symlink_to("circle")
    (hostile_host.open / "roots").write_text("")  # as in /tmp: nobody can take it away
    expected = {
        "bin/safe": True, "link": True, "open/roots": True, "group-of-root": True,
        "both": False, "open-file": False, "open-group": False, "etc/link": False, "etc/roots": False,
        "etc/slurm.conf": False, "to-theirs": False, "circle": False, "nowhere": False,
    }  # fmt: skip
    lines = "".join(f"if only_root_writes {top}/{name}; then echo {name}; fi\n" for name in expected)
    told = hostile_host.run(render.script("lib/as.sh") + lines, shell).stdout.split()
    assert told == [name for name, safe in expected.items() if safe]


# --- a kubeconfig is parsed, never executed

EXEC = """
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: {program}
"""
# As kubectl does: it runs what a kubeconfig names, and takes certificate, key and server out of it.
KUBECTL = """
file=
while [ $# -gt 0 ]; do case $1 in --kubeconfig) file=$2 ;; esac; last=$1; shift; done
program=$(sed -n 's/^ *command: //p' "$file")
[ -z "$program" ] || "$program"
cat "$file" >>"$TOP/seen"
echo >>"$TOP/seen"
env >"$TOP/environment"
case $last in workflows*) echo no ;; esac
"""


@SHELLS
def test_a_kubeconfig_that_names_a_program_is_parsed_and_not_run(hostile_host: Host, shell: str) -> None:
    """Of a kept one certificate and key are tried, at the cluster's own address; its program, server and files are not."""
    harm = hostile_host.program("harm", 'id -u >>"$TOP/harmed"')
    hostile_host.program("kubectl", KUBECTL)
    kept = hostile_host.top / "state/before/20260101T000000" / str(hostile_host.etc).lstrip("/")
    kept.mkdir(parents=True)
    text = (
        "apiVersion: v1\nclusters:\n- cluster:\n    server: https://evil:1\n  name: k\nusers:\n- name: a\n"
        f"{EXEC.format(program=harm)}    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n"
        "- name: b\n  user:\n    client-certificate-data: Q0VSVDI=\n    client-key-data: S0VZMg==\n"
    )
    hostile_host.owned(kept / "kubeconfig", text)
    settings = {
        "state": str(hostile_host.top / "state"), "kubeconfig": str(hostile_host.etc / "kubeconfig"), "call": "yes",
        "workflows": "workflows.x", "namespace": "default", "cluster": '{"server": "https://api:6443"}',
    }  # fmt: skip
    script = "set -eu\n" + render.script("lib/as.sh", "lib/temporary.sh", "host/saved_kubeconfigs.sh", **settings)
    script = script.replace("/dev/shm", str(hostile_host.open))
    answer = hostile_host.run(script, shell, {"TOKEN": "geheim"})
    assert not (hostile_host.top / "harmed").exists()
    assert "S0VZ" not in answer.stdout + answer.stderr
    seen = (hostile_host.top / "seen").read_text()
    assert "https://api:6443" in seen and "evil" not in seen and '"client-key-data": "S0VZ"' in seen
    assert '"client-key-data": "S0VZMg=="' in seen  # the second user's, too
    assert "geheim" not in (hostile_host.top / "environment").read_text()
    found = revocation_proof.parse_kept(answer.stdout.encode())
    assert [one["client-certificate-data"] for one in found.values()] == ["Q0VSVA==", "Q0VSVDI="], answer
    assert {one["may"] for one in found.values()} == {"no"}
    assert list(hostile_host.open.glob("dws-on-csm*")) == []


# --- root's files lie in root's folders

# What SlurmUser's kubectl may be: it puts links where root would write, in whatever folder it is given.
LINKS = """
cd "$HOME" || exit 1
for name in said seen errors events; do rm -f "$name" "../$name"; ln -s "$TOP/secret" "$name"; ln -s "$TOP/secret" "../$name"; done
mv "$HOME" "$HOME.gone" && ln -s "$TOP" "$HOME"
exit 0
"""


@SHELLS
def test_a_link_where_root_would_write_is_never_followed(hostile_host: Host, shell: str) -> None:
    """SlurmUser owns its HOME alone: what it puts in there, or in its place, harms no file of root's; nothing stays."""
    hostile_host.program("kubectl", f"sleep 0.3\n{LINKS}")
    hostile_host.program("pgrep", "exit 1")
    hostile_host.owned(hostile_host.etc / "kubeconfig", "")
    settings = {"user": SLURM_USER, "file": str(hostile_host.etc / "kubeconfig"), "folder": str(hostile_host.etc)}
    settings |= {"unit": "no-such-unit", "slow": "200"}  # it is called three times
    script = render.script(
        "lib/as.sh", "lib/slurmctld.sh", "lib/temporary.sh", "controller/doctor_reach.sh", **settings
    )
    # PATH as slurmctld has it is not to be known here: nothing runs
    script = script.replace("/dev/shm", str(hostile_host.open))
    answer = hostile_host.run(script, shell)
    assert hostile_host.unharmed(), answer
    assert "code=" in answer.stdout
    assert list(hostile_host.open.glob("dws-on-csm*")) == []


def test_a_test_job_gets_nothing_of_roots(hostile_host: Host) -> None:
    """sbatch has a clean environment and no lock to pass on; SlurmUser's links harm no file of root's, though root writes."""
    hostile_host.program("kubectl", f'case "$*" in *--watch*) sleep 30 ;; esac\n{LINKS}')
    for name in ("scancel", "squeue", "scontrol"):
        hostile_host.program(name, "true")
    hostile_host.program(
        "sbatch", f'env >"{hostile_host.open}/env"; ls /proc/self/fd >"{hostile_host.open}/fd"; exit 1'
    )
    settings = {
        "kubeconfig": "/nowhere", "workflows": "workflows.x", "namespace": "default", "options": "", "allowed": "1",
        "state_folder": str(hostile_host.top), "slurm_user": SLURM_USER, "user": USER, "job_folder": "/tmp",
        "folder": str(hostile_host.etc), "unit": "no-such-unit", "name": "some", "RUN": "r1", "submitted": "", "user_number": "",
        "bbstat": "",
    }  # fmt: skip
    locks = f"exec 8>>{hostile_host.top}/entry 9>>{hostile_host.top}/busy\n"
    script = (
        "set -eu\n"
        + locks
        + render.script("lib/as.sh", "lib/temporary.sh", "lib/slurmctld.sh", "controller/test_job.sh", **settings)
    )
    script = script.replace("/dev/shm", str(hostile_host.open))
    hostile_host.program("sleep", 'case $1 in 30) exec /bin/sleep 30 ;; *) exec /bin/sleep "$1" ;; esac')
    answer = hostile_host.run(script, "dash", {"ROOTS_TOKEN": "geheim", "SBATCH_EXPORT": "ALL"}, 120)
    assert hostile_host.unharmed(), answer
    environment = (hostile_host.open / "env").read_text()
    assert "geheim" not in environment and "SBATCH" not in environment, environment
    assert f"USER={USER}\n" in environment
    assert set((hostile_host.open / "fd").read_text().split()) == {"0", "1", "2", "3"}
    assert list(hostile_host.open.glob("dws-on-csm*")) == []


# --- Slurm's programs and processes

WHO = (
    'id -u >>"$TOP/open/who"\necho "Slurmctld(primary) at $(uname -n) is UP"\necho "BurstBufferType = burst_buffer/lua"'
)


@pytest.mark.parametrize(
    "template", [f"controller/{name}.sh" for name in ("daemon", "jobs", "start", "queue", "nodes")]
)
def test_slurms_programs_are_slurm_users(hostile_host: Host, template: str) -> None:
    """They load plugins from where slurm.conf says, and SlurmUser can write that: they never run as root."""
    for name in ("scontrol", "squeue", "sinfo", "munge", "unmunge"):
        hostile_host.program(name, WHO)
    settings = {
        "partition": "",
        "folder": str(hostile_host.etc),
        "unit": "no-such-unit",
        "state": str(hostile_host.top),
    }
    hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    parts = ("lib/as.sh", "lib/slurmctld.sh", "lib/slurm_start.sh", template)
    answer = hostile_host.run(render.script(*parts, **settings))
    assert set((hostile_host.open / "who").read_text().split()) == {"1"}, answer


@pytest.mark.parametrize("template", ["controller/daemon.sh", "controller/jobs.sh"])
def test_a_slurm_conf_that_makes_slurm_user_root_is_believed_from_root_alone(hostile_host: Host, template: str) -> None:
    """Whoever can write that line could be root by it; nothing of Slurm is run then, and nothing is known."""
    for name in ("scontrol", "squeue"):
        hostile_host.program(name, WHO)
    hostile_host.owned(hostile_host.etc / "slurm.conf", "SlurmUser=root\n", mode=0o644)
    hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit", "state": str(hostile_host.top)}
    script = render.script("lib/as.sh", "lib/slurmctld.sh", template, **settings)
    answer = hostile_host.run(script)
    assert (hostile_host.open / "who").read_text() == "", answer
    assert "answers=yes" not in answer.stdout and "ping=" not in answer.stdout
    for path in (hostile_host.etc, hostile_host.etc / "slurm.conf"):
        shutil.chown(path, "root")
    assert "answers=yes" in (told := hostile_host.run(script).stdout) or "ping=" in told
    assert set((hostile_host.open / "who").read_text().split()) == {"0"}


@pytest.mark.parametrize("name", ["slurmctld", "slurmctld-wlm"])
@SHELLS
def test_a_process_that_only_calls_itself_slurmctld(hostile_host: Host, shell: str, name: str) -> None:
    """Where there is no systemd: only root's or SlurmUser's is one, and only if root alone could put its program there."""
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd says here which process is slurmctld")
    roots = hostile_host.programs / name
    theirs = hostile_host.open / "slurmctld"
    other = hostile_host.programs / "sleeper"
    for path in (roots, theirs, other):
        shutil.copy("/bin/sleep", path)
        path.chmod(0o755)
    shutil.chown(theirs, SLURM_USER)
    script = render.script("lib/as.sh", "lib/slurmctld.sh", folder=str(hostile_host.etc), unit="no-such-unit")
    with (
        running(USER, [roots, "60"]) as a_users,
        running(SLURM_USER, [theirs, "60"]) as of_a_program_of_its_own,
        running(SLURM_USER, [other, "60"]) as another,
        running(SLURM_USER, [roots, "60"]) as right,
    ):
        hostile_host.program("pgrep", f"printf '%s\\n' {a_users} {of_a_program_of_its_own} {another} {right}")
        assert hostile_host.run(script + "main_pid", shell).stdout == f"{right}\n"
        hostile_host.program("pgrep", f"printf '%s\\n' {a_users} {of_a_program_of_its_own} {another}")
        assert hostile_host.run(script + "main_pid", shell).stdout == ""


def test_a_program_of_another_user(hostile_host: Host) -> None:
    """A slurmctld or a Lua of SlurmUser's is asked for its version as SlurmUser, on `plan` too."""
    hostile_host.program("pgrep", "exit 1")
    path = hostile_host.owned(hostile_host.programs / "slurmctld", "", mode=0o755)
    lua = hostile_host.owned(hostile_host.programs / "lua5.4", "", mode=0o755)
    hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    for file, says in ((path, "slurm 24.05"), (lua, "Lua 5.4.6")):
        file.write_text(f"#!/bin/sh\nid -u >>{hostile_host.open}/who\necho {says}\n")
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    answer = hostile_host.run(
        render.script("lib/as.sh", "lib/slurmctld.sh", "lib/lua.sh", "controller/controller.sh", **settings)
    )
    found = controller.parse(answer.stdout.encode())
    assert found["version"] == "24.05", answer
    assert ["5.4", str(lua)] in found["lua"]
    assert set((hostile_host.open / "who").read_text().split()) == {"1"}


def test_a_slurmctld_of_others_that_runs_as_root_is_not_run_once_more(hostile_host: Host) -> None:
    """SlurmUser is root, and systemd runs a program that another user can write: what root does of that stays the site's."""
    for path in (hostile_host.etc, hostile_host.etc / "slurm.conf"):
        shutil.chown(path, "root")
    (hostile_host.etc / "slurm.conf").write_text("SlurmUser=root\n")
    hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    folder = hostile_host.open / "theirs"
    folder.mkdir()
    shutil.chown(folder, SLURM_USER)
    for name in ("slurmctld", "scontrol"):
        hostile_host.owned(folder / name, f"#!/bin/sh\nid -u >>{hostile_host.open}/who\necho slurm 24.05\n", mode=0o755)
    settings = {"folder": str(hostile_host.etc), "unit": "slurmctld", "state": str(hostile_host.top)}
    said = f"systemd() {{ false; }}\nmain_pid() {{ echo 1; }}\nprogram_file() {{ echo {folder}/slurmctld; }}\n"
    for templates in (
        ("lib/lua.sh", "controller/controller.sh"),
        ("controller/daemon.sh",),
        ("host/support.sh",),
    ):
        script = render.script("lib/as.sh", "lib/slurmctld.sh", **settings) + said
        answer = hostile_host.run(script + "\n".join(render.read(name) for name in templates))
        assert (hostile_host.open / "who").read_text() == "", answer


def test_a_file_of_others_that_slurm_conf_includes_makes_nobody_root(hostile_host: Host) -> None:
    """Its PluginDir would be root's, too."""
    hostile_host.program("scontrol", WHO)
    for path in (hostile_host.etc, hostile_host.etc / "slurm.conf"):
        shutil.chown(path, "root")
    (hostile_host.etc / "slurm.conf").write_text("SlurmUser=root\nInclude theirs.conf\n")
    hostile_host.owned(hostile_host.etc / "theirs.conf", "PluginDir=/evil\n", mode=0o644)
    hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    script = (
        render.script("lib/as.sh", "lib/slurmctld.sh", folder=str(hostile_host.etc), unit="no-such-unit")
        + "find_slurm\npings\n"
    )
    assert hostile_host.run(script).stdout == ""
    assert (hostile_host.open / "who").read_text() == ""


# --- nothing is read on behalf of somebody who may not read it


def test_a_slurm_conf_that_includes_what_only_root_may_read(hostile_host: Host) -> None:
    """An Include, or a link, that leads to a file of root's tells none of it."""
    hostile_host.program("pgrep", "exit 1")
    (hostile_host.etc / "link.conf").symlink_to(hostile_host.secret)
    conf = f"SlurmUser={SLURM_USER}\nInclude {hostile_host.secret}\nInclude link.conf\nInclude more.conf\n"
    hostile_host.owned(hostile_host.etc / "slurm.conf", conf, mode=0o644)
    hostile_host.owned(hostile_host.etc / "more.conf", "X=1\n", mode=0o600)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    answer = hostile_host.run(
        render.script("lib/as.sh", "lib/slurmctld.sh", "lib/lua.sh", "controller/controller.sh", **settings)
    )
    found = controller.parse(answer.stdout.encode())
    assert SECRET not in "".join(found["files"].values()), answer
    assert found["files"][f"{hostile_host.etc}/more.conf"] == "X=1\n"
    assert f"{hostile_host.etc}/link.conf" in found["unreadable"]


def test_a_plugin_that_is_a_link_to_what_only_root_may_read(hostile_host: Host) -> None:
    """What a plan would show as a difference, and a journal would keep, is nothing that SlurmUser can't read itself."""
    file = hostile_host.etc / names.PLUGIN_LUA
    script = render.script(
        "lib/slurm_conf.sh",
        "lib/holds_secret.sh",
        "controller/plugin_file.sh",
        folder=str(hostile_host.etc),
        file=str(file),
    )
    file.symlink_to(hostile_host.secret)
    assert (
        steps.parse(plugin.STAGE, "lua", hostile_host.run(script).stdout.encode())["text"]
        == "-- (this file can not be read to its end)\n"
    )
    file.unlink()
    hostile_host.owned(file, "return 0\n")
    assert steps.parse(plugin.STAGE, "lua", hostile_host.run(script).stdout.encode())["text"] == "return 0\n"


@pytest.mark.parametrize("template", ["controller/logs.sh", "controller/doctor_teardown.sh", "host/support.sh"])
def test_a_log_that_is_named_to_have_another_file_read(hostile_host: Host, template: str) -> None:
    """SlurmctldLogFile is SlurmUser's word: the log is read with SlurmUser's rights, for the support archive too."""
    wanted = "[2030-01-01T00:00:00.000] error: lua: slurm_bb_job_teardown(), workflow=bb1: x: DWS driver error(s): "
    hostile_host.secret.write_text(f"{wanted}{SECRET}")
    log = hostile_host.owned(hostile_host.etc / "log", f"{wanted}their own\n")
    settings = {
        "folder": str(hostile_host.etc),
        "unit": "no-such-unit",
        "state": str(hostile_host.state),
        "mark": "MARK",
        "since": "1",
        "follow": "",
        "past": "60",
        "days": "3",
        "reported": "20",
        "in_pod": "",
    }
    script = render.script("lib/as.sh", "lib/slurmctld.sh", template, **settings)
    for named, seen in ((hostile_host.secret, False), (log, True)):
        conf = f"SlurmUser={SLURM_USER}\nSlurmctldLogFile={named}\n"
        hostile_host.owned(hostile_host.etc / "slurm.conf", conf, mode=0o644)
        answer = hostile_host.run(f"echo go | (\n{script}\n)")
        assert SECRET not in answer.stdout
        assert ("their own" in answer.stdout) is seen, answer


def test_a_log_path_that_names_a_secret_file(hostile_host: Host) -> None:
    """What an activation tells of a slurmctld that ended is nothing that only root may read."""
    text = render.read("controller/activate.sh")
    words = text[text.index("last_words() {") : text.index("undo_after_failure() {")]
    hostile_host.secret.write_text(f"fatal: {SECRET}")
    log = hostile_host.owned(hostile_host.etc / "log", "fatal: their own\n")
    script = render.script("lib/as.sh", "lib/slurmctld.sh", folder=str(hostile_host.etc), unit="no-such-unit")
    script += f'work={hostile_host.top}\nlog_at=0\nsince=0\nsay() {{ echo "$*"; }}\n{words}\n'
    told = {one: hostile_host.run(f"{script}log={one}\nlast_words").stdout for one in (hostile_host.secret, log)}
    assert told == {hostile_host.secret: "", log: "  fatal: their own\n"}


# --- the plugin's Lua


def test_the_plugin_is_loaded_as_slurm_user(hostile_host: Host) -> None:
    """What it does when it is loaded, it does with SlurmUser's rights; as root it is not tried where others wrote it."""
    lua = shutil.which("lua5.4")
    assert lua, "lua5.4 is needed: apt-get install lua5.4"
    file = hostile_host.etc / names.PLUGIN_LUA
    told = hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    harm = base64.b64encode(f"os.execute('id -u >>{told}')\n".encode()).decode()
    settings = {"file": str(file), "lua": lua, "program": render.read("controller/load.lua"), "hooks": ""}
    for user, expected in ((SLURM_USER, ["1"]), ("root", ["1"])):  # as root: not once more
        hostile_host.owned(hostile_host.top / "slurm.conf", f"SlurmUser={user}\n", "root", 0o644)
        script = render.script("lib/slurm_conf.sh", "controller/load.sh", folder=str(hostile_host.top), **settings)
        hostile_host.owned(file, "")
        answer = hostile_host.run(f"{script}echo {harm} | base64 -d | loads")
        assert told.read_text().split() == expected, answer
    assert answer.returncode == 1


def test_a_lua_of_others_runs_nothing_as_root(hostile_host: Host) -> None:
    """Where SlurmUser is root, a Lua that somebody else can replace loads no text of anybody's."""
    told = hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    hostile_host.owned(hostile_host.top / "slurm.conf", "SlurmUser=root\n", "root", 0o644)
    lua = hostile_host.owned(hostile_host.etc / "lua5.4", f"#!/bin/sh\nid -u >>{told}\necho Lua 5.4\n", mode=0o755)
    settings = {"folder": str(hostile_host.top), "lua": str(lua), "program": "", "hooks": "", "file": ""}
    answer = hostile_host.run(
        render.script("lib/slurm_conf.sh", "controller/load.sh", **settings) + "echo 'return 0' | loads"
    )
    assert (answer.returncode, told.read_text()) == (1, ""), answer
    search = f"PATH={hostile_host.etc}:$PATH\ninterpreters root"
    answer = hostile_host.run(render.script("lib/as.sh", "lib/lua.sh") + search)
    assert (str(lua) in answer.stdout, told.read_text()) == (False, ""), answer
