"""Who SlurmUser is, and what else hosts have to know of slurm.conf by themselves: the same as Slurm, and as the reader here."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from fabfile import render, slurmconf
from fabfile.inventory import DEFAULT, load
from fabfile.stages import kubeconfig, slurmuser
from fabfile.step import Facts, Place

CASES: dict[str, tuple[dict[str, str], str]] = {
    "another daemon's file beside it": (
        {"slurm.conf": "SlurmUser=daemon\n", "slurmdbd.conf": "SlurmUser=root\n"},
        "daemon",
    ),
    "an included file elsewhere": (
        {"slurm.conf": "Include site/user.conf\n", "site/user.conf": "SlurmUser=daemon\n"},
        "daemon",
    ),
    "in quotes": ({"slurm.conf": 'SlurmUser="daemon"\n'}, "daemon"),
    "an Include above what counts": (
        {"slurm.conf": "Include a.conf\nSlurmUser=daemon\n", "a.conf": "SlurmUser=bin\n"},
        "daemon",
    ),
    "an Include behind it": (
        {"slurm.conf": "SlurmUser=bin\ninclude a.conf\n", "a.conf": "SlurmUser=daemon\n"},
        "daemon",
    ),
    "the cluster's name in an Include": (
        {"slurm.conf": "ClusterName=LAB\nInclude %c.conf\n", "lab.conf": "slurmuser = daemon # x\n"},
        "daemon",
    ),
    "over two lines": ({"slurm.conf": "SlurmUser=\\\ndaemon\n"}, "daemon"),
    "an included file that includes itself": ({"slurm.conf": "SlurmUser=daemon\nInclude slurm.conf\n"}, "daemon"),
    "by its number": ({"slurm.conf": "SlurmUser=1\n"}, "daemon"),
    "by a number that is root's": ({"slurm.conf": "SlurmUser=0\n"}, "root"),
    "by a number that nobody has": ({"slurm.conf": "SlurmUser=54321\n"}, "54321"),
    "a folder in place of a file": (
        {"slurm.conf": "SlurmUser=daemon\nInclude b\nInclude it's\n", "b/x": "", "it's": ""},
        "daemon",
    ),
    "nowhere": ({"slurm.conf": "ClusterName=x\n#SlurmUser=daemon\nNodeName=a SlurmUser=bin\n"}, "root"),
    "no slurm.conf": ({}, "root"),
}
AWKS = [name for name in ("mawk", "gawk", "busybox") if shutil.which(name)]


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def said(folder: Path, command: str, awk: str = AWKS[0]) -> str:
    """What a script prints that has the reader of slurm.conf in it, under an awk of this name."""
    programs = folder / f".{awk}"
    if not programs.exists():
        programs.mkdir()
        (programs / "awk").symlink_to(str(shutil.which(awk)))
    told = subprocess.run(
        ["sh", "-euc", render.script("slurm_conf.sh", folder=str(folder)) + command],
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert told.stderr == b""
    return told.stdout.decode()


@pytest.mark.parametrize("awk", AWKS)
@pytest.mark.parametrize("case", CASES)
def test_who_slurm_user_is(tmp_path: Path, case: str, awk: str) -> None:
    """As Slurm takes it: from slurm.conf and what that includes, wherever it lies, in Slurm's order, the last that says it."""
    files, user = CASES[case]
    assert said(written(tmp_path, files), "slurm_user", awk) == f"{user}\n"


def test_every_script_asks_in_the_same_way(tmp_path: Path) -> None:
    """What the kubeconfig is made for, tried as and looked at as is who slurmctld runs as."""
    site = load(DEFAULT)
    made = slurmuser.slurm_user(Place(site, Facts(), "one")).replace(site.slurm.folder, str(tmp_path))
    written(tmp_path, CASES["another daemon's file beside it"][0])
    told = subprocess.check_output(["sh", "-euc", f"{made}\necho $user"], text=True)
    assert told == "daemon\n"


def test_values_without_their_quotes(tmp_path: Path) -> None:
    """The log is looked for where Slurm writes it."""
    text = 'SlurmctldLogFile="/var/log/slurm/slurmctld.log"\nPluginDir=/a:/b\n'
    written(tmp_path, {"slurm.conf": text})
    assert said(tmp_path, render.read("log_file.sh") + "log_file") == "/var/log/slurm/slurmctld.log\n"


def test_the_files_in_their_order(tmp_path: Path) -> None:
    """slurm.conf first, each once, those that are not there too."""
    written(
        tmp_path,
        {"slurm.conf": "Include b/x\nInclude gone\n#Include no\n Include no\nInclude b/x\n", "b/x": "Include y\n"},
    )
    assert said(tmp_path, "conf_files").splitlines() == [
        f"{tmp_path}/{name}" for name in ("slurm.conf", "b/x", "y", "gone")
    ]


PIECES = (
    *(
        "SlurmUser",
        "slurmuser",
        "=",
        "=root",
        "=slurm",
        ' "a b"',
        '"x"',
        "\\",
        "\\\n",
        "#",
        "\n",
        "\n",
        "\n",
        " ",
        "\t",
    ),
    *("\nInclude more\n", "Include %c\n", "\nSlurmUser=u1\n", '\nSlurmUser = "q" # x\n', "\nClusterName=AbC\n", "\r\n"),
    *("NodeName=a SlurmUser=no\n", "+=", "\\#", '"', "\v", "(", '=""'),
)


@pytest.mark.parametrize("awk", AWKS)
def test_both_readers_agree(tmp_path: Path, awk: str) -> None:
    """Whatever the text: what a host reads in it is what is read here."""
    chance = random.Random(7)  # noqa: S311 - texts, not secrets
    for _ in range(60):
        files = {
            name: "".join(chance.choices(PIECES, k=chance.randrange(25))) for name in ("slurm.conf", "more", "abc")
        }
        for name, text in files.items():
            (tmp_path / name).write_bytes(text.encode())
        others = {f"{tmp_path}/{name}": text for name, text in files.items() if name != "slurm.conf"}
        setting = slurmconf.value(files["slurm.conf"], "SlurmUser", others)
        assert said(tmp_path, "conf_said SlurmUser", awk) == (f"{setting.value}\n" if setting else ""), files


def test_an_include_without_end(tmp_path: Path) -> None:
    """Whoever writes slurm.conf may include a device: reading it ends, and takes little memory."""
    written(tmp_path, {"slurm.conf": "SlurmUser=daemon\nInclude /dev/zero\n"})
    script = render.script("slurm_conf.sh", folder=str(tmp_path)) + "slurm_user"
    told = subprocess.run(["sh", "-c", script], capture_output=True, timeout=120, check=False)
    assert told.stdout in (b"root\n", b"daemon\n")


@pytest.mark.parametrize(
    ("found", "owner"),
    [
        ({"owner": "slurm", "slurm_user": "slurm", "owner_uid": "5", "slurm_uid": "5"}, True),
        ({"owner": "slurm", "slurm_user": "other-name", "owner_uid": "5", "slurm_uid": "5"}, True),
        ({"owner": "slurm", "slurm_user": "5", "owner_uid": "5", "slurm_uid": "5"}, True),
        ({"owner": "root", "slurm_user": "slurm", "owner_uid": "0", "slurm_uid": "5"}, False),
        ({"owner": "UNKNOWN", "slurm_user": "7", "owner_uid": "7", "slurm_uid": ""}, False),
    ],
)
def test_owners_are_compared_by_their_number(found: dict[str, str], owner: bool) -> None:
    """A user that has two names, or that slurm.conf calls by its number, owns its file."""
    assert kubeconfig._slurm_users(found) is owner
