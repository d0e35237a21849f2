"""What root writes and reads in other users' folders: the real sh, a real second user, real links, fifos and renames."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dws_on_csm.engine.host_script import LIBRARY, compile_actions
from dws_on_csm.model import render
from dws_on_csm.model.actions import Action, Put, Remove, RunScript, Upload
from dws_on_csm.model.secret import Secret
from tests.unit.hostile import SLURM_USER, hostile_host
from tests.unit.hostile import Host as Hostile

pytestmark = pytest.mark.slow

__all__ = ["hostile_host"]

THEM = pwd.getpwnam(SLURM_USER)
"""SlurmUser: the folder is its own."""

OWNER = f"{SLURM_USER}:"
SHELLS = {"dash": ("dash", "-c"), "bash": ("bash", "--posix", "-c")}


@dataclass(frozen=True)
class Host(Hostile):
    """A hostile host with a file in SlurmUser's folder and one in root's; `shell` is its /bin/sh."""

    shell: Sequence[str]

    @property
    def before(self) -> Path:
        return self.state / "before/r"

    @property
    def record(self) -> list[str]:
        return (self.before / ".record").read_text().splitlines()

    def sh(self, script: str, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        """The script, after the library of actions."""
        return self.through(f"STATE={self.state}; RUN=r\n{LIBRARY}\n{script}", data, environment)

    def do(self, *actions: Action, **environment: str) -> subprocess.CompletedProcess[bytes]:
        return self.through(*compile_actions(actions, "r", "==mark", "stage.step"), environment)

    def through(self, script: str, data: bytes, environment: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
        """Run the script with its standard input, as a session does."""
        own = {**os.environ, **environment}
        return subprocess.run([*self.shell, script], input=data, capture_output=True, timeout=60, check=False, env=own)

    def image(self, path: Path) -> Path:
        return self.before / str(path).lstrip("/")


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, hostile_host: Hostile, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A hostile host with each shell."""
    assert shutil.which(request.param), f"{request.param} is needed: apt-get install {request.param}"
    host = Host(hostile_host.top, SHELLS[request.param])
    for module in ("model.actions", "engine.host_script"):
        monkeypatch.setattr(f"dws_on_csm.{module}.STATE", str(host.state))
    (host.etc / "slurm.conf").unlink()
    for folder in (host.etc, host.own):
        (folder / "file").write_text("old\n")
    return host


# --- what is written


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
@pytest.mark.parametrize("folder", ["etc", "own"])
def test_a_file_has_the_content_mode_and_owner_that_were_asked_for(host: Host, mode: int, folder: str) -> None:
    """Whoever owns the folder and owned the file; nothing else is left there."""
    path = host.top / folder / "file"
    done = host.do(Put(str(path), b"new\n", mode, OWNER))
    assert (done.returncode, done.stderr) == (0, b"")
    found = path.stat()
    assert (path.read_text(), found.st_mode & 0o7777) == ("new\n", mode)
    assert (found.st_uid, found.st_gid) == (THEM.pw_uid, THEM.pw_gid)
    assert [one.name for one in path.parent.iterdir()] == ["file"]
    assert host.image(path).read_text() == "old\n"


def test_a_folder_that_is_lacking_is_made(host: Host) -> None:
    """It is root's, and everybody may enter it."""
    path = host.own / "a/b/file"
    assert host.do(Put(str(path), b"new\n")).returncode == 0
    assert path.read_text() == "new\n"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path.parent.parent)] == [0o755, 0o755]
    assert host.image(path).with_name("file.absent").exists()


@pytest.mark.parametrize("action", ["put", "remove"])
def test_a_file_that_is_a_mount_of_its_own_is_named(host: Host, action: str) -> None:
    """With the command that ends the mount: neither mv nor rm says more than that it is busy."""
    path, other = host.etc / "file", host.top / "other"
    other.write_text("mounted\n")
    given: Action = Put(str(path), b"new\n", 0o644, OWNER) if action == "put" else Remove(str(path))
    script, data = compile_actions([given], "r", "==mark", "stage.step")
    apart = ["unshare", "--mount", "--propagation=private", *host.shell, f"mount --bind {other} {path}\n{script}"]
    done = subprocess.run(apart, input=data, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert f"{path} is a mount of its own" in done.stderr.decode() and f"`umount {path}`" in done.stderr.decode()
    assert (path.read_text(), [one.name for one in path.parent.iterdir()]) == ("old\n", ["file"])


def test_a_folder_with_the_set_group_bit_is_no_obstacle(host: Host) -> None:
    """Folders made in it inherit the bit."""
    host.etc.chmod(0o2775)
    assert host.do(Put(str(host.etc / "file"), b"new\n", 0o644, OWNER)).returncode == 0
    assert (host.etc / "file").read_text() == "new\n"


# --- what is recorded


def test_files_are_recorded_by_their_real_paths(host: Host) -> None:
    """Root's links are followed, those of folders too: before-images and records use the path without links."""
    (host.own / "link").symlink_to("../etc")
    path = host.own / "link/file"
    assert host.do(Put(str(path), b"new\n"), Remove(str(path))).returncode == 0
    assert not (host.etc / "file").exists()
    assert host.image(host.etc / "file").read_text() == "old\n"
    sum_ = "7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c"
    assert host.record == ["step stage.step", f"left {sum_} {host.etc}/file", f"left absent {host.etc}/file"]


@pytest.mark.parametrize("more", [0, 1])
def test_no_more_than_eight_mebibytes_are_read(host: Host, more: int) -> None:
    """A larger file is refused as a whole: its first part would be taken for all of it."""
    path = host.own / "file"
    os.truncate(path, 8 * 1024 * 1024 + more)
    done = host.sh(f"read_file {path} | wc -c; read_file {path} sha256sum >/dev/null")
    assert done.stdout.split() == ([b"0"] if more else [b"8388608"])
    assert (b"is larger than 8 MiB: it is not read" in done.stderr, done.returncode != 0) == (bool(more), bool(more))


@pytest.mark.parametrize(("size", "inside"), [(131072, True), (131073, False)])
def test_a_large_file_comes_on_standard_input(size: int, inside: bool) -> None:
    """The script that a host's shell has to hold stays small."""
    _, feed = compile_actions([Put("/etc/file", b"x" * size)], "r", "==mark")
    assert (b"x" * size in feed) != inside


@pytest.mark.parametrize("path", ["/no-such-file", "/etc/no-such-file", "/no-such-folder/file"])
def test_a_real_path_has_no_doubled_slash(path: str) -> None:
    """Also in the root folder: records are compared as texts."""
    script = f"{render.read('lib/safe_file.sh')}\nreal_path {path}\n"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == f"{path}\n"


def test_a_secret_is_recorded_as_one(host: Host) -> None:
    """The record comes before the before-image: there is never an image of a key that is not marked as secret."""
    (host.own / "link").symlink_to(host.etc / "file")
    assert host.do(Put(str(host.own / "link"), Secret(b"key"), 0o600, OWNER)).returncode == 0
    assert f"secret {host.etc}/file" in host.record
    assert host.do(Put(str(host.own / "open"), b"text")).returncode == 0
    assert host.do(Remove(str(host.own / "file"), secret=True)).returncode == 0
    assert [line for line in host.record if line.startswith("secret")] == [
        f"secret {host.etc}/file",
        f"secret {host.own}/file",
    ]


def test_a_before_image_is_the_file_with_mode_owner_and_date_and_no_set_id_bits(host: Host) -> None:
    """If it were restored, another user's program would be root's."""
    path = host.etc / "file"
    path.chmod(0o6755)
    os.utime(path, (1, 1))
    assert host.do(Remove(str(path))).returncode == 0
    found = host.image(path).stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_mtime) == (0o755, 0, 1)


# --- links, fifos and the like


@pytest.mark.parametrize("action", ["put", "secret", "remove", "keep", "put back"])
@pytest.mark.parametrize("trap", ["link", "link to a folder", "fifo", "second name", "folder"])
def test_what_slurm_user_put_in_a_files_place_is_not_followed(host: Host, action: str, trap: str) -> None:
    """It is neither written, read, given away nor waited for: it is refused with a message."""
    path = host.etc / "file"
    host.traps(path, trap)
    image = host.top / "image"
    image.write_text("earlier\n")
    back = f"mode=\npath={path}\nsource={image}\nsum=$(sha256sum <{image} | cut -d' ' -f1)\n{render.read('host/restore_file.sh')}"
    done = {
        "put": lambda: host.do(Put(str(path), b"new\n", 0o644, OWNER)),
        "secret": lambda: host.do(Put(str(path), Secret(b"new\n"), 0o600, OWNER)),
        "remove": lambda: host.do(Remove(str(path))),
        "keep": lambda: host.sh(f"keep {path}"),
        "put back": lambda: host.sh(back),
    }[action]()
    assert done.returncode == 1, done.stderr
    assert str(path) in done.stderr.decode()
    assert host.unharmed()
    assert path.is_symlink() or path.is_fifo() or path.is_dir() or path.samefile(host.secret)


def test_a_link_in_a_folder_that_the_group_root_can_write_is_followed(host: Host) -> None:
    """A folder writable by the group root is root's alone; by another group it is not."""
    (host.own / "link").symlink_to("file")
    host.own.chmod(0o775)
    assert host.do(Put(f"{host.own}/link", b"new\n")).returncode == 0
    assert (host.own / "link").is_symlink() and (host.own / "file").read_text() == "new\n"
    os.chown(host.own, 0, THEM.pw_gid)
    done = host.do(Put(f"{host.own}/link", b"newer\n"))
    assert done.returncode != 0 and b"root does not follow the link" in done.stderr
    assert (host.own / "file").read_text() == "new\n"


def test_a_link_of_root_in_a_folder_that_others_can_write_is_not_followed_either(host: Host) -> None:
    """Its owner proves nothing: SlurmUser may have moved it there."""
    (host.etc / "file").unlink()
    (host.etc / "file").symlink_to(host.secret)
    done = host.do(Put(str(host.etc / "file"), b"new\n"))
    assert done.returncode == 1 and b"root does not follow the link" in done.stderr
    assert host.unharmed()


def test_only_roots_own_files_are_cleared(host: Host) -> None:
    """The next put removes the folder of a killed one; it removes a link of that name, and not its target."""
    name = f".file.dws-on-csm.{os.uname().nodename}"
    (host.etc / f"{name}.killed").mkdir(mode=0o700)
    (host.etc / f"{name}.killed/new").write_text("half")
    (host.etc / f"{name}.4711").write_text("half, of an earlier version")
    (host.etc / f"{name}.link").symlink_to(host.own)
    (host.etc / ".file.dws-on-csm.other.killed").mkdir()
    assert host.do(Put(str(host.etc / "file"), b"new\n")).returncode == 0
    assert sorted(one.name for one in host.etc.iterdir()) == [".file.dws-on-csm.other.killed", "file"]
    assert (host.own / "file").read_text() == "old\n"


def test_a_folder_of_roots_that_is_given_that_name_stays(host: Host) -> None:
    """SlurmUser can rename files in its folder, but cannot make root remove another file."""
    name = f".file.dws-on-csm.{os.uname().nodename}"
    for mode, content in ((0o700, ("munge.key",)), (0o700, ("munge.key", "new")), (0o755, ("new",)), (0o755, ())):
        keys = host.etc / f"{name}.{mode:o}{len(content)}"
        keys.mkdir()
        keys.chmod(mode)
        for one in content:
            (keys / one).write_text("key")
    before = sorted(str(one) for one in host.etc.rglob("*"))
    assert host.do(Put(str(host.etc / "file"), b"new\n")).returncode == 0
    assert sorted(str(one) for one in host.etc.rglob("*")) == before


def test_a_before_image_that_is_not_what_it_was_stays_where_it_is(host: Host) -> None:
    """Its checksum was recorded when the rollback was planned."""
    image = host.top / "image"
    image.write_text("changed\n")
    script = f"mode=\npath={host.own}/file\nsource={image}\nsum=abc\n{render.read('host/restore_file.sh')}"
    done = host.sh(script)
    assert done.returncode == 1 and f"{image} was changed or is damaged" in done.stderr.decode()
    assert [(one.name, one.read_text()) for one in host.own.iterdir()] == [("file", "old\n")]


# --- while somebody is at work against it


def race(etc: Path, canary: Path, others: Path) -> None:
    """SlurmUser swaps each file that root makes in its folder for a link, at once. Never returns."""
    os.setgroups([])
    os.setresgid(THEM.pw_gid, THEM.pw_gid, THEM.pw_gid)
    os.setresuid(THEM.pw_uid, THEM.pw_uid, THEM.pw_uid)
    while True:
        for path in etc.iterdir():
            with suppress(OSError):
                swap(path, canary, others)


def swap(path: Path, canary: Path, others: Path) -> None:
    """The file for a link to the canary; a folder for one to another folder of root's, or to root's file."""
    if path.name == "file":
        path.unlink()
        path.symlink_to(canary)
    elif not path.name.endswith(".away"):
        away = path.rename(f"{path}.away")
        path.symlink_to(others if away.is_dir() else canary)


def test_nothing_of_roots_is_given_away_in_a_race(host: Host) -> None:
    """Folders and files are swapped for links while root works: a put fails or succeeds, and does nothing else."""
    (host.own / "new").write_text("root's")
    (host.own / "new").chmod(0o600)
    racer = multiprocessing.get_context("fork").Process(
        target=race, args=(host.etc, host.secret, host.own), daemon=True
    )
    racer.start()
    try:
        for number in range(12):
            host.do(Put(str(host.etc / "file"), f"new {number}\n".encode(), 0o644, OWNER))
            assert host.unharmed()
            assert ((host.own / "new").read_text(), (host.own / "new").owner()) == ("root's", "root")
        assert racer.is_alive()
    finally:
        racer.kill()
        racer.join()


# --- on the disk

TRACED = "openat,mkdir,fsync,rename,renameat,renameat2,unlinkat,unlink"


def traced(host: Host, tmp_path: Path, *actions: Action) -> list[str]:
    """The system calls by which the actions reach the disk, in order, without random names."""
    script, data = compile_actions(actions, "r", "==mark", "stage.step")
    trace = str(tmp_path / "trace")
    command = ["strace", "-f", "-y", "-qq", "-e", f"trace={TRACED}", "-o", trace, *host.shell, script]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return re.sub(r"(dws-on-csm\.[^/]*?)\.\w{10}\b", r"\1.X", Path(trace).read_text()).splitlines()


def assert_in_order(calls: Sequence[str], order: Sequence[str]) -> None:
    """Assert that a call matches each pattern, and that the first matches come in this order."""

    def at(pattern: str) -> int:
        found = [number for number, call in enumerate(calls) if re.search(pattern, call)]
        assert found, f"no call fits {pattern}:\n" + "\n".join(calls)
        return found[0]

    places = [at(pattern) for pattern in order]
    assert places == sorted(places), "\n".join(calls[place] for place in places)


def test_writes_reach_the_disk_in_order(host: Host, tmp_path: Path) -> None:
    """Before-image, record, content, name: each is synced before the next begins, and so is the folder."""
    etc, before = re.escape(str(host.etc)), re.escape(str(host.before))
    calls = traced(host, tmp_path, Put(f"{host.etc}/file", b"new\n", 0o644, OWNER))
    staged = rf"{etc}/\.file\.dws-on-csm\.[^/]+\.X"
    order = [
        rf"fsync\(\d+<{before}{etc}/file\.part>\)",
        rf'rename\w*\(.*"{before}{etc}/file\.part".*"{before}{etc}/file"',
        rf"fsync\(\d+<{before}{etc}>\)",
        rf"fsync\(\d+<{before}>\)",
        r"openat\(.*\"\./new\", O_WRONLY\|O_CREAT\|O_EXCL",
        rf"fsync\(\d+<{before}/\.record>\)",
        rf"fsync\(\d+<{staged}/new>\)",
        r'rename\w*\(.*"\./new".*"\.\./file"',
        rf"fsync\(\d+<{etc}>\)",
    ]
    assert_in_order(calls, order)
    # what lies there is opened by cp alone, which follows no link
    opened = [call for call in calls if re.search(r'openat\(.*"\./file"', call)]
    assert opened and all("O_NOFOLLOW" in call for call in opened)


def test_removals_are_recorded_on_disk_before(host: Host, tmp_path: Path) -> None:
    """Before-image, record, removal, in this order; then the folder is synced."""
    etc, before = re.escape(str(host.etc)), re.escape(str(host.before))
    calls = traced(host, tmp_path, Remove(f"{host.etc}/file"))
    order = [
        rf"fsync\(\d+<{before}{etc}/file\.part>\)",
        rf"fsync\(\d+<{before}/\.record>\)",
        r'unlink\w*\(.*"\./file"',
        rf"fsync\(\d+<{etc}>\)",
    ]
    assert_in_order(calls, order)


# --- ended by a signal


@contextmanager
def at_work(host: Host, there: Path, script: str, data: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """The script in a session of its own, once it has made `there`; the host's programs come first on its PATH."""
    own = {**os.environ, "PATH": f"{host.programs}:{os.environ['PATH']}"}
    process = subprocess.Popen([*host.shell, script], stdin=subprocess.PIPE, env=own, start_new_session=True)
    try:
        assert process.stdin
        process.stdin.write(data)
        process.stdin.close()
        ends = time.monotonic() + 60
        while not there.exists():
            assert process.poll() is None and time.monotonic() < ends
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_script_that_is_ended_leaves_no_unfinished_before_image(host: Host) -> None:
    """It is ended while the file is copied: the copy is removed, and the file stays as it was."""
    copying = host.own / "copying"
    host.program("cp", f'/bin/cp "$@"; : >{copying}; exec sleep 60')
    with at_work(host, copying, *compile_actions([Put(f"{host.etc}/file", b"new\n")], "r", "==mark")) as process:
        assert host.image(host.etc / "file.part").exists()
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 143
    ends = time.monotonic() + 60
    while list(host.before.rglob("file*")):  # bash does not wait for what its subshells have begun
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert (host.etc / "file").read_text() == "old\n"


@pytest.mark.parametrize("brings", [False, True])
def test_a_script_that_is_ended_waits_until_what_it_began_has_cleared_away(host: Host, brings: bool) -> None:
    """The running action cleans up, uploaded files are removed, no other action begins; only then the script ends."""
    begun, cleared, after = (host.own / name for name in ("begun", "cleared", "after"))
    clearing = f"trap 'sleep 1; : >{cleared}' EXIT; trap 'exit 143' TERM\n"
    work = RunScript("work", f"{clearing}: >{begun}\nwhile :; do sleep 0.1; done")
    brought = [Upload("part", "a part", lambda: b"content")] if brings else []
    actions: list[Action] = [*brought, work, RunScript("next", f": >{after}")]
    with at_work(host, begun, *compile_actions(actions, "r", "==mark", "stage.step")) as process:
        assert [one.name for one in host.state.glob("parts/*")] == (["part"] if brings else [])
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 143
        assert cleared.exists() and not after.exists()
        assert list(host.state.glob("parts/*")) == []
