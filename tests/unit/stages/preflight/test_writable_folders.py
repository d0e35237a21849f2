"""Folders in which other users than root and SlurmUser could replace slurm.conf: real folders, owners and groups."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.preflight import writable_folders

pytestmark = pytest.mark.slow

SLURM_USER, OTHER = "daemon", "nobody"


@pytest.fixture
def etc() -> Iterator[Path]:
    """SlurmUser's folder with a slurm.conf, which others can enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        folder = Path(made) / "etc"
        folder.mkdir(mode=0o755)
        (folder / "slurm.conf").write_text("ClusterName=x\nInclude more/nodes.conf\n")
        (folder / "more").mkdir(mode=0o755)
        (folder / "more/nodes.conf").write_text("")
        os.chown(folder, pwd.getpwnam(SLURM_USER).pw_uid, -1)
        yield folder


def found(etc: Path) -> list[tuple[str, str]]:
    """Name and text of the findings on a controller with this folder."""
    files = " ".join(f"{etc}/{name}" for name in ("slurm.conf", "burst_buffer.lua"))
    names = ("lib/safe_file.sh", "lib/slurmctld.sh", "controller/slurm_folders.sh")
    script = render.script(*names, folder=str(etc), unit="slurmctld", files=files)
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=60, check=True)
    place = StepContext(load(DEFAULT), Facts({CONTROLLER.name: {"c1": {"user": SLURM_USER, "uid": "1"}}}), "c1")
    return [(one.name, one.text) for one in writable_folders.judge(place, writable_folders.parse(done.stdout))]


def test_a_folder_of_slurm_users_is_as_it_may_be(etc: Path) -> None:
    """So is a folder that a group without other members can write, and /tmp far above."""
    os.chown(etc, -1, pwd.getpwnam(SLURM_USER).pw_gid)
    etc.chmod(0o775)
    assert found(etc) == []


def given(path: Path, owner: str, group: str, mode: int) -> None:
    """Give a file or a folder this owner and group, if named, and this mode."""
    os.chown(path, pwd.getpwnam(owner).pw_uid if owner else -1, pwd.getpwnam(group).pw_gid if group else -1)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("where", "owner", "group", "mode", "who"),
    [
        (".", "", "", 0o757, "everybody"),
        (".", "", "", 0o1757, "everybody"),
        (".", OTHER, "", 0o755, OTHER),
        (".", "", OTHER, 0o775, OTHER),
        ("more", OTHER, "", 0o755, OTHER),
        ("..", "", "", 0o777, "everybody"),
    ],
)
def test_one_that_others_can_write_is_a_finding(
    etc: Path, where: str, owner: str, group: str, mode: int, who: str
) -> None:
    """Its owner, its group or everybody; that of an include, and one above it."""
    given(etc / where, owner, group, mode)
    ((name, text),) = found(etc)
    assert name == "slurm-folder-writable" and who in text and " on c1 can be written by " in text


def test_a_writable_folder_of_slurms_plugins_is_a_finding(etc: Path) -> None:
    """Each folder that PluginDir names, whether or not there is such a plugin, and one above it."""
    plugins = etc.parent / "lib"
    for name in ("site", "slurm"):
        (plugins / name).mkdir(mode=0o755, parents=True)
    (etc / "slurm.conf").write_text(f"PluginDir={plugins}/site:{plugins}/slurm\n")
    assert found(etc) == []
    given(plugins / "slurm", OTHER, "", 0o755)
    ((name, text),) = found(etc)
    assert name == "slurm-folder-writable" and f"{plugins}/slurm on c1 can be written by {OTHER}" in text
    given(plugins / "slurm", "root", "", 0o755)
    plugins.chmod(0o757)
    ((name, text),) = found(etc)
    assert name == "slurm-folder-writable" and f"{plugins} on c1" in text


def test_a_foreign_link_is_a_finding(etc: Path) -> None:
    """In the preflight, and not only when the file is written."""
    (etc.parent / "elsewhere").touch()
    (etc / "burst_buffer.lua").symlink_to(etc.parent / "elsewhere")
    ((name, text),) = found(etc)
    assert name == "slurm-file-link" and f"does not follow the link {etc}/burst_buffer.lua" in text


def test_a_link_to_nothing_is_named_with_its_target(etc: Path) -> None:
    """A disk that is not mounted, a package that was removed."""
    (etc / "burst_buffer.lua").symlink_to("/opt/none/burst_buffer.lua")
    ((name, text),) = found(etc)
    assert name == "slurm-file-link"
    assert f"{etc}/burst_buffer.lua on c1 is a link to /opt/none/burst_buffer.lua, which does not exist" in text


@pytest.mark.parametrize("file", ["slurm.conf", "more/nodes.conf"])
@pytest.mark.parametrize(
    ("owner", "group", "mode", "who"),
    [
        ("", "", 0o646, "everybody"),
        (OTHER, "", 0o644, OTHER),
        ("", OTHER, 0o664, "group nogroup ("),
        (SLURM_USER, OTHER, 0o664, "group nogroup ("),
    ],
)
def test_a_file_that_others_can_write_is_a_finding(
    etc: Path, file: str, owner: str, group: str, mode: int, who: str
) -> None:
    """slurm.conf itself and its includes, whatever the mode of the folder is."""
    given(etc / file, owner, group, mode)
    ((name, text),) = found(etc)
    assert name == "slurm-file-writable" and f"{etc}/{file} on c1 can be written by {who}" in text


def test_a_file_of_slurm_users_is_as_it_may_be(etc: Path) -> None:
    """So is a file that a group without other members can write; and root's file, by root's group."""
    slurm = pwd.getpwnam(SLURM_USER)
    os.chown(etc / "slurm.conf", slurm.pw_uid, slurm.pw_gid)
    (etc / "slurm.conf").chmod(0o664)
    (etc / "more/nodes.conf").chmod(0o664)
    assert found(etc) == []


def test_users_in_an_acl_count_as_others(etc: Path) -> None:
    """The group bits of the mode are the ACL's mask then, and the group's members do not matter."""
    if (
        not shutil.which("setfacl")
        or subprocess.run(
            ["setfacl", "-m", f"u:{OTHER}:rw", etc / "slurm.conf"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("this file system has no ACLs")
    ((name, text),) = found(etc)
    assert name == "slurm-file-writable" and "users in its ACL" in text


def test_names_may_have_blanks() -> None:
    """A directory service has groups such as "domain users"."""
    told = writable_folders.parse(b"folder root\tdomain users\t775\t/etc/slurm\nmember domain users\tann lee\n")
    assert told["folders"] == [[True, "root", "domain users", 0o775, "/etc/slurm"]]
    assert told["members"] == {"domain users": ["ann lee"]}


def test_a_path_that_slurm_user_chose_runs_nothing_when_the_fix_is_pasted(tmp_path: Path) -> None:
    """It is one quoted word, and chown follows no link that took its place."""
    trap = f"{tmp_path}/$(touch ran)/'; touch ran; '.conf"
    row = [True, OTHER, "users", 0o666, trap]
    answer = {"files": [row], "folders": [], "members": {}, "acls": [], "links": [], "dangling": []}
    place = StepContext(load(DEFAULT), Facts({CONTROLLER.name: {"c1": {"user": SLURM_USER, "uid": "1"}}}), "c1")
    (finding,) = writable_folders.judge(place, answer)
    command = finding.fix.partition("`")[2].rpartition("`")[0]
    assert command.startswith("chown -h SlurmUser -- ")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert not (tmp_path / "ran").exists()
