"""A host with three users at once: root at work, a SlurmUser and an ordinary user who mean harm. They are real."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SLURM_USER, USER = "daemon", "nobody"
"""Users that every system has, and that nothing of importance runs as."""

HELD: Mapping[str, Sequence[str]] = {
    "controller/activate.sh": ("test_hostile.test_a_log_path_that_names_a_secret_file",),
    "lib/as.sh": ("test_hostile.test_what_another_user_gets_of_root", "test_hostile.test_files_of_root_alone"),
    "lib/bounded.sh": (
        "test_bounded.test_root_never_waits_for_others",
        "test_bounded.test_a_number_of_others_is_never_run",
    ),
    "controller/cancel.sh": ("test_hostile.test_a_log_that_is_named_to_have_another_file_read",),
    "master/clone_checked.sh": ("test_pins.test_nothing_of_a_clone_that_others_can_write_is_run",),
    "master/clone.sh": ("test_pins.test_a_repository_of_others_on_the_master_has_to_be_pinned",),
    "controller/controller.sh": (
        "test_hostile_slurm_user.test_what_slurm_users_programs_print_states_no_fact",
        "test_hostile.test_a_slurm_conf_that_includes_what_only_root_may_read",
        "test_hostile.test_a_program_of_another_user",
    ),
    "controller/daemon.sh": (
        "test_hostile.test_slurms_programs_are_slurm_users",
        "test_hostile.test_a_process_that_only_calls_itself_slurmctld",
    ),
    "controller/doctor_reach.sh": ("test_hostile.test_a_link_where_root_would_write_is_never_followed",),
    "controller/doctor_teardown.sh": ("test_hostile.test_a_log_that_is_named_to_have_another_file_read",),
    "master/fetch.sh": ("test_pins.test_a_tag_that_comes_into_a_clone_is_held_against_the_pin_too",),
    "lib/git.sh": ("test_pins.test_nothing_of_a_clone_that_others_can_write_is_run",),
    "controller/jobs.sh": ("test_hostile.test_slurms_programs_are_slurm_users",),
    "controller/nodes.sh": ("test_hostile.test_slurms_programs_are_slurm_users",),
    "controller/queue.sh": ("test_hostile.test_slurms_programs_are_slurm_users",),
    "host/saved_kubeconfigs.sh": ("test_hostile.test_a_kubeconfig_that_names_a_program_is_parsed_and_not_run",),
    "controller/load.sh": ("test_hostile.test_the_plugin_is_loaded_as_slurm_user",),
    "controller/logs.sh": ("test_hostile.test_a_log_that_is_named_to_have_another_file_read",),
    "lib/lua.sh": (
        "test_hostile.test_a_program_of_another_user",
        "test_hostile.test_a_lua_of_others_runs_nothing_as_root",
    ),
    "controller/plugin_file.sh": ("test_hostile.test_a_plugin_that_is_a_link_to_what_only_root_may_read",),
    "master/plugin_look.sh": ("test_pins.test_nothing_of_a_clone_that_others_can_write_is_run",),
    "lib/slurm_conf.sh": (
        "test_hostile.test_a_slurm_conf_that_includes_what_only_root_may_read",
        "test_hostile_slurm_user.test_no_other_account_becomes_slurm_user",
        "test_hostile_slurm_user.test_root_by_another_name_is_root",
        "test_hostile_reading.test_a_fifo_in_a_files_place_blocks_nobody",
    ),
    "lib/slurmctld.sh": (
        "test_hostile.test_a_process_that_only_calls_itself_slurmctld",
        "test_hostile.test_slurms_programs_are_slurm_users",
    ),
    "lib/slurm_start.sh": ("test_hostile.test_slurms_programs_are_slurm_users",),
    "controller/start.sh": ("test_hostile.test_slurms_programs_are_slurm_users",),
    "host/support.sh": ("test_hostile.test_a_log_that_is_named_to_have_another_file_read",),
    "controller/test_job.sh": ("test_hostile.test_a_test_job_gets_nothing_of_roots",),
    "lib/temporary.sh": ("test_hostile.test_a_link_where_root_would_write_is_never_followed",),
}
"""Template -> the tests, MODULE.NAME, that run it against a hostile user."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes on other users' rights, which root alone may")


@dataclass(frozen=True)
class Host:
    """A folder that other users can enter. `etc` is SlurmUser's, as /etc/slurm often is; `secret` only root's to read.

    programs   what stands in for Slurm and kubectl, root's
    own        a folder of root's that others can enter
    state      stands for /var/lib/dws-on-csm
    """

    top: Path

    @property
    def etc(self) -> Path:
        """SlurmUser's folder of slurm.conf."""
        return self.top / "etc"

    @property
    def programs(self) -> Path:
        """What comes first on PATH."""
        return self.top / "bin"

    @property
    def own(self) -> Path:
        """A folder of root's."""
        return self.top / "own"

    @property
    def state(self) -> Path:
        """What the tool keeps."""
        return self.top / "state"

    @property
    def open(self) -> Path:
        """Where everybody can write."""
        return self.top / "open"

    @property
    def secret(self) -> Path:
        """A file of root's with SECRET in it."""
        return self.top / "secret"

    def program(self, name: str, body: str) -> Path:
        """A program of root's by this name."""
        path = self.programs / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nTOP={self.top}\n{body}\n")
        path.chmod(0o755)
        return path

    def owned(self, path: Path, text: str, user: str = SLURM_USER, mode: int = 0o600) -> Path:
        """A file that belongs to that user."""
        path.write_text(text)
        path.chmod(mode)
        shutil.chown(path, user)
        return path

    def traps(self, path: Path, trap: str) -> None:
        """Something of SlurmUser's in a file's place, or a "second name" of root's own file, which stays root's."""
        path.unlink()
        traps: dict[str, Callable[[], object]] = {
            "link": lambda: path.symlink_to(self.secret),
            "link to a folder": lambda: path.symlink_to(self.own),
            "fifo": lambda: os.mkfifo(path),
            "second name": lambda: path.hardlink_to(self.secret),
            "folder": path.mkdir,
        }
        traps[trap]()
        if trap != "second name":
            them = pwd.getpwnam(SLURM_USER)
            os.chown(path, them.pw_uid, them.pw_gid, follow_symlinks=False)

    def run(
        self, script: str, shell: str = "sh", environment: dict[str, str] | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """The script as root runs it."""
        own = {"PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}
        return subprocess.run(
            [shell, "-c", script], env=own, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip

    def unharmed(self) -> bool:
        """Whether root's file is as it was, and still root's alone; and what is in it lies in no other file."""
        status = self.secret.lstat()
        same = (self.secret.read_text(), status.st_uid, status.st_mode & 0o7777) == (SECRET, 0, 0o600)
        return same and not any(self._tells(path) for path in self.top.rglob("*"))

    def _tells(self, path: Path) -> bool:
        """Whether another file has its content; one that goes at this moment has not."""
        try:
            return path.is_file() and not path.samefile(self.secret) and SECRET.strip().encode() in path.read_bytes()
        except OSError:
            return False


SECRET = "what-only-root-may-read\n"


@pytest.fixture
def hostile_host() -> Iterator[Host]:
    """A host of this kind, with a slurm.conf that names SlurmUser."""
    top = Path(tempfile.mkdtemp(prefix="dws-hostile-"))
    top.chmod(0o755)
    host = Host(top)
    for folder in (host.etc, host.programs, host.open, host.own):
        folder.mkdir()
        folder.chmod(0o755)
    host.open.chmod(0o1777)
    shutil.chown(host.etc, SLURM_USER)
    host.owned(host.etc / "slurm.conf", f"ClusterName=lab\nSlurmUser={SLURM_USER}\n", mode=0o644)
    host.secret.write_text(SECRET)
    host.secret.chmod(0o600)
    yield host
    shutil.rmtree(top)


@contextmanager
def running(user: str, words: Sequence[str | Path]) -> Iterator[int]:
    """A process of that user, and its number."""
    process = subprocess.Popen(words, user=user, group=user if user != USER else "nogroup", extra_groups=[])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
