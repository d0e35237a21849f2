"""The two readers of slurm.conf, in sh for hosts and in Python: both read the same, and as Slurm's own parser does.

Slurm 24.11.5's parser (s_p_parse_file of its libslurmfull.so) read 620 files made in this way as both readers do; of 180 others
it said that slurmctld would not start with them.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dws_on_csm.domain import slurm_conf
from dws_on_csm.model import render

KEYS = ("SlurmUser", "PluginDir", "SlurmctldLogFile", "BurstBufferType", "ClusterName")
LEADS = ["", "", "", " ", "\t", "\x0b", "#", "# "]
NAMES = [*KEYS, "slurmuser", "SLURMUSER", "plugindir", "NodeName", "Slurm\\User"]
EQUALS = ["=", "=", " = ", "\t=\t", "+=", " *= ", "\x0b=\x0c", "==", " + ="]
VALUES = [
    *(
        "slurm",
        '"slurm"',
        '"a b"',
        "/a/b",
        '/a"b',
        '"x"y',
        "a#b",
        "a\\#b",
        "a\\\\",
        '""',
        '"a',
        '\\"q r\\"',
        "'x'",
        "a=b",
    ),
    *("=x", "0", "1234", "lua", "Alps", "caf\udce9", '"tab\there"', "a\\ b", "%c"),
]
ENDS = [
    *("\n", "\n", "\n", "\r\n", " \n", "\t\r\n", " # c\n", "#\\\n", "\\\n", " \\\n", "\\ \t\r\n", "\\\\\n", "\\\\\\\n"),
    *(" \\ # x\n", "", "\udc85\n"),
]
INCLUDES = [
    "Include ",
    "include ",
    "INCLUDE\t",
    " Include ",
    "Include=",
    "Includes ",
    "Include \\\n",
    "Incl\\ude ",
    "#Include ",
]
FILES = [
    "a.conf",
    "b.conf",
    "sub/a.conf",
    "{top}/a.conf",
    "./a.conf",
    '"a.conf"',
    "a.conf x",
    "a.conf#x",
    "%c.conf",
    "a\\.conf",
]
ODD = ["\n", "\\\n", "garbage\n", "\r", '"', " ", "\\"]


def text(dice: random.Random, files: Sequence[str]) -> str:
    """Some difficult lines."""
    lines = ""
    for _ in range(dice.randint(0, 7)):
        if files and dice.random() < 0.4:
            lines += dice.choice(INCLUDES) + dice.choice(files) + dice.choice(ENDS)
        else:
            lines += (
                dice.choice(LEADS) + dice.choice(NAMES) + dice.choice(EQUALS) + dice.choice(VALUES) + dice.choice(ENDS)
            )
        lines += dice.choice(ODD) if dice.random() < 0.1 else ""
    return lines


def by_sh(folders: Sequence[Path]) -> dict[str, dict[str, str]]:
    """Key in lower case -> value, for each folder."""
    script = render.script("lib/slurm_conf.sh", folder=str(folders[0]))
    script += '\nwhile IFS= read -r folder; do read_conf; printf \'dir %s %s\\n%s\\n\' "$conf_code" "$folder" "$conf_found"; done'
    asked = "".join(f"{folder}\n" for folder in folders).encode()
    told = subprocess.run(["sh", "-c", script], input=asked, capture_output=True, timeout=120, check=True).stdout
    values: dict[str, dict[str, str]] = {}
    folder = ""
    for line in told.decode(errors="surrogateescape").split("\n"):
        word, _, rest = line.partition(" ")
        if word == "dir":
            code, _, folder = rest.partition(" ")
            values[folder] = {} if code == "0" else {"code": code}
        elif word == "said":
            key, _, value = rest.partition(" ")
            values[folder][key] = value
    return values


def by_python(folder: Path) -> dict[str, str]:
    files = {str(path): slurm_conf.decoded(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    files |= {path.replace(f"{folder}/", f"{folder}/./"): content for path, content in files.items()}
    settings = {key: slurm_conf.value(files[f"{folder}/slurm.conf"], key, files, str(folder)) for key in KEYS}
    return {key: setting.value for key, setting in settings.items() if setting}


@pytest.mark.slow
def test_both_readers_read_the_same(tmp_path: Path) -> None:
    """A hundred slurm.confs with includes: quotes, comments, continuations, repeated keys, line ends, white space."""
    dice = random.Random(5)  # noqa: S311 - texts to try, no secrets
    folders = []
    for number in range(100):
        folder = tmp_path / str(number)
        (folder / "sub").mkdir(parents=True)
        files = [name.format(top=folder) for name in FILES]
        texts = {"slurm.conf": "ClusterName=Alps\n" * dice.randint(0, 1) + text(dice, files)}
        texts["a.conf"] = text(dice, ["b.conf", "sub/a.conf", "sub/%c.conf"])
        texts |= {name: text(dice, []) for name in ("b.conf", "sub/a.conf", "alps.conf", "sub/alps.conf", '"a.conf"')}
        for name, content in texts.items():
            (folder / name).write_bytes(content.encode(errors="surrogateescape"))
        folders.append(folder)
    read = by_sh(folders)
    for folder in folders:
        assert read[str(folder)] == by_python(folder), (folder / "slurm.conf").read_bytes()


@pytest.mark.parametrize(
    ("files", "user", "log"),
    [
        (
            {
                "slurmdbd.conf": "DbdHost=ctl1\nSlurmUser=root\nLogFile=/var/log/slurmdbd.log\n",
                "slurm.conf": "ClusterName=site\nSlurmUser=daemon\n",
            },
            "daemon",
            "",
        ),
        (
            {
                "slurm.conf": "ClusterName=site\nInclude site/user.conf\n",
                "site/user.conf": "SlurmUser=daemon\nSlurmctldLogFile=/var/log/ctld.log\n",
            },
            "daemon",
            "/var/log/ctld.log",
        ),
        ({"slurm.conf": 'SlurmUser="daemon"\nSlurmctldLogFile="/var/log/a b.log"\n'}, "daemon", "/var/log/a b.log"),
        ({"slurm.conf": 'SlurmUser = "1" # daemon\r\n'}, "daemon", ""),
        ({"slurm.conf": "SlurmUser=root\nInclude u\nSlurmctldLogFile=/x\n", "u": "slurmuser=bin\n"}, "bin", "/x"),
        ({"slurm.conf": "Include u\nSlurmUser=daemon\n", "u": "SlurmUser=bin\n"}, "daemon", ""),
        ({"slurm.conf": "ClusterName=Site\nInclude user-%c\n", "user-site": "SlurmUser=dae\\\nmon\n"}, "daemon", ""),
        ({"slurm.conf": "#SlurmUser=bin\n", "slurm.conf.old": "SlurmUser=daemon\n"}, "root", ""),
    ],
)
def test_who_slurm_user_is(tmp_path: Path, files: dict[str, str], user: str, log: str) -> None:
    """The kubeconfig belongs to whom slurm.conf and its includes name, not another file beside them."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content.encode())
    script = render.script("lib/slurm_conf.sh", folder=str(tmp_path), unit="x")
    script += '\nis_closed() { :; }\nfind_slurm_user\nprintf "%s\\n" "$slurm_name" "$(log_file)"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{user}\n{log}\n"


def test_no_template_reads_slurm_conf_in_another_way() -> None:
    """A value of slurm.conf comes from slurm_conf.sh: no sed, grep or awk of a script's own."""
    own = re.compile(r"\b(?:sed|grep|awk)\b[^|;#]*(?:slurm\.conf|\*\.conf|" + "|".join(KEYS) + ")", re.IGNORECASE)
    scripts = [path for path in render.TEMPLATES.rglob("*.sh") if path.name != "slurm_conf.sh"]
    lines = [line for path in scripts for line in path.read_text().split("\n") if not line.lstrip().startswith("#")]
    assert [line for line in lines if own.search(line)] == []
