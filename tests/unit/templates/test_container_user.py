"""Scripts in a container whose user is SlurmUser, not root: nothing becomes anybody else, and nothing has to."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dws_on_csm.engine.host_script import compile_actions
from dws_on_csm.model import render
from dws_on_csm.model.actions import OWN_STATE, STATE, RunScript
from tests.unit.hostile import SLURM_USER, Host, hostile_host, needs_root, running

__all__ = ["hostile_host"]
pytestmark = [pytest.mark.slow, needs_root]

ME = pwd.getpwnam(SLURM_USER)
SHELLS = pytest.mark.parametrize("shell", ["dash", "bash --posix"])


@pytest.fixture
def container(hostile_host: Host) -> Iterator[Host]:
    """A host where each program that takes on another account's rights, or gives a file away, says so and fails."""
    for name in ("setpriv", "su", "runuser", "sudo", "chown", "chroot"):
        hostile_host.program(name, f'echo "{name} was called: $*" >&2; exit 99')
    hostile_host.program("pgrep", "exit 1")
    shutil.chown(hostile_host.etc, "root")
    (hostile_host.etc / "slurm.conf").unlink()
    (hostile_host.etc / "slurm.conf").write_text(f"ClusterName=x\nSlurmUser={SLURM_USER}\nInclude more.conf\n")
    (hostile_host.etc / "more.conf").write_text("PluginDir=/opt/plugins\n")
    yield hostile_host
    shutil.rmtree(f"/dev/shm/dws-on-csm-{ME.pw_uid}", ignore_errors=True)


def run(host: Host, script: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    """The script as the container's user runs it."""
    return subprocess.run(
        [*shell.split(), "-c", script],
        env={"PATH": f"{host.programs}:/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=ME.pw_uid,
        group=ME.pw_gid,
        extra_groups=[],
    )


def library(host: Host, *names: str, **settings: str) -> str:
    return render.script(*names, folder=str(host.etc), unit="no-such-unit", **settings) + "\n"


@SHELLS
def test_whoever_is_asked_for_it_is_this_user(container: Host, shell: str) -> None:
    """`as root` and `as SlurmUser` run the command as the user that the script has already; its HOME is that user's."""
    script = (
        library(container, "lib/slurmctld.sh") + 'as root id -u; as "$slurm_uid" id -u; as root sh -c \'echo "$HOME"\''
    )
    done = run(container, script, shell)
    assert (done.stdout, done.stderr) == (f"{ME.pw_uid}\n{ME.pw_uid}\n{ME.pw_dir}\n", "")


@SHELLS
def test_nobody_else_can_be_asked_for(container: Host, shell: str) -> None:
    """A command as another user is refused with the reason; neither it nor setpriv runs."""
    done = run(container, library(container, "lib/as.sh") + "as nobody echo ran", shell)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr == f"user {ME.pw_uid} cannot become nobody: nothing was run\n"


@SHELLS
def test_slurm_conf_and_the_plugin_are_read(container: Host, shell: str) -> None:
    """The container's user reads root's files, as a ConfigMap's are, and what slurm.conf includes."""
    (container.etc / "burst_buffer.lua").write_text("x = 1\n")
    done = run(container, library(container, "lib/slurmctld.sh") + "conf_texts file", shell)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        f"file={container.etc}/slurm.conf",
        f"file={container.etc}/more.conf",
    ]
    names = ("lib/slurm_conf.sh", "lib/holds_secret.sh", "controller/plugin_file.sh")
    done = run(container, library(container, *names, file=f"{container.etc}/burst_buffer.lua"), shell)
    assert "mode=644\nowner=root:root\nsize=6 bytes\n" in done.stdout and "content=eCA9IDEK\n" in done.stdout
    assert done.stderr == ""


@SHELLS
def test_slurms_programs_and_kubectl_run(container: Host, shell: str) -> None:
    """scontrol, and kubectl with its cache in memory, which this user need not be given."""
    container.program("scontrol", 'echo "scontrol $(id -u)"')
    container.program("kubectl", 'echo "kubectl $(id -u)"; : >"$HOME/cache"')
    body = """
find_slurm
slurm scontrol ping
choose_runner "$file" || exit 1
make_memory_folder "$runner"
remove_at_exit "$work"
runner_kubectl 20 "$file" get pods
"""
    script = library(container, "lib/temporary.sh", "lib/slurmctld.sh", file=f"{container.etc}/kubeconfig") + body
    done = run(container, script, shell)
    assert (done.stdout, done.stderr) == (f"scontrol {ME.pw_uid}\nkubectl {ME.pw_uid}\n", "")


@SHELLS
def test_of_a_process_only_its_own_user_is_asked(container: Host, shell: str) -> None:
    """The environment of slurmctld, which is this user's; for another user's nobody else is tried."""
    with running(SLURM_USER, ["sleep", "100"]) as mine, running("nobody", ["sleep", "100"]) as theirs:
        script = (
            library(container, "lib/as.sh") + f"read_proc {mine} cmdline | tr '\\0' ' '; read_proc {theirs} environ"
        )
        done = run(container, script, shell)
    assert (done.stdout, done.stderr) == ("sleep 100 ", "")


@SHELLS
def test_an_action_keeps_its_records_where_this_user_can_write(container: Host, shell: str) -> None:
    """/var/lib/dws-on-csm is root's: the fence and the record of what slurmctld has read are in memory."""
    script, _ = compile_actions([RunScript("x", 'printf "%s\\n" "$STATE"')], "run-1", "mark")
    done = run(container, script, shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"/dev/shm/dws-on-csm-{ME.pw_uid}"
    assert Path(f"/dev/shm/dws-on-csm-{ME.pw_uid}/busy").read_text() == "run-1\n"


@SHELLS
def test_a_record_is_of_one_slurmctld(container: Host, shell: str) -> None:
    """Memory outlives a container: a record of the slurmctld before is none of the present one's."""
    base = library(container, "lib/slurmctld.sh", "pod/pod_start_files.sh", state="/var/lib/dws-on-csm")
    with running(SLURM_USER, ["sleep", "100"]) as first, running(SLURM_USER, ["sleep", "100"]) as second:
        noted = f"main_pid() {{ echo {first}; }}\nis_recorded {first} || echo none\nrecord_start_files\n"
        told = f"for one in {first} {second}; do is_recorded $one && echo yes || echo no; done"
        done = run(container, base + noted + told, shell)
    assert (done.stdout, done.stderr) == ("none\nyes\nno\n", "")
    record = Path(f"/dev/shm/dws-on-csm-{ME.pw_uid}/activation").read_text()
    assert f" {container.etc}/more.conf\n" in record and "sum=" in record


@SHELLS
def test_two_stages_may_record_at_once(container: Host, shell: str) -> None:
    """The stages access and plugin do, in one pod: the one that is in the middle of its record loses nothing to the other."""
    shared = container.etc / "shared"
    shared.mkdir()
    shutil.chown(shared, SLURM_USER)
    begun, over = shared / "begun", shared / "over"
    base = (
        library(container, "lib/slurmctld.sh", "pod/pod_start_files.sh", state="/var/lib/dws-on-csm")
        + "main_pid() { echo 1; }\n"
    )
    slow = f"start_files() {{ : >{begun}; until [ -e {over} ]; do :; done; }}\n"
    fast = f"start_files() {{ until [ -e {begun} ]; do :; done; }}\nrecord_start_files\n: >{over}\n"
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, container, base + script, shell) for script in (f"{slow}record_start_files\n", fast)]
        assert [(done.result().returncode, done.result().stderr) for done in both] == [(0, ""), (0, "")]
    assert not [*Path(f"/dev/shm/dws-on-csm-{ME.pw_uid}").glob("*.part*")]


@SHELLS
def test_what_another_user_of_the_container_made_first_is_no_memory_of_ours(container: Host, shell: str) -> None:
    """The name of the folder in memory can be known before: what another user put there is neither believed nor written to, and the
    script says so.
    """
    place = Path(f"/dev/shm/dws-on-csm-{ME.pw_uid}")
    shutil.rmtree(place, ignore_errors=True)
    base = library(container, "lib/slurmctld.sh", "pod/pod_start_files.sh", state=STATE)
    change = compile_actions([RunScript("change", "echo done")], "20260101T000000Z-0000", "mark")[0]
    for make in ("folder", "open to others", "link"):
        if make == "link":
            place.symlink_to(container.open)
        else:
            place.mkdir(mode=0o777)
            place.chmod(0o777)
            shutil.chown(place, "nobody" if make == "folder" else SLURM_USER)
            (place / "activation").write_text(f"process={ME.pw_uid}\n")
        before = sorted(place.iterdir())
        for script in (base + "record_start_files; is_recorded 1 && echo believed", change):
            done = run(container, script, shell)
            assert done.returncode == 1 and "another user of this container has made it" in done.stderr
            assert "believed" not in done.stdout and "done" not in done.stdout and sorted(place.iterdir()) == before
        if make == "link":
            place.unlink()
        else:
            shutil.rmtree(place)


def test_root_keeps_its_folder() -> None:
    """Root keeps /var/lib/dws-on-csm, on a host and in a container whose user is root."""
    script = f'STATE={STATE}\n{OWN_STATE}echo "$STATE"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "/var/lib/dws-on-csm\n"
