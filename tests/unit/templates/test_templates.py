"""Every script that root runs is tried against a hostile SlurmUser or user, or says why nothing of theirs is in it.

The lists are held against templates/ and against the scripts that lie in dws_on_csm/: a new one without its entry fails.
"""

from __future__ import annotations

import ast
import base64
import gzip
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.rollback import files, unchanged
from tests.unit import listed
from tests.unit.hostile import HELD, SECRET, SLURM_USER, Host, hostile_host, needs_root

__all__ = ["hostile_host"]

ELSEWHERE = {
    "lib/safe_file.sh": (
        "test_host_script.test_nothing_of_roots_is_given_away_in_a_race",
        "test_host_script.test_what_slurm_user_put_in_a_files_place_is_not_followed",
    ),
    "host/restore_file.sh": ("test_host_script.test_what_slurm_user_put_in_a_files_place_is_not_followed",),
    "controller/activate.sh": ("test_transaction_hostile.test_what_slurm_user_put_in_slurm_confs_place_is_refused",),
    "controller/key_pieces.sh": ("test_redact.test_a_key_is_summed_where_it_is_slurm_users_alone",),
    "controller/auth_keys.sh": ("test_controller_links.test_a_key_that_is_no_file_is_not_waited_for",),
    "controller/run_activation.sh": (
        "test_transaction_hostile.test_what_slurm_user_put_in_slurm_confs_place_is_refused",
    ),
    "lib/detach.sh": ("test_transaction_hostile.test_a_slurmctld_holds_no_lock_of_the_activation",),
    "controller/conf_path.sh": ("test_conf_path.test_what_a_process_says_states_no_other_fact",),
    "controller/file_systems.sh": (
        "test_host_state.test_what_slurm_user_names_as_its_folder_is_neither_run_nor_opened",
    ),
    "host/file_systems.sh": ("test_host_state.test_what_slurm_user_names_as_its_folder_is_neither_run_nor_opened",),
    "controller/slurm_folders.sh": ("test_writable_folders.test_a_foreign_link_is_a_finding",),
    "engine/host_script.LIBRARY": ("test_host_script.test_nothing_of_roots_is_given_away_in_a_race",),
    "stages/slurm/slurm_user._CAN_I": ("test_hostile.test_a_link_where_root_would_write_is_never_followed",),
    "stages/verify_cancel.LOOK_ACTIVE": ("test_hostile_slurm_user.test_root_uses_no_kubeconfig_of_others",),
    "commands/doctor/probes._LOADS": ("test_hostile.test_the_plugin_is_loaded_as_slurm_user",),
}
"""Script -> the tests, beside those in HELD, that run it with something of SlurmUser's or a user's in its way."""

STATE_ALONE = "works in /var/lib/dws-on-csm, which is root's alone"
CLUSTER = "works on the cluster and the registry, through pipes and in folders of root's"
FUNCTIONS = "functions that judge or pass on what they are given; they open nothing"
APART = {
    "engine/cluster_lease._IDENTITY": "reads the master's name and id, which are root's",
    "transport/openssh.SUPERVISE": "runs on the operator's own machine, as the operator",
    "controller/activation_look.sh": STATE_ALONE,
    "master/ca.sh": "reads the CA's certificates and key, which are root's, by openssl",
    "master/closing.py": CLUSTER,
    "master/dependents.py": CLUSTER,
    "lib/fence.sh": STATE_ALONE,
    "lib/own_state.sh": "root gets its own folder back; test_container_user tries it as another user",
    "host/history.sh": STATE_ALONE,
    "lib/holds_secret.sh": FUNCTIONS,
    "lib/key_fits.sh": "openssl reads a key and a certificate from pipes; test_revoke tries it with those of others",
    "master/images_look.sh": CLUSTER,
    "master/images_push.sh": CLUSTER,
    "master/images_writable.sh": CLUSTER,
    "master/last_look.py": CLUSTER,
    "controller/load.lua": "SlurmUser runs it, and it reads its standard input alone",
    "master/lock.sh": STATE_ALONE,
    "master/lock_holder.sh": STATE_ALONE,
    "master/lock_release.sh": STATE_ALONE,
    "master/lock_renew.sh": STATE_ALONE,
    "master/lock_take.sh": STATE_ALONE,
    "pod/rollout.sh": CLUSTER,
    "pod/pod_candidate.sh": "runs in the container of a pod, by the functions of slurm_start.sh",
    "pod/pod_answers.sh": "waits in the container of a pod, by the functions of slurmctld.sh",
    "pod/pod_edit.py": CLUSTER,
    "pod/run_rollout.sh": STATE_ALONE,
    "pod/pod_start_files.sh": "tells checksums of what is mounted in a container to be read only",
    "master/registry.py": CLUSTER,
    "master/registry.sh": CLUSTER,
    "master/registry_look.sh": CLUSTER,
    "master/registry_seen.sh": CLUSTER,
    "controller/shim.lua": "a part of a file that is put, and read by slurmctld",
    "master/sign.sh": "works in a new folder of root's on the master, and with the CA's key",
    "master/undeploy.sh": CLUSTER,
    "lib/proxy.sh": FUNCTIONS,
    "lib/durable.sh": STATE_ALONE,
    "kube/pod_session._EXEC": CLUSTER,
    "commands/discover/command._NODE": "asks stat for the type of a file system",
    "commands/discover/hosts._UNIT": "asks systemd and the kernel for units",
    "commands/discover/master.SCRIPT": "asks whether files of root's are there, and for addresses",
    "commands/discover/slurm._USERS": "asks for users, and squeue as SlurmUser",
    "commands/doctor/controller_links._LOOK_UP": "asks the name service for names of slurm.conf, and prints addresses alone",
    "commands/doctor/at_work.RUNNING_SCRIPT": STATE_ALONE,
    "runner/run_log._LINE": STATE_ALONE,
    "runner/run_log._JOURNAL": STATE_ALONE,
    "runner/run_log._PRUNE": STATE_ALONE,
    "runner/locked._LAST": STATE_ALONE,
    "engine/before_images._APPEND": STATE_ALONE,
    "stages/slurm/transaction._SETTLE": STATE_ALONE,
    "stages/access/kubeconfig._TRY_TEXT": "makes a new file of root's, without a secret, which SlurmUser only reads",
    "stages/access/signing._LOOK": "reads the CA's certificates and key, which are root's, by openssl",
    "stages/dws/remove.WITHOUT_NAMESPACE": CLUSTER,
    "stages/slurm/close_dws._ROLLOUT": STATE_ALONE,
    "stages/dws/manifests._RENDERED": CLUSTER,
    "stages/dws/manifests.TRIM": CLUSTER,
    "stages/pod/files._UNREAD": "asks stat for times in a container",
    "stages/preflight/master._MASTER": "asks for programs, room and rights on the master; it opens nothing",
    "stages/preflight/endpoints._REACH": "opens a connection to the API server",
    "stages/rollback/files.CONTENT": "prints what restored_files._LOOK has read",
    "stages/rollback/objects._PUT": CLUSTER,
    "stages/rollback/objects._FORMER": STATE_ALONE,
    "stages/rollback/unchanged._RECORDS": STATE_ALONE,
    "stages/slurm/slurm_user._TRY": "the parts of it are slurm_user._CAN_I's",
    "host/test_user.sh": "asks for users, and tests a folder as the user",
    "stages/verify._CANCEL": "runs only scancel, as the job's user by as.sh",
    "host/submit_job.sh": "enters the job's folder, and runs only Slurm's commands, as the job's user by as.sh",
    "stages/dws/workarea._CLONE": "reads the clone by git.sh, which does not run in one that others can write",
}
"""Scripts in which nothing of others lies, and why."""

OF_OTHERS = re.compile(r"\$\{?(?:file|kubeconfig|conf|job_folder|log)\b|/tmp\b|/etc/slurm|<\"?\$\{?folder/")
"""What a script in APART has no business with: names of files in folders of others, and folders in which all can write."""

EXEMPT = {
    "commands/discover/command._NODE",
    "commands/discover/master.SCRIPT",
    "stages/access/kubeconfig._TRY_TEXT",
    "pod/pod_start_files.sh",
    "master/sign.sh",
    "stages/pod/files._UNREAD",
    "host/test_user.sh",
    "host/submit_job.sh",
}
"""Scripts in APART with such a name, whose reason says what it is there."""


MKTEMP = re.compile(r"\bmktemp\b(?! (?:-d )?(?:/dev/shm/|\"\$(?:STATE|state)/|\"\./))")


def embedded() -> Iterator[tuple[str, str]]:
    """The scripts that lie in dws_on_csm/: constants of several lines in which a shell would find something to do."""
    for path in sorted(Path(names.__file__).parents[1].rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                text = "".join(
                    one.value
                    for one in ast.walk(node.value)
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )
                if text.count("\n") > 1 and re.search(r"\$[a-z({\"]|\bif \[|\b(?:mv|rm|cat|mkdir) ", text):
                    place = path.relative_to(Path(names.__file__).parents[1]).with_suffix("")
                    yield f"{place}.{node.targets[0].id}", text


@cache
def scripts() -> dict[str, str]:
    """All that root runs, by name."""
    files = {
        one.relative_to(render.TEMPLATES).as_posix(): one.read_text()
        for one in render.TEMPLATES.rglob("*")
        if one.suffix in (".sh", ".py", ".lua")
    }
    return files | {name: text for name, text in embedded() if name not in NO_SCRIPT}


def test_no_new_file_or_folder_is_made_in_tmp() -> None:
    """Where /tmp is not sticky others could put their own there: it is made beside our records or the file, or in memory."""
    assert [name for name, text in scripts().items() if MKTEMP.search(re.sub(r"(?m)^\s*#.*$", "", text))] == []


NO_SCRIPT = {"commands/doctor/support_archive.README", "redaction/secret_forms.FORMS"}
"""Texts that only look like one."""


def test_every_script_is_tried_or_says_why_it_need_not_be() -> None:
    """A new one has an entry: in HELD (hostile.py), in READERS or ELSEWHERE with a test, or in APART with a reason."""
    known = {*HELD, *ELSEWHERE, *READERS, *APART}
    assert set(scripts()) - known == set()
    for module, name in {tuple(one.split(".")) for some in ELSEWHERE.values() for one in some}:
        assert callable(getattr(listed.module(module), name, None)), name


@pytest.mark.parametrize("name", sorted(APART.keys() - EXEMPT))
def test_a_script_without_hostile_test_names_no_file_of_others(name: str) -> None:
    """By the names that such files have in all scripts; what is in /tmp or beside slurm.conf is tried instead."""
    text = scripts().get(name, "")
    code = "\n".join(re.sub(r"^\s*(?:#|--).*|\s# .*", "", line) for line in text.splitlines())
    assert OF_OTHERS.findall(code) == []


# --- what is read of others, for somebody to see


def conf_look(file: Path) -> str:
    return render.script("lib/safe_file.sh", "controller/conf_look.sh", file=str(file))


def compute_look(file: Path) -> str:
    return render.script("lib/safe_file.sh", "lib/holds_secret.sh", "controller/compute_look.sh", file=str(file))


def host_record(file: Path) -> str:
    settings = {
        "state": str(file.parent / "nowhere"),
        "first": "r",
        "conf": str(file),
        "literals": "",
        "kubeconfig": "",
    }
    return render.script("lib/safe_file.sh", "lib/holds_secret.sh", "host/host_record.sh", **settings)


def looked_at(file: Path) -> str:
    nothing = {"can_i": "can_i() { :; }", "token": "/nowhere", "service": "localhost"}
    script = kubeconfig.LOOK_KUBECONFIG.format(kubeconfig=file, **nothing)
    return render.script("lib/safe_file.sh", "lib/slurm_conf.sh", "lib/key_fits.sh", folder=str(file.parent)) + script


def restored(file: Path) -> str:
    look = files.LOOK.format(path=file) + files.CONTENT
    return render.script("lib/safe_file.sh", "lib/holds_secret.sh") + look


def sums(file: Path) -> str:
    return render.script("lib/safe_file.sh") + unchanged.SUMS.format(paths=file)


READERS: dict[str, Callable[[Path], str]] = {
    "controller/conf_look.sh": conf_look,
    "controller/compute_look.sh": compute_look,
    "host/host_record.sh": host_record,
    "stages/access/kubeconfig.LOOK_KUBECONFIG": looked_at,
    "stages/rollback/files.LOOK": restored,
    "stages/rollback/unchanged.SUMS": sums,
}
"""Script -> the whole of it, for a file in SlurmUser's folder. Root reads it, and prints what it is."""

TEXT = f"server: {SECRET}"
SUMS = ("stages/rollback/unchanged.SUMS",)
"""These tell a checksum alone."""


def told(out: str) -> str:
    """What was printed, and what it is decoded."""
    every = [out]
    for word in re.findall(r"[A-Za-z0-9+/=]{16,}", out):
        try:
            content = base64.b64decode(word, validate=True)
            every.append((gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode(errors="replace"))
        except (ValueError, OSError):
            continue
    return "\n".join(every)


def run(host: Host, script: str, shell: str) -> subprocess.CompletedProcess[str]:
    return host.run(f"set -u\n{script}", shell)


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("name", READERS)
def test_nothing_is_read_through_what_slurm_user_put_there(hostile_host: Host, name: str, shell: str) -> None:
    """A link, a fifo or a second name in a file's place: root's file is neither told nor summed, and nothing waits for ever."""
    hostile_host.secret.write_text(TEXT)
    script, file = READERS[name](hostile_host.etc / "file"), hostile_host.etc / "file"
    hostile_host.owned(file, TEXT)
    seen = told(run(hostile_host, script, shell).stdout)
    assert name in SUMS or SECRET.strip() in seen, "it does not read what it may"
    for trap in ("link", "fifo", "second name"):
        hostile_host.traps(file, trap)
        answer = run(hostile_host, script, shell)
        assert SECRET.strip() not in told(answer.stdout + answer.stderr)
        assert not re.search(r"[0-9a-f]{64}", answer.stdout)
        assert (hostile_host.secret.read_text(), hostile_host.secret.stat().st_mode & 0o777) == (TEXT, 0o600)


HALF = '/usr/bin/dd "$@" | head -c 7; echo "dd: error reading: Input/output error" >&2; exit 1'
"""A dd that can read the beginning of a file alone, as on a disk or a file server that fails."""


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_not_read_whole_fails_the_look(hostile_host: Host, name: str, shell: str) -> None:
    """Neither its beginning, nor nothing, is taken for what is in it, nor summed: what is there would be replaced for it."""
    script, file = READERS[name](hostile_host.etc / "file"), hostile_host.etc / "file"
    hostile_host.owned(file, TEXT)
    assert run(hostile_host, script, shell.split()[0]).returncode == 0
    hostile_host.program("dd", HALF)
    answer = run(hostile_host, script, shell.split()[0])
    assert answer.returncode != 0 and "Input/output error" in answer.stderr
    assert TEXT[:7] not in told(answer.stdout) and not re.search(r"[0-9a-f]{64}", answer.stdout)


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("reads", ["text_of root", f"text_of {SLURM_USER}", "sum_of"])
def test_a_look_reads_complete_files(hostile_host: Host, reads: str, shell: str) -> None:
    """The same for what is read as SlurmUser, and for checksums."""
    file = hostile_host.etc / "slurm.conf"
    script = f"{render.script('lib/as.sh')}\n{reads} {file}"
    answer = run(hostile_host, script, shell)
    assert answer.returncode == 0 and len(answer.stdout) > 20
    hostile_host.program("dd", HALF)
    answer = run(hostile_host, script, shell)
    assert answer.returncode != 0 and answer.stdout == ""


@needs_root
def test_a_file_replaced_during_a_read_is_old_or_new(hostile_host: Host) -> None:
    """What is put in its place meanwhile is read instead; one that never holds still is refused."""
    file = hostile_host.owned(hostile_host.etc / "file", "old\n")
    hostile_host.owned(hostile_host.etc / "next", "next\n")
    script = f"{render.script('lib/safe_file.sh')}\nread_file {file} cat"
    hostile_host.program(
        "dd", f'/usr/bin/dd "$@"; [ ! -e {hostile_host.etc}/next ] || mv {hostile_host.etc}/next {file}'
    )
    assert run(hostile_host, script, "dash").stdout == "next\n"
    hostile_host.program("dd", f'/usr/bin/dd "$@"; echo more >>{file}')
    answer = run(hostile_host, script, "dash")
    assert (answer.returncode, answer.stdout) == (
        1,
        "",
    ) and "could not be read completely, because another program is changing it: run again" in answer.stderr


BEFORE = "20260101T000000Z-aaaa"


@needs_root
@pytest.mark.parametrize("program", ["base64", "sha256sum", "find"])
def test_a_record_that_is_not_read_whole_fails_the_reading_of_what_there_was(hostile_host: Host, program: str) -> None:
    """A before-image is never told as an empty one, and none is left out: a rollback would bring back that."""
    image = hostile_host.state / "before" / BEFORE / "etc" / "slurm" / "burst_buffer.lua"
    image.parent.mkdir(parents=True)
    image.write_text("-- somebody's\n")
    settings = {"state": str(hostile_host.state), "first": "2", "conf": "", "literals": "", "kubeconfig": ""}
    script = render.script("lib/safe_file.sh", "lib/holds_secret.sh", "host/host_record.sh", **settings)
    answer = run(hostile_host, script, "dash")
    assert answer.returncode == 0 and f"image {BEFORE} 644 root:root" in answer.stdout
    hostile_host.program(program, 'case " $*" in *" -d"*) exec /usr/bin/base64 "$@" ;; esac\nexit 1')
    answer = run(hostile_host, script, "dash")
    assert answer.returncode != 0 and "image " not in answer.stdout
