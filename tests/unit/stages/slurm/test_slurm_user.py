"""Who SlurmUser is, and what else hosts have to know of slurm.conf by themselves: the same as Slurm, and as the reader here."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, Refused, StepContext
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.slurm import slurm_user

pytestmark = pytest.mark.slow

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
    "by a number that is root's too": ({"slurm.conf": "SlurmUser=00\n"}, "root"),
    "by a number that nobody has": ({"slurm.conf": "SlurmUser=54321\n"}, "unknown"),
    "by a name that nobody has": ({"slurm.conf": "SlurmUser=no-such-user\n"}, "unknown"),
    "by what other programs take for root": ({"slurm.conf": "SlurmUser=+0\n"}, "unknown"),
    "by a number with a blank": ({"slurm.conf": 'SlurmUser=" 0"\n'}, "unknown"),
    "by a number in another form": ({"slurm.conf": "SlurmUser=0x0\n"}, "unknown"),
    "by an option": ({"slurm.conf": "SlurmUser=--help\n"}, "unknown"),
    "by two": ({"slurm.conf": 'SlurmUser="daemon root"\n'}, "unknown"),
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
        ["sh", "-euc", render.script("lib/slurm_conf.sh", folder=str(folder)) + command],
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
    command = 'printf "%s\\n" "${slurm_lacks:-$slurm_name}" "$slurm_uid"'
    numbers = {"daemon": "1", "root": "0", "unknown": ""}
    assert said(written(tmp_path, files), command, awk) == f"{user}\n{numbers[user]}\n"


def test_every_script_asks_in_the_same_way(tmp_path: Path) -> None:
    """What the kubeconfig is made for, tried as and looked at as is who slurmctld runs as."""
    site = load(DEFAULT)
    made = slurm_user.shell(StepContext(site, Facts(), "one")).replace(site.slurm.folder, str(tmp_path))
    written(tmp_path, CASES["another daemon's file beside it"][0])
    told = subprocess.check_output(["sh", "-euc", f"{made}\necho $slurm_uid"], text=True)
    assert told == "1\n"


def test_values_without_their_quotes(tmp_path: Path) -> None:
    """The log is looked for where Slurm writes it."""
    text = 'SlurmctldLogFile="/var/log/slurm/slurmctld.log"\nPluginDir=/a:/b\n'
    written(tmp_path, {"slurm.conf": text})
    assert said(tmp_path, "log_file") == "/var/log/slurm/slurmctld.log\n"


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
        setting = slurm_conf.value(files["slurm.conf"], "SlurmUser", others, str(tmp_path))
        assert said(tmp_path, "conf_value SlurmUser", awk) == (f"{setting.value}\n" if setting else ""), files


def test_an_include_without_end(tmp_path: Path) -> None:
    """Whoever writes slurm.conf may include a device: reading it ends, and takes little memory."""
    written(tmp_path, {"slurm.conf": "SlurmUser=daemon\nInclude /dev/zero\n"})
    assert said(tmp_path, "conf_value SlurmUser") == "daemon\n"


UNREAD: dict[str, tuple[str, str, str]] = {
    "more files than a site has": ("", "", "(more than 300 files)"),
    "a file that can't be read": ("dd", 'case $1 in if=./0) exit 1 ;; esac; exec /bin/dd "$@"', "0 can't be read"),
    "a file of the kernel's": ("Include /proc/self/environ\n", "", "/proc/self/environ can't be read"),
    "a path that is none": (f"Include {'x' * 5000}\n", "", "... can't be read"),
    "more than there is in one": ("Include large\n" * 6, "", "(more than 5 MB)"),
    "no end": ("timeout", "exit 124", "(timed out)"),
    "a file that is killed": ("timeout", "exit 137", "(timed out)"),
    "no memory": ("timeout", "exit 2", "can't be read completely"),
}


@pytest.mark.parametrize("case", UNREAD)
def test_an_incomplete_slurm_conf_makes_nobody_root(tmp_path: Path, case: str) -> None:
    """A key that was not found says nothing where the rest could not be read: it is not Slurm's default then."""
    program, body, why = UNREAD[case]
    includes, program = (program, "") if program.startswith("Include") else ("", program)
    count = 1 if program or includes else 300
    (tmp_path / "large").write_text("# a comment\n" * 80000)
    files = {str(number): "" for number in range(count)}
    written(
        tmp_path,
        {"slurm.conf": "".join(f"Include {name}\n" for name in files) + f"{includes}SlurmUser=daemon\n", **files},
    )
    programs = tmp_path / f".{AWKS[0]}"
    programs.mkdir()
    (programs / "awk").symlink_to(str(shutil.which(AWKS[0])))
    if program:
        (programs / program).write_text(f"#!/bin/sh\n{body}\n")
        (programs / program).chmod(0o755)
    told = said(tmp_path, 'printf "%s\\n" "$slurm_uid" "$slurm_lacks" "$slurm_why"').split("\n")
    assert told[:2] == ["", "unreadable"]
    assert why in told[2]


@pytest.mark.parametrize(
    ("found", "owner"),
    [
        ({"owner": "slurm", "slurm_user": "slurm", "owner_uid": "5", "slurm_uid": "5"}, True),
        ({"owner": "slurm", "slurm_user": "other-name", "owner_uid": "5", "slurm_uid": "5"}, True),
        ({"owner": "root", "slurm_user": "slurm", "owner_uid": "0", "slurm_uid": "5"}, False),
        ({"owner": "UNKNOWN", "slurm_user": "7", "owner_uid": "7", "slurm_uid": ""}, False),
        ({"owner": "slurm", "slurm_user": "slurm", "owner_uid": "5", "slurm_uid": ""}, False),
    ],
)
def test_owners_are_compared_by_their_number(found: Any, owner: bool) -> None:
    """A user that has two names, or that slurm.conf calls by its number, owns its file."""
    assert kubeconfig.is_slurm_users(found) is owner


def test_the_kubeconfig_is_given_to_a_number(tmp_path: Path) -> None:
    """A name that slurm.conf says could be anything to chown; without a number nothing is given to anybody."""

    def owner(**found: str) -> str:
        return slurm_user.owner(StepContext(load(DEFAULT), Facts({"access.kubeconfig": {"c1": found}}), "c1"))

    assert owner(slurm_user="x", slurm_uid="64030", slurm_group="64031") == "64030:64031"
    for uid in ("", "+0", "0 ", "root", "1\n"):
        with pytest.raises(Refused, match="slurm-user-unknown: others can write it"):
            owner(slurm_user="x", slurm_uid=uid, slurm_group="1", slurm_why="others can write it")


WORK = "workflows.dataworkflowservices.github.io [] [] [create delete get patch]"


@pytest.mark.parametrize(
    ("table", "permissions", "text"),
    [
        ([WORK], slurm_user.NEEDED, "may work on Workflows, and may not read Secrets"),
        ([WORK, "secrets [] [] [get]"], slurm_user.Permissions(secrets=True), "may read Secrets"),
        ([WORK, "*.* [] [] [*]"], slurm_user.Permissions(secrets=True), "may read Secrets"),
        (
            [WORK.replace("create delete ", "")],
            slurm_user.Permissions(lacking=("create", "delete")),
            "may not create, delete Workflows",
        ),
        (
            ["error: no such host"],
            slurm_user.Permissions(refused="error: no such host"),
            "is refused: error: no such host",
        ),
        ([], slurm_user.Permissions(refused="kubectl printed nothing"), "is refused: kubectl printed nothing"),
        # kubectl's message decides nothing, whatever it says
        (
            ["may read Secrets"],
            slurm_user.Permissions(refused="may read Secrets"),
            "is refused: may read Secrets",
        ),
    ],
)
def test_permissions_are_a_value_and_worded_where_they_are_shown(
    table: list[str], permissions: slurm_user.Permissions, text: str
) -> None:
    """What SlurmUser may do is read from kubectl's table; each case has its words."""
    assert slurm_user.permissions(table) == permissions
    assert slurm_user.permissions_text(permissions) == text
