"""Which slurm.conf slurmctld reads: by its arguments, its environment, its unit, and its own word."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from dws_on_csm.model import render
from tests.unit.hostile import needs_root

pytestmark = pytest.mark.slow

SHELLS = pytest.mark.parametrize("shell", ["dash", "bash --posix"])


@SHELLS
@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (["argv slurmctld", "argv -D", "argv -f", "argv /opt/s/slurm.conf"], "/opt/s/slurm.conf (-f in it)"),
        (["argv slurmctld", "argv -Dvvf/a b/slurm.conf"], "/a b/slurm.conf (-f in it)"),
        (["argv slurmctld", "argv -f", "argv /a", "argv x", "argv -f/b"], "/b (-f in it)"),
        (["argv slurmctld", "argv -f", "argv /a", "environ SLURM_CONF=/b"], "/a (-f in it)"),
        (["argv slurmctld", "argv -L", "argv -f", "argv -n-f", "argv --systemd"], ""),
        (["argv slurmctld", "argv --", "argv -f", "argv /a"], ""),
        (["argv slurmctld", "argv -f"], ""),
        (["argv slurmctld", "environ A=1", "environ SLURM_CONF=/b=c d"], "/b=c d (SLURM_CONF in it)"),
        (["argv slurmctld", "environ SLURM_CONF=", "environ SLURM_CONFX=/b"], ""),
        (['unit A=1 "O=-f /a/slurm.conf -v"', "exec /usr/sbin/slurmctld --systemd $O"], "/a/slurm.conf (-f in it)"),
        (["unit O=-v", "file O=-f /b", "exec slurmctld $O"], "/b (-f in it)"),
        (["file # O=-f /a", "file ; O=-f /a", "exec slurmctld $O"], ""),
        (["file O=\"-f '/a b/slurm.conf'\" ", "exec slurmctld $O"], "/a b/slurm.conf (-f in it)"),
        (["file O=-v \\", "file   -f /a\r", "exec slurmctld $O"], "/a (-f in it)"),
        (["file  SLURM_CONF = '/a/slurm.conf'", "exec slurmctld -D"], "/a/slurm.conf (SLURM_CONF in it)"),
        (["unit SLURM_CONF=/a", "file SLURM_CONF=/b", "exec slurmctld"], "/b (SLURM_CONF in it)"),
        (["unit C=/etc/x", "exec slurmctld -f ${C}/slurm.conf"], "/etc/x/slurm.conf (-f in it)"),
        (["unit C=x${C}", "exec slurmctld ${C} -f /a"], "/a (-f in it)"),
        (["exec slurmctld --systemd $UNSET", "unit P=$'a b'"], ""),
        ([], ""),
    ],
)
def test_where_the_path_is_named(shell: str, lines: Sequence[str], path: str) -> None:
    """As getopt reads arguments, and systemd the variables of a unit and its files; -f counts more than SLURM_CONF."""
    script = render.script("controller/conf_path.sh") + "\nnamed_conf it"
    told = subprocess.run(
        [*shell.split(), "-c", script], input="\n".join([*lines, ""]), capture_output=True, text=True, check=True
    )
    assert (told.stdout.strip(), told.stderr) == (path, "")


SYSTEMCTL = """#!/bin/sh
case "$*" in
show-environment) echo LANG=C ;;
*"-p Environment -p EnvironmentFiles -p ExecStart slurmctld")
    echo 'Environment=A=1'
    echo "EnvironmentFiles=HERE/default (ignore_errors=yes)"
    echo 'ExecStart={ path=/sbin/slurmctld ; argv[]=/sbin/slurmctld --systemd $SLURMCTLD_OPTIONS ; ignore_errors=no ; pid=0 }' ;;
esac
"""


@contextmanager
def slurmctld(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[int]:
    """A process with these arguments and this environment."""
    words = ["slurmctld", "-c", "read line", *arguments]
    process = subprocess.Popen(words, executable="/bin/sh", env={"PATH": "/bin", **environment}, stdin=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        process.communicate()


def other_confs(host: Path, main: int, unit: bool = False, shows: str = "", where: str = "here UP") -> str:
    """What the script finds for the slurm.conf in etc/; `shows`: SLURM_CONF of `scontrol show config`."""
    for folder in ("etc", "bin", "opt"):
        (host / folder).mkdir(exist_ok=True)
        if folder != "bin":
            (host / folder / "slurm.conf").write_text("ClusterName=x\n")
    (host / "bin/systemctl").write_text(SYSTEMCTL.replace("HERE", str(host)))
    (host / "bin/systemctl").chmod(0o755)
    stubs = f"""
main={main or ""}
systemd() {{ {str(unit).lower()}; }}
pings() {{ echo {where}; }}
running_setting() {{ echo {shows}; }}
other_confs
"""
    settings = {"folder": str(host / "etc"), "unit": "slurmctld"}
    script = render.script("lib/slurmctld.sh", "controller/conf_path.sh", **settings) + stubs
    told = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{host}/bin:/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stderr == ""
    return told.stdout.replace(str(host), "")


def test_what_the_running_process_reads(tmp_path: Path) -> None:
    """Its -f, else its SLURM_CONF; the site file's own path, under any name of its folder, is none other."""
    (tmp_path / "link").symlink_to(tmp_path / "etc")
    with slurmctld(["-D", "-f", f"{tmp_path}/opt/slurm.conf"], {}) as main:
        assert other_confs(tmp_path, main) == "/opt/slurm.conf (-f in the running process)\n"
    with slurmctld([], {"SLURM_CONF": f"{tmp_path}/opt/slurm.conf"}) as main:
        assert other_confs(tmp_path, main) == "/opt/slurm.conf (SLURM_CONF in the running process)\n"
    for same in ("etc/slurm.conf", "link/slurm.conf", "etc/../etc/slurm.conf"):
        with slurmctld(["-f", f"{tmp_path}/{same}"], {}) as main:
            assert other_confs(tmp_path, main, shows="/opt/slurm.conf") == ""
    with slurmctld(["-f", "slurm.conf"], {}) as main:
        assert other_confs(tmp_path, main) == "slurm.conf (-f in the running process)\n"


def test_a_link_to_the_same_file_in_another_folder_is_another_one(tmp_path: Path) -> None:
    """slurmctld looks for burst_buffer.lua beside the name that it was given, not beside the file."""
    other_confs(tmp_path, 0)
    (tmp_path / "named").mkdir()
    (tmp_path / "named/slurm.conf").symlink_to(tmp_path / "etc/slurm.conf")
    with slurmctld(["-f", f"{tmp_path}/named/slurm.conf"], {}) as main:
        assert other_confs(tmp_path, main) == "/named/slurm.conf (-f in the running process)\n"


def test_what_the_unit_will_start_counts_too(tmp_path: Path) -> None:
    """The file of the unit counts too, because a restart reads it; if both differ, both are reported."""
    (tmp_path / "default").write_text(f"# options\nSLURMCTLD_OPTIONS=-v -f {tmp_path}/opt/slurm.conf\n")
    assert other_confs(tmp_path, 0, unit=True) == "/opt/slurm.conf (-f in the unit slurmctld)\n"
    with slurmctld(["-f", f"{tmp_path}/opt/slurm.conf"], {}) as main:
        assert other_confs(tmp_path, main, unit=True) == "/opt/slurm.conf (-f in the running process)\n"
    (tmp_path / "default").write_text(f"SLURM_CONF={tmp_path}/usr/slurm.conf\n")
    with slurmctld(["-f", f"{tmp_path}/opt/slurm.conf"], {}) as main:
        both = "/opt/slurm.conf (-f in the running process)\n/usr/slurm.conf (SLURM_CONF in the unit slurmctld)\n"
        assert other_confs(tmp_path, main, unit=True) == both
    (tmp_path / "default").write_text(f"SLURM_CONF={tmp_path}/etc/slurm.conf\n")
    assert other_confs(tmp_path, 0, unit=True) == ""


def test_what_slurmctld_was_built_with(tmp_path: Path) -> None:
    """`scontrol show config` tells it of the slurmctld in charge: of this one only if it is that one."""
    with slurmctld([], {}) as main:
        there = f"{tmp_path}/opt/slurm.conf"
        assert other_confs(tmp_path, main, shows=there) == "/opt/slurm.conf (as slurmctld reports)\n"
        assert other_confs(tmp_path, main, shows=there, where="there UP") == ""
        assert other_confs(tmp_path, main, shows="", where="here DOWN") == ""
        assert other_confs(tmp_path, main, shows=f"{tmp_path}/etc/slurm.conf") == ""


def test_what_a_process_says_states_no_other_fact(tmp_path: Path) -> None:
    """SlurmUser can start slurmctld with any arguments: they are one line, and nothing in them is run."""
    with slurmctld(["-f", f"/x\nuid=0\n$(touch {tmp_path}/ran)"], {"SLURM_CONF": "/y"}) as main:
        assert other_confs(tmp_path, main) == "/x uid=0 $(touch /ran) (-f in the running process)\n"
    assert not (tmp_path / "ran").exists()


def test_slurms_programs_read_the_same_file(tmp_path: Path) -> None:
    """Whatever the login's environment says; without that file they look where they were built to."""
    script = (
        render.script("lib/slurmctld.sh", folder=str(tmp_path), unit="x") + "\nas root sh -c 'echo \"$SLURM_CONF\"'"
    )

    def told() -> str:
        settings = {**os.environ, "SLURM_CONF": "/elsewhere/slurm.conf"}
        return subprocess.run(["sh", "-c", script], env=settings, capture_output=True, text=True, check=True).stdout

    assert told() == "\n"
    (tmp_path / "slurm.conf").write_text("ClusterName=x\n")
    assert told() == f"{tmp_path}/slurm.conf\n"


@needs_root
@pytest.mark.parametrize(
    ("included", "says"),
    [
        ("seen", "asked"),
        ("missing", "error: cannot read file {file}: it does not exist"),
        ("closed", "error: cannot read file {file}: nobody may not enter {file.parent}"),
    ],
)
def test_slurms_programs_do_not_wait_a_minute_for_an_included_file(included: str, says: str) -> None:
    """Each of them would look once a second for a file that is missing, or that root alone can see: all looks at the controller
    would end at their deadline, without a cause. What reads no slurm.conf runs."""
    with tempfile.TemporaryDirectory() as name:
        folder, extra = Path(name), Path(name) / "site/extra.conf"
        extra.parent.mkdir()
        if included != "missing":
            extra.write_text("\n")
        extra.parent.chmod(0o700 if included == "closed" else 0o755)
        (folder / "slurm.conf").write_text("ClusterName=lab\nSlurmUser=nobody\nInclude site/extra.conf\n")
        (folder / "scontrol").write_text("#!/bin/sh\necho asked\n")
        (folder / "scontrol").chmod(0o755)
        folder.chmod(0o755)
        script = render.script("lib/slurmctld.sh", folder=name, unit="x")
        script += "\nfind_slurm; slurm timeout 5 scontrol ping 2>&1; slurm timeout 5 echo other"
        env = {"PATH": f"{name}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [says.format(file=extra), "other"], done.stderr
