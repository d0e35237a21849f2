"""Who SlurmUser is where somebody hostile has a hand in slurm.conf: real users, folders and processes, and what is run as whom."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages import verify_cancel
from dws_on_csm.stages.slurm import controller, slurm_user
from tests.unit.hostile import SLURM_USER, USER, Host, hostile_host, needs_root, running

__all__ = ["hostile_host"]
pytestmark = [needs_root, pytest.mark.slow]
SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])
VICTIM = "bin"
"""An account that has nothing to do with Slurm, number 2."""

SAYS = 'printf "%s|%s|%s\\n" "$slurm_uid" "$slurm_lacks" "$slurm_why"'


def resolver(host: Host) -> str:
    """The script that knows who SlurmUser is."""
    return render.script("lib/slurm_conf.sh", folder=str(host.etc))


def roots(*paths: Path) -> None:
    for path in paths:
        shutil.chown(path, "root", "root")
        path.chmod(0o755 if path.is_dir() else 0o644)


def conf(host: Host, text: str, user: str = "root", mode: int = 0o644) -> Path:
    return host.owned(host.etc / "slurm.conf", text, user, mode)


# --- root by another name

OTHER_NAMES = ["+0", '" 0"', "0x0", "00", "0", "toor", "root", '"root "']


@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize("template", [f"controller/{name}.sh" for name in ("daemon", "jobs", "controller", "queue")])
def test_root_by_another_name_is_root(hostile_host: Host, template: str, name: str) -> None:
    """Whoever can write slurm.conf makes SlurmUser root by none of the ways in which programs write it: nothing is run."""
    hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    hostile_host.program(
        "getent", 'case $2 in toor) echo toor:x:0:0::/root:/bin/sh ;; *) exec /usr/bin/getent "$@" ;; esac'
    )
    hostile_host.program("pgrep", "exit 1")
    for program in ("scontrol", "squeue", "slurmctld", "lua5.4"):
        hostile_host.owned(
            hostile_host.programs / program, f"#!/bin/sh\nid -u >>{hostile_host.open}/who\necho Lua 5.4\n", mode=0o755
        )
    conf(hostile_host, f"SlurmUser={name}\n", SLURM_USER)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit", "state": str(hostile_host.top)}
    answer = hostile_host.run(render.script("lib/slurmctld.sh", "lib/lua.sh", template, **settings))
    assert (hostile_host.open / "who").read_text() == "", answer


@pytest.mark.parametrize("name", ["daemon@site.example", "SITE+daemon"])
def test_a_name_may_have_its_domain(hostile_host: Host, name: str) -> None:
    """As sssd and winbind have it: SlurmUser is whom the host's name service knows by that name, and nobody where that is root."""
    line = f"case $2 in '{name}') echo '{name}:x:{{}}:1::/:/bin/sh' ;; *) exec /usr/bin/getent \"$@\" ;; esac"
    conf(hostile_host, f"SlurmUser={name}\n")
    roots(hostile_host.etc)
    script = render.script("lib/slurm_conf.sh", folder=str(hostile_host.etc), unit="no-such-unit")
    script += '\nprintf "%s %s\\n" "$slurm_uid" "$slurm_name"; as "$slurm_name" id -u'
    hostile_host.program("getent", line.format(1))
    assert hostile_host.run(script).stdout == f"1 {name}\n1\n"
    hostile_host.program("getent", line.format(0))
    assert hostile_host.run(f'{script} || echo "$?"').stdout.endswith("\n77\n")


@SHELLS
@pytest.mark.parametrize("name", ["+0", " 0", "00", "0", "0x0", "toor", "--help", "", "root\n", "1 2"])
def test_only_the_word_root_runs_a_command_as_root(hostile_host: Host, shell: str, name: str) -> None:
    """That word is in our own lines; a number, or another name, comes from somewhere else."""
    hostile_host.program(
        "getent", 'case $2 in toor) echo toor:x:0:0::/root:/bin/sh ;; *) exec /usr/bin/getent "$@" ;; esac'
    )
    script = render.script("lib/as.sh", who=name)
    answer = hostile_host.run(f'{script}as "$who" id -u', shell)
    assert (answer.stdout, answer.returncode) == ("", 77)
    assert hostile_host.run(f"{script}as root id -u; as 1 id -u; as daemon id -un", shell).stdout == "0\n1\ndaemon\n"


# --- which sites are believed


def _folder_of_slurm_users(host: Host) -> None:
    conf(host, f"SlurmUser={SLURM_USER}\n", SLURM_USER)


def _roots_file_in_it(host: Host) -> None:
    conf(host, f"SlurmUser={SLURM_USER}\n")


def _group_of_slurm_user(host: Host) -> None:
    shutil.chown(host.etc, SLURM_USER, SLURM_USER)
    host.etc.chmod(0o2775)
    conf(host, f"SlurmUser={SLURM_USER}\n", SLURM_USER, 0o664)


def _by_number(host: Host) -> None:
    conf(host, "SlurmUser=1\n", SLURM_USER)


def _all_roots(host: Host) -> None:
    roots(host.etc, conf(host, f"SlurmUser={SLURM_USER}\n"))


def _file_alone_is_slurm_users(host: Host) -> None:
    roots(host.etc)
    conf(host, f"SlurmUser={SLURM_USER}\n", SLURM_USER, 0o664)


def _include_of_slurm_users(host: Host) -> None:
    roots(host.etc)
    conf(host, "Include theirs.conf\n")
    host.owned(host.etc / "theirs.conf", f"SlurmUser={SLURM_USER}\n", SLURM_USER, 0o644)


def _behind_a_link_of_roots(host: Host) -> None:
    conf(host, f"SlurmUser={SLURM_USER}\n", SLURM_USER)
    host.etc.rename(host.top / "elsewhere")
    host.etc.symlink_to("elsewhere")


def _root_of_roots(host: Host) -> None:
    roots(host.etc, conf(host, "SlurmUser=root\n"))


def _no_file_in_roots(host: Host) -> None:
    roots(host.etc)
    (host.etc / "slurm.conf").unlink()


BELIEVED: Mapping[str, tuple[Callable[[Host], None], str]] = {
    "a folder of SlurmUser's": (_folder_of_slurm_users, "1"),
    "root's file in it": (_roots_file_in_it, "1"),
    "its group may write": (_group_of_slurm_user, "1"),
    "a number": (_by_number, "1"),
    "all is root's": (_all_roots, "1"),
    "the file alone is SlurmUser's": (_file_alone_is_slurm_users, "1"),
    "an included file is": (_include_of_slurm_users, "1"),
    "a link of root's leads there": (_behind_a_link_of_roots, "1"),
    "root, and all is root's": (_root_of_roots, "0"),
    "no file in root's folder": (_no_file_in_roots, "0"),
}


@SHELLS
@pytest.mark.parametrize("case", BELIEVED)
def test_sites_as_there_are(hostile_host: Host, shell: str, case: str) -> None:
    """Without a slurmctld that runs, too: whoever owns slurm.conf or its folder, or root alone, says who SlurmUser is."""
    hostile_host.program("pgrep", "exit 1")
    make, uid = BELIEVED[case]
    make(hostile_host)
    assert hostile_host.run(f"set -eu\n{resolver(hostile_host)}{SAYS}", shell).stdout == f"{uid}||\n"


def _another_account(host: Host) -> None:
    conf(host, f"SlurmUser={VICTIM}\n", SLURM_USER)


def _a_file_that_is_away(host: Host) -> None:
    (host.etc / "slurm.conf").unlink()


def _a_fifo(host: Host) -> None:
    (host.etc / "slurm.conf").unlink()
    os.mkfifo(host.etc / "slurm.conf")


def _an_include_that_is_away(host: Host) -> None:
    roots(host.etc)
    conf(host, f"SlurmUser={VICTIM}\nInclude {host.open}/theirs.conf\n")


def _an_include_of_others(host: Host) -> None:
    roots(host.etc)
    conf(host, "Include theirs.conf\n")
    host.owned(host.etc / "theirs.conf", f"SlurmUser={VICTIM}\n", SLURM_USER, 0o644)


def _a_link_to_the_victims(host: Host) -> None:
    (host.top / "victims").mkdir()
    shutil.chown(host.top / "victims", VICTIM)
    host.owned(host.top / "victims/slurm.conf", f"SlurmUser={VICTIM}\n", VICTIM, 0o644)
    (host.etc / "slurm.conf").unlink()
    (host.etc / "slurm.conf").symlink_to(host.top / "victims/slurm.conf")
    os.chown(host.etc / "slurm.conf", 1, 1, follow_symlinks=False)


def _a_second_name_of_the_victims(host: Host) -> None:
    victims = host.owned(host.top / "victims", f"SlurmUser={VICTIM}\n", VICTIM, 0o664)
    (host.etc / "slurm.conf").unlink()
    shutil.chown(victims, VICTIM, "nogroup")
    (host.etc / "slurm.conf").hardlink_to(victims)
    roots(host.etc)


def _a_file_of_the_victims_moved_there(host: Host) -> None:
    conf(host, f"SlurmUser={VICTIM}\n", VICTIM)


def _a_folder_of_the_victims_moved_there(host: Host) -> None:
    shutil.chown(host.top, SLURM_USER)
    shutil.chown(host.etc, VICTIM)
    conf(host, f"SlurmUser={VICTIM}\n", SLURM_USER)


def _a_group_of_administrators(host: Host) -> None:
    roots(host.etc)
    conf(host, f"SlurmUser={SLURM_USER}\n", mode=0o664)
    shutil.chown(host.etc / "slurm.conf", "root", "nogroup")


OPEN: Mapping[str, Callable[[Host], None]] = {
    "another account": _another_account,
    "a file that is away for an instant": _a_file_that_is_away,
    "a fifo in its place": _a_fifo,
    "an included file that is away": _an_include_that_is_away,
    "an included file of others": _an_include_of_others,
    "a link to a file of that account": _a_link_to_the_victims,
    "a second name of a file of that account": _a_second_name_of_the_victims,
    "a file of that account moved there": _a_file_of_the_victims_moved_there,
    "a folder of that account moved there": _a_folder_of_the_victims_moved_there,
    "a group of administrators": _a_group_of_administrators,
}


@SHELLS
@pytest.mark.parametrize("case", OPEN)
def test_no_other_account_becomes_slurm_user(hostile_host: Host, shell: str, case: str) -> None:
    """Whoever can write slurm.conf would have programs run with that account's rights; it is said which file is open to whom."""
    hostile_host.program("pgrep", "exit 1")
    ran = hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    hostile_host.program("scontrol", 'id >>"$TOP/open/who"')
    OPEN[case](hostile_host)
    script = render.script("lib/slurmctld.sh", folder=str(hostile_host.etc), unit="no-such-unit")
    answer = hostile_host.run(f"set -eu\n{script}{SAYS}\nset +e\nfind_slurm\nslurm scontrol ping\necho $?", shell)
    uid, lacks, why = answer.stdout.split("\n")[0].split("|")
    assert (uid, lacks) == ("", "open"), answer
    assert str(hostile_host.top) in why and "(owner " in why
    assert answer.stdout.endswith("77\n") and ran.read_text() == ""


@SHELLS
def test_a_slurmctld_that_runs_shows_who_slurm_user_is(hostile_host: Host, shell: str) -> None:
    """Where a group of administrators can write slurm.conf: the unit's, of root's program, with the rights of one account."""
    _a_group_of_administrators(hostile_host)
    roots_own, theirs = hostile_host.programs / "slurmctld", hostile_host.open / "slurmctld"
    for path in (roots_own, theirs):
        shutil.copy("/bin/sleep", path)
        path.chmod(0o755)
    shutil.chown(theirs, SLURM_USER)
    script = resolver(hostile_host) + 'echo "$slurm_uid"'
    script = script.replace("/run/systemd/system", str(hostile_host.own))
    with ExitStack() as processes:
        start = processes.enter_context
        mixed = start(_process("--ruid", "65534", "--euid", "1", "--clear-groups", str(roots_own), "60"))
        others = {
            "nobody's": start(running(USER, [roots_own, "60"])),
            "of a program of its own": start(running(SLURM_USER, [theirs, "60"])),
            "with the rights of two": mixed,
        }
        right = start(running(SLURM_USER, [roots_own, "60"]))
        for pid in (*others.values(), 0):
            hostile_host.program("systemctl", f"echo MainPID={pid}")
            assert hostile_host.run(script, shell).stdout == "\n", others
        hostile_host.program("systemctl", f"echo MainPID={right}")
        assert hostile_host.run(script, shell).stdout == "1\n"
        conf(hostile_host, f"SlurmUser={VICTIM}\n", mode=0o664)
        assert hostile_host.run(script, shell).stdout == "\n"
        conf(hostile_host, "SlurmUser=root\n", mode=0o664)
        assert hostile_host.run(script, shell).stdout == "\n"


@SHELLS
def test_a_slurmctld_that_anybody_has_started_shows_nothing(hostile_host: Host, shell: str) -> None:
    """Root's program may be everybody's to start: who can write slurm.conf does not become SlurmUser by starting it."""
    _a_group_of_administrators(hostile_host)
    conf(hostile_host, f"SlurmUser={USER}\n", mode=0o664)
    program = hostile_host.programs / "slurmctld"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o755)
    with running(USER, [program, "60"]) as pid:
        hostile_host.program("pgrep", f"echo {pid}")
        answer = hostile_host.run(resolver(hostile_host) + SAYS, shell)
    assert answer.stdout.startswith("|open|"), answer


class _process:
    """A process that setpriv starts, and its number."""

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(["setpriv", *words])

    def __enter__(self) -> int:
        while Path(f"/proc/{self._process.pid}/comm").read_text() == "setpriv\n":
            if self._process.poll() is not None:
                raise AssertionError("it ended")
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 7, 2**32 - 1),
        (2, 6, pwd.getpwnam(USER).pw_uid),
        (4, 5, 2**32 - 1),
        (16, 7, 2**32 - 1),
        (32, 5, 2**32 - 1),
    )
)
"""USER may read and write, the group may only read; the mode shows the mask where the group's rights would be."""


def name_another(path: Path) -> None:
    """Give USER rights at it."""
    try:
        os.setxattr(path, "system.posix_acl_access", ACL)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        pytest.skip("this file system has no ACLs")


@SHELLS
@pytest.mark.parametrize("at", ["file", "folder"])
def test_an_acl_makes_nobody_root(hostile_host: Host, shell: str, at: str) -> None:
    """Where it lets another user write what is root's and its group's, that is not root's alone: no Slurm of it runs as root."""
    hostile_host.program("pgrep", "exit 1")
    ran = hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    hostile_host.program("scontrol", 'id >>"$TOP/open/who"')
    file = conf(hostile_host, "SlurmUser=root\n")
    roots(hostile_host.etc, file)
    file.chmod(0o664)
    script = render.script("lib/slurmctld.sh", folder=str(hostile_host.etc), unit="no-such-unit") + SAYS
    assert hostile_host.run(script, shell).stdout == "0||\n"
    name_another(file if at == "file" else hostile_host.etc)
    answer = hostile_host.run(f"{script}\nfind_slurm\nslurm scontrol ping", shell)
    assert answer.stdout.startswith("|open|"), answer
    assert ran.read_text() == ""


def test_a_link_in_a_folder_that_an_acl_opens_is_not_followed(hostile_host: Host) -> None:
    """Another user can write there, whatever the group: root follows no link, and takes no clone for its own."""
    folder = hostile_host.own
    (folder / "link").symlink_to("file")
    (folder / "file").write_text("text\n")
    folder.chmod(0o775)
    follows = f"{render.read('lib/safe_file.sh')}\nread_file {folder}/link"
    theirs = f"{render.script('lib/as.sh', 'lib/git.sh')}\nfirst_writable {folder}"
    assert hostile_host.run(follows).stdout == "text\n"
    assert hostile_host.run(theirs).stdout == ""
    name_another(folder / "file")
    assert hostile_host.run(theirs).stdout == f"{folder}/file\n"
    name_another(folder)
    assert "does not follow the link" in hostile_host.run(follows).stderr
    assert hostile_host.run(theirs).stdout == f"{folder}\n"


def test_who_is_not_root_need_not_ask_whom_to_believe(hostile_host: Host) -> None:
    """A container's own user can become nobody else: slurm.conf is taken as it says."""
    _a_group_of_administrators(hostile_host)
    words = ["setpriv", "--reuid", SLURM_USER, "--regid", SLURM_USER, "--clear-groups", "sh", "-c"]
    script = f'{resolver(hostile_host)}echo "$slurm_uid"; as "$slurm_uid" id -u'
    assert subprocess.check_output([*words, script], text=True) == "1\n1\n"


# --- one reading


def test_slurm_conf_is_read_once(hostile_host: Host) -> None:
    """What a script goes by is what it has read when it began, whatever becomes of the file: nothing is between check and use."""
    hostile_host.program("pgrep", "exit 1")
    hostile_host.program("scontrol", "id -u")
    script = render.script("lib/slurmctld.sh", folder=str(hostile_host.etc), unit="no-such-unit")
    for what in (
        f"mv {hostile_host.etc}/slurm.conf {hostile_host.etc}/x",
        f"echo SlurmUser=root >{hostile_host.etc}/slurm.conf",
    ):
        _folder_of_slurm_users(hostile_host)
        answer = hostile_host.run(f"{script}\n{what}\nfind_slurm\nslurm scontrol ping; conf_value SlurmUser")
        assert answer.stdout == f"1\n{SLURM_USER}\n", answer


# --- a process's own user


@SHELLS
def test_a_process_is_read_with_its_users_rights(hostile_host: Host, shell: str) -> None:
    """Where root may not look, its own user may; not with rights that a set-id program gave to somebody, and not as root."""
    asked = "as_process_user $pid sh -c '[ \"$(id -u)\" = 0 ] && exit 1; id -u; id -g; id -G'"
    cases = {
        ("--reuid", "1", "--regid", "1"): "1\n1\n1\n",
        ("--ruid", "65534", "--euid", "1", "--regid", "1"): "",
        ("--reuid", "1", "--rgid", "1", "--egid", "42"): "",
        ("--reuid", "0", "--regid", "1"): "",
    }
    for ids, expected in cases.items():
        with _process(*ids, "--clear-groups", "sleep", "60") as pid:
            answer = hostile_host.run(f"{render.script('lib/as.sh')}pid={pid}\n{asked}", shell)
            assert answer.stdout == expected, (ids, answer)


@SHELLS
def test_roots_environment_is_nobody_elses(hostile_host: Host, shell: str) -> None:
    """A process that has ended has nothing that root can read: its user is asked, and is not shown what root has there."""
    hostile_host.program("setpriv", f'env >>"{hostile_host.own}/seen"; exec /usr/bin/setpriv "$@"')
    zombie = subprocess.Popen(["setpriv", "--reuid", "1", "--regid", "1", "--clear-groups", "true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    script = f"{render.script('lib/as.sh')}program_file {zombie.pid}"
    hostile_host.run(script, shell, {"ROOTS_SECRET": "what-root-has"})
    zombie.wait()
    seen = (hostile_host.own / "seen").read_text()
    assert "PATH=" in seen and "what-root-has" not in seen


# --- a kubeconfig may name a program


def test_root_uses_no_kubeconfig_of_others(hostile_host: Host) -> None:
    """Where SlurmUser is root, and the kubeconfig lies in somebody else's folder: no look and no test job gives it to kubectl."""
    ran = hostile_host.owned(hostile_host.open / "who", "", mode=0o666)
    hostile_host.program("kubectl", 'id -u >>"$TOP/open/who"')
    hostile_host.program("pgrep", "exit 1")
    hostile_host.owned(hostile_host.top / "slurm.conf", "SlurmUser=root\n", "root", 0o644)
    file = hostile_host.owned(hostile_host.etc / "kubeconfig", "users: []\n")
    place = StepContext(load(DEFAULT), Facts(), "c1")
    given = {
        "folder": str(hostile_host.top),
        "unit": "no-such-unit",
        "file": str(file),
        "kubeconfig": str(file),
        "slow": "1",
    }
    given |= {"workflows": "w", "namespace": "n", "user": USER, "job_folder": "/", "allowed": "1", "options": ""}
    given |= {"name": "dws-on-csm-test", "RUN": "r1", "submitted": "", "user_number": "", "bbstat": ""}
    given |= {"state_folder": str(hostile_host.top)}
    library = render.script("lib/temporary.sh", "lib/slurmctld.sh", **given)
    assert verify_cancel.LOOK_ACTIVE in verify_cancel.look_active(place).script
    bodies = {
        "can_i": slurm_user.can_i() + "can_i create x",
        "doctor": render.read("controller/doctor_reach.sh"),
        "cancel": verify_cancel.LOOK_ACTIVE,
        "test job": "set -eu\n" + render.read("controller/test_job.sh"),
    }
    for name, body in bodies.items():
        answer = hostile_host.run((library + body).replace("/dev/shm", str(hostile_host.open)))
        assert ran.read_text() == "", (name, answer)
        assert name in ("doctor",) or "others than root can write" in answer.stdout + answer.stderr, (name, answer)


def test_no_other_user_runs_what_slurm_user_put_beside_its_process(hostile_host: Host) -> None:
    """SlurmUser's slurmctld can be anywhere: the test job's user finds sbatch in folders of root's, or where Slurm usually is."""
    hostile_host.program("pgrep", "exit 1")
    conf(hostile_host, f"SlurmUser={SLURM_USER}\n", SLURM_USER)
    trap = hostile_host.etc / "bin"
    trap.mkdir()
    hostile_host.owned(trap / "sbatch", "#!/bin/sh\nid -un\n", mode=0o755)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    body = f"""program_of() {{ echo {hostile_host.etc}/sbin/slurmctld; }}
find_slurm
as_user nobody sh -c 'echo "$PATH"'
slurm sh -c 'echo "$PATH"'
"""
    users, own = hostile_host.run(render.script("lib/slurmctld.sh", **settings) + body).stdout.splitlines()
    assert str(trap) not in users and "/opt/slurm/bin" in users
    assert str(trap) in own  # what runs as SlurmUser may be SlurmUser's


# --- words that somebody else has put there


def test_what_slurm_users_programs_print_states_no_fact(hostile_host: Host) -> None:
    """A version of many lines, a path with a newline, a glob in PluginDir: SlurmUser and its number stay what root has found."""
    hostile_host.program("pgrep", "exit 1")
    forged = r"slurm 24.05\nuid=0\nuser=root\nkubectl=/evil\n\013uid=0\302\205uid=0\342\200\250user=root\nfile=/x eA=="
    hostile_host.owned(hostile_host.programs / "slurmctld", f"#!/bin/sh\nprintf '{forged}'\n", mode=0o755)
    hostile_host.owned(hostile_host.programs / "lua5.4", f"#!/bin/sh\nprintf 'Lua 5.4\\n{forged}'\n", mode=0o755)
    plugins = hostile_host.etc / "a/b"
    plugins.mkdir(parents=True)
    (plugins / "burst_buffer_lua.so").write_text("slurm_bb_evil\0")
    conf(hostile_host, f"SlurmUser={SLURM_USER}\nPluginDir={hostile_host.etc}/*/b\n", SLURM_USER)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    answer = hostile_host.run(render.script("lib/slurmctld.sh", "lib/lua.sh", "controller/controller.sh", **settings))
    found = controller.parse(answer.stdout.encode())
    assert (found["user"], found["uid"]) == (SLURM_USER, "1"), answer
    assert found["version"] == "24.05" and "evil" not in found["kubectl"]
    assert list(found["files"]) == [f"{hostile_host.etc}/slurm.conf"]
    assert found["hooks"] == []


@SHELLS
def test_a_name_with_a_backslash_makes_no_line(hostile_host: Host, shell: str) -> None:
    """Some shells' echo makes a newline of it."""
    hostile_host.program("pgrep", "exit 1")
    conf(hostile_host, "SlurmUser=x\\\\nuid=0\\\\nlacks=\n", SLURM_USER)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    answer = hostile_host.run(
        render.script("lib/slurmctld.sh", "lib/lua.sh", "controller/controller.sh", **settings), shell
    )
    found = controller.parse(answer.stdout.encode())
    assert (found["user"], found["uid"], found["lacks"]) == ("x\\nuid=0\\nlacks=", "", "unknown"), answer


@SHELLS
def test_a_path_that_a_process_has_is_no_part_of_a_program(hostile_host: Host, shell: str) -> None:
    """SlurmUser's process says where slurmctld lies, and so where a Lua is looked for: a path may have anything in it."""
    hostile_host.program("harm", 'id -u >>"$TOP/harmed"')
    folder = hostile_host.open / ";harm;|e\n#"
    folder.mkdir()
    for name in ("slurmctld", "lua53"):
        hostile_host.owned(folder / name, "#!/bin/sh\necho Lua 5.4\n", mode=0o755)
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    said = (
        f"systemd() {{ false; }}\nmain_pid() {{ echo 1; }}\nprogram_file() {{ printf '%s\\n' '{folder}/slurmctld'; }}\n"
    )
    bodies = "\n".join(render.read(name) for name in ("lib/lua.sh", "controller/controller.sh"))
    answer = hostile_host.run(render.script("lib/slurmctld.sh", **settings) + said + bodies, shell)
    assert not (hostile_host.top / "harmed").exists(), answer
    found = controller.parse(answer.stdout.encode())
    assert (found["user"], found["uid"]) == (SLURM_USER, "1"), answer


FLOOD = {"device": "/dev/zero", "fifo": "", "large": ""}


@pytest.mark.parametrize("what", FLOOD)
def test_a_file_without_end_is_not_taken_in(hostile_host: Host, what: str) -> None:
    """What slurm.conf includes, or lies in the plugin's place, may be a device, a fifo, or fill a host's memory: it is not read."""
    hostile_host.program("pgrep", "exit 1")
    file = hostile_host.etc / names.PLUGIN_LUA
    if what == "device":
        file.symlink_to("/dev/zero")
    elif what == "fifo":
        os.mkfifo(file)
    else:
        with file.open("w") as made:
            made.truncate(10**12)
    conf(
        hostile_host,
        f"SlurmUser={SLURM_USER}\nInclude {names.PLUGIN_LUA}\n" if what != "large" else f"SlurmUser={SLURM_USER}\n",
        SLURM_USER,
    )
    settings = {
        "folder": str(hostile_host.etc),
        "unit": "no-such-unit",
        "state": str(hostile_host.top),
        "file": str(file),
    }
    looks = (
        ("lib/lua.sh", "controller/controller.sh"),
        ("controller/daemon.sh",),
        ("lib/holds_secret.sh", "lib/lua.sh", "controller/plugin_file.sh"),
    )
    (hostile_host.top / "activation").write_text("sum=x\n")
    for templates in looks:
        script = "ulimit -v 500000\n" + render.script("lib/slurmctld.sh", *templates, **settings)
        answer = hostile_host.run(script, seconds=50)
        assert answer.returncode == 0 and len(answer.stdout) < 10**6, (templates, answer.stderr[-500:])


def test_a_large_file_is_not_peeked_at(hostile_host: Host) -> None:
    """Root's own readers keep some of what they read in memory: of a file of SlurmUser's only as much as is sensible."""
    file = hostile_host.owned(hostile_host.etc / "kubeconfig", "users: []\n")
    script = (
        f"ulimit -v 500000\n{render.read('lib/safe_file.sh')}\ntext=$(read_file {file}) && printf '%s\\n' \"$text\""
    )
    assert hostile_host.run(script).stdout == "users: []\n"
    with file.open("a") as made:
        made.truncate(10**12)
    answer = hostile_host.run(script)
    assert (answer.returncode, answer.stdout) == (1, "") and "is not read" in answer.stderr


@SHELLS
def test_what_others_print_in_a_files_place_is_no_line(hostile_host: Host, shell: str) -> None:
    """What runs as another user can be made by that user to print anything: it is base64, or it is not believed."""
    hostile_host.program("base64", "printf 'eA==\\nuid=0\\nuser=root\\n'")
    hostile_host.program("pgrep", "exit 1")
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit"}
    answer = hostile_host.run(render.script("lib/slurmctld.sh", **settings) + "conf_texts file", shell)
    assert answer.stdout == f"unreadable={hostile_host.etc}/slurm.conf\n"
