"""Temporary folders of root's: without one nothing goes on, since an empty name would lead to the system's own folders."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dws_on_csm.model import render

SCRIPTS = sorted(Path("templates").rglob("*.sh"))
UNCHECKED = re.compile(r"=\"?\$\(\s*mktemp [^)\n]*\)\"?(?! && | \|\| )|\$\([^)\n]*&& mktemp [^)\n]*\)(?! && | \|\| )")


@pytest.mark.parametrize(
    "caller",
    ["make_memory_folder nobody", "if ! make_memory_folder nobody; then :; fi", "make_memory_folder nobody || :"],
)
def test_without_a_folder_in_memory_the_script_ends(caller: str) -> None:
    """Anybody can use up /dev/shm: then no folder of the system is given away in its place, whoever called."""
    script = render.script("lib/as.sh", "lib/temporary.sh") + f"{caller}\necho continued\n"
    mounts = "mount -t tmpfs -o nr_inodes=1 none /dev/shm && mount -t tmpfs none /home && chown 0:0 /home"
    shell = f"{mounts} || exit 99\nsh -s\ncode=$?\nstat -c %U /home\nexit $code"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (1, ["root"]) and "mktemp" in done.stderr, done


def test_podman_is_not_asked_where_its_place_in_memory_could_not_be_made(tmp_path: Path) -> None:
    """In the /dev/shm that everybody can write, what others made there would become root's /etc, with registries.conf."""
    program = re.search(r'PODMAN_INFO = """(.*?)"""', render.read("master/registry.py"), re.DOTALL)
    assert program
    (tmp_path / "podman").write_text("#!/bin/sh\necho asked\n")
    (tmp_path / "mount").write_text(
        f'#!/bin/sh\n[ ! -e {tmp_path}/first ] || exit 1\n: >{tmp_path}/first\nexec /bin/mount "$@"\n'
    )
    for name in ("podman", "mount"):
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(["sh", "-c", program[1]], env=path, capture_output=True, text=True, timeout=60, check=False)
    assert (tmp_path / "first").exists() and done.returncode == 1 and "asked" not in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_each_temporary_folder_is_checked(script: Path) -> None:
    """A failed mktemp ends what it was made for, also where the shell runs without -e."""
    assert not UNCHECKED.findall(script.read_text())


def test_an_unchecked_folder_would_be_noticed() -> None:
    """The search above recognizes the forms that a script may use."""
    assert UNCHECKED.search("work=$(mktemp -d)\nremove_at_exit") and UNCHECKED.search("a=$(umask 077 && mktemp -d x)\n")
    assert not UNCHECKED.search("work=$(mktemp -d) || exit 1\n")
