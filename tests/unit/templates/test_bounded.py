"""Bounds for what others say and run: numbers that are programs, programs that never end, and what they leave behind."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dws_on_csm.model import render
from tests.unit.hostile import SLURM_USER, Host, hostile_host, needs_root
from tests.unit.templates.test_templates import scripts

pytestmark = pytest.mark.slow

__all__ = ["hostile_host"]
SHELLS = pytest.mark.parametrize("shell", ["dash", "bash --posix"])
LONG = 900
"""Seconds that a hostile program would like to hold up root."""
SOON = 60
"""Seconds after which root would be held up: much less than LONG, and much more than a busy machine needs."""


SCRIPTS = scripts()

# --- programs


@pytest.fixture
def stubborn(hostile_host: Host) -> Iterator[Path]:
    """A program that does not end by TERM, and whose child in a session of its own keeps its output open."""
    child = f"trap '' TERM HUP; echo \\$\\$ >>{hostile_host.open}/left; sleep {LONG}"
    hostile_host.program("leaves", f'setsid sh -c "{child}" &\necho said; echo complained >&2')
    yield hostile_host.program("stubborn", f"trap '' TERM\nleaves\nwhile :; do sleep {LONG}; done")
    left = hostile_host.open / "left"
    for number in left.read_text().split() if left.exists() else ():
        subprocess.run(["kill", "-KILL", "--", f"-{number}"], check=False)  # a session of its own


CALLS = (
    ("out=$({})", "said", "137"),
    ("out=$({} 2>&1)", "said complained", "137"),
    ("out=$({} 2>/dev/null)", "said", "137"),
    ("{} >$TOP/file 2>$TOP/file2; out=$(cat $TOP/file $TOP/file2)", "said complained", "0"),
    ("{} | sed s/said/heard/ >$TOP/file; out=$(cat $TOP/file)", "heard", "0"),
)
"""How root calls a program, what is heard of it, and the code where it was killed."""


@needs_root
@SHELLS
@pytest.mark.usefixtures("stubborn")
def test_root_never_waits_for_others(hostile_host: Host, shell: str) -> None:
    """A program of SlurmUser's is killed in its time, and what holds its output open is not waited for; what it said counts."""

    def told(number: int, program: str) -> tuple[str, ...]:
        top = hostile_host.top / f"{number}{program[:1]}"
        top.mkdir()
        call = CALLS[number][0].format(f"as {SLURM_USER} {program}")
        script = f"{render.script('lib/as.sh')}TOP={top}\n{call}\necho $? $out\n"
        return tuple(subprocess.run(
            [*shell.split(), "-c", script], env={"PATH": f"{hostile_host.programs}:/usr/bin:/bin"}, cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SOON, check=False,
        ).stdout.split())  # fmt: skip

    began = time.monotonic()
    with ThreadPoolExecutor(len(CALLS)) as pool:  # they wait for the same seconds
        killed = list(pool.map(told, range(len(CALLS)), ["timeout 1 stubborn"] * len(CALLS)))
        left = list(pool.map(told, range(len(CALLS)), ["leaves"] * len(CALLS)))
    assert killed == [(code, *said.split()) for _, said, code in CALLS]
    assert left == [("0", *said.split()) for _, said, _ in CALLS]
    assert time.monotonic() - began < SOON


@needs_root
@SHELLS
def test_endless_output_is_cut(hostile_host: Host, shell: str) -> None:
    """So many bytes, or a line that is longer than memory, end the program that says them; what is within them is whole."""
    script = render.script("lib/as.sh") + f"most=100000\nas {SLURM_USER} timeout {SOON} $program 2>/dev/null | wc -c\n"
    for program, size in (("yes", 100000), ("seq 3000", 13893), ("printf part", 5), ("true", 0)):
        answer = hostile_host.run(f"program='{program}'\n{script}", shell.split()[0], seconds=SOON)
        assert int(answer.stdout) == size, program
    code = script.replace("2>/dev/null | wc -c", '>/dev/null 2>&1; echo "$?"')
    for program, expected in (("yes", 141), ("seq 17000", 0), ("head -c 100010 /dev/zero", 141), ("false", 1)):
        answer = hostile_host.run(f"program='{program}'\n{code}", shell.split()[0], seconds=SOON)
        assert int(answer.stdout) == expected, f"{program}: what was cut is taken for all"
    endless = hostile_host.run(f"program='cat /dev/zero'\n{script}", shell.split()[0], seconds=SOON)
    assert int(endless.stdout) < 100000


@needs_root
@SHELLS
def test_the_code_and_the_input_are_the_programs(hostile_host: Host, shell: str) -> None:
    """What is bound is otherwise as it was: exit code, both outputs, and what it reads."""
    program = "sh -c 'cat; echo out; echo err >&2; exit 7'"
    script = f"{render.script('lib/as.sh')}set -eu\ncode=0\nprintf 'in\\n' | as {SLURM_USER} {program} || code=$?\necho $code\n"
    answer = hostile_host.run(script, shell.split()[0])
    assert (answer.stdout, answer.stderr) == ("in\nout\n7\n", "err\n")


@needs_root
@SHELLS
def test_a_file_of_theirs_is_read_to_a_bound(hostile_host: Host, shell: str) -> None:
    """A file that has no end is refused with words, and so is what is no file; up to 8 MiB it is read whole."""
    file = hostile_host.etc / "slurm.conf"
    script = f"{render.script('lib/safe_file.sh')}\nread_file {file} | wc -c\nread_file {file} >/dev/null\necho $?\n"
    for size, told in ((8 << 20, f"{8 << 20}\n0\n"), ((8 << 20) + 1, "0\n1\n"), (1 << 40, "0\n1\n")):
        os.truncate(file, size)
        answer = hostile_host.run(script, shell.split()[0], seconds=SOON)
        assert answer.stdout == told, size
        assert ("is larger than 8 MiB: it is not read" in answer.stderr) is (told[0] == "0")
    file.unlink()
    os.mkfifo(file)
    answer = hostile_host.run(script, shell.split()[0], seconds=SOON)
    assert answer.stdout == "0\n1\n" and "is not a regular file" in answer.stderr


@needs_root
@SHELLS
def test_reading_a_silent_file_times_out(hostile_host: Host, shell: str) -> None:
    """As on a file server that is away: what was read of it ends with another exit code, and nobody waits for ever."""
    hostile_host.program("dd", "exec sleep 600")
    limit = "timeout --foreground -k 3 30 dd"
    library = render.script("lib/safe_file.sh")
    assert library.count(limit) == 1
    script = (
        f"{library.replace(limit, limit.replace(' 30 ', ' 1 '))}\nread_file {hostile_host.etc}/slurm.conf\necho $?\n"
    )
    assert hostile_host.run(script, shell.split()[0], seconds=SOON).stdout == "124\n"


@SHELLS
def test_a_name_service_that_does_not_respond(tmp_path: Path, shell: str) -> None:
    """A directory server that is down keeps getent for ever: nothing is run, and the reason is not that the account is missing."""
    for name, body in (
        ("getent", f"exec sleep {LONG}"),
        ("timeout", 'while [ "$1" != getent ]; do shift; done\nexec /usr/bin/timeout -k 1 1 "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = "as joe echo ran"
    done = subprocess.run(
        [*shell.split(), "-c", render.script("lib/bounded.sh", "lib/as.sh") + script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=SOON,
    )
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.startswith("account joe cannot be looked up: ") and done.stderr.endswith(": nothing was run\n")


# --- numbers

RUN = "a[$(touch {})]"
"""In $(( )) bash runs what is in such a name."""


@SHELLS
@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("0", "0"), ("7", "7"), ("123456789012345", "123456789012345"), ("1234567890123456", "0"), ("010", "0"), ("08", "0"),
        ("", "0"), ("-1", "0"), ("1 2", "0"), ("1\n", "0"), ("x", "0"), ("٣", "0"), ("0x10", "0"), ("1+1", "0"), (RUN, "0"),
    ],
)  # fmt: skip
def test_a_number_of_others_is_never_run(tmp_path: Path, shell: str, word: str, number: str) -> None:
    """What is no plain number counts as 0, wherever sh would count with it."""
    ran = tmp_path / "ran"
    script = f'{render.script("lib/bounded.sh")}n=$(number_or_zero "$1")\necho "$n $((n + 1))"\n'
    answer = subprocess.run(
        [*shell.split(), "-c", script, "sh", word.format(ran)], capture_output=True, text=True, timeout=SOON, check=True
    )
    assert answer.stdout == f"{number} {int(number) + 1}\n"
    assert not ran.exists()


@needs_root
@pytest.mark.parametrize("template", ["controller/logs.sh", "controller/cancel.sh"])
def test_a_size_that_slurm_user_tells_runs_nothing(hostile_host: Host, template: str) -> None:
    """`stat` runs as SlurmUser, who can have it say anything: in bash, too, root counts with numbers alone."""
    ran = hostile_host.open / "ran"
    hostile_host.program("stat", f'[ "$1" != -L ] && exec /usr/bin/stat "$@"\necho \'{RUN.format(ran)}\'')
    log = hostile_host.owned(hostile_host.etc / "log", "nothing\n")
    conf = f"SlurmUser={SLURM_USER}\nSlurmctldLogFile={log}\n"
    hostile_host.owned(hostile_host.etc / "slurm.conf", conf, mode=0o644)
    hostile_host.program("scontrol", f'echo "SlurmctldLogFile = {log}"')
    settings = {"folder": str(hostile_host.etc), "unit": "no-such-unit", "mark": "MARK", "since": "1", "past": "60"}
    settings |= {"follow": "", "step": "end", "size": RUN.format(ran), "allowed": "0", "job": "1", "name": "x"}
    script = render.script("lib/as.sh", "lib/slurmctld.sh", template, **settings)
    hostile_host.run(f"echo go | (\n{script}\n)", "bash")
    assert not ran.exists()


SET = {
    "allowed", "before", "days", "deadline", "hold", "next_size", "back_size", "past", "patience", "patience_", "slow",
}  # fmt: skip
"""Settings that Python writes before a script: numbers of the site file's, or of this program's."""
ASKED = r"\$\((?:clock|now|uptime_seconds|number_or_zero .*|date [^|()]*\+%s%?N?|stat -c %[Ys] [^()]*)\)"
ITS_OWN = re.compile(rf"-?\d+|\$\(\(.*\)\)|{ASKED}|\$(?:\?|code|now|took|until|patience)\b")
"""What a variable is given that sh has counted itself, has of its own clock, or has put through `number_or_zero`."""
COUNTED_SAFELY = {
    ("lib/as.sh", "text"): "its length",
    ("lib/slurmctld.sh", "content"): "its length",
    ("lib/as.sh", "deep"): "a level that roots counts itself",
    ("lib/bounded.sh", "1"): "what number_or_zero judges",
    ("commands/doctor/at_work.RUNNING_SCRIPT", "end"): "what `lock_end` of lock_holder.sh says",
    ("commands/doctor/at_work.RUNNING_SCRIPT", "until"): "counted by lock_holder.sh",
    ("commands/doctor/at_work.RUNNING_SCRIPT", "up"): "what the kernel says in /proc/uptime",
    ("master/ca.sh", "ca_until"): "what date makes of a time; it prints nothing else",
    ("master/ca.sh", "ca_ends"): "one of these",
    ("master/sign.sh", "ca_ends"): "set by ca.sh",
    ("master/sign.sh", "ends"): "of its own clock, or that",
    ("master/clone.sh", "left"): "what df says of root's folder",
    ("lib/bounded.sh", "up_"): "what the kernel says in /proc/uptime",
    ("master/lock_holder.sh", "up"): "what the kernel says in /proc/uptime",
    ("master/lock_take.sh", "up"): "what the kernel says in /proc/uptime",
    ("master/lock_take.sh", "left_at"): "of a file of root's, asked by `is_number` first",
    ("master/lock_take.sh", "now"): "of lock.sh's own clock",
    ("master/lock_take.sh", "until"): "counted by lock_holder.sh",
    ("master/lock_take.sh", "next"): "what date makes of a run's name, which grep has found to be one",
    ("master/lock_holder.sh", "end"): "line of a file of root's, asked for 12 digits at most first",
    ("master/lock_take.sh", "end"): "what `lock_end` of lock_holder.sh says",
    ("lib/fence.sh", "up_"): "what the kernel says in /proc/uptime",
    ("lib/fence.sh", "ends_"): "digits, as the line before asks",
    ("master/lock_renew.sh", "up"): "of lock.sh's own clock",
    ("master/lock_renew.sh", "end"): "what `lock_end` of lock_holder.sh says",
    ("master/lock_renew.sh", "seen"): "digits, of Python's",
    ("lib/safe_file.sh", "size"): "what the kernel says of a file",
    ("lib/durable.sh", "had"): "what stat says of a file of root's",
    ("lib/durable.sh", "2"): "Python's length of what it sends",
    ("controller/test_job.sh", "1"): "milliseconds that this script has counted",
    ("controller/test_job.sh", "at"): "the time that this script puts before each line",
    ("controller/test_job.sh", "said"): "lines",
    ("stages/slurm/slurm_user._TRY", "seconds"): "filled in by Python",
    ("controller/doctor_reach.sh", "quickest"): "took",
    ("controller/test_job.sh", "lines"): "what grep -c counts",
    ("controller/test_job.sh", "from"): "of its own clock",
    ("engine/host_script.LIBRARY", "2"): "Python's length of what it sends",
    ("engine/host_script.LIBRARY", "#"): "how many words it was given",
    ("pod/rollout.sh", "began"): "of its own clock",
}
"""Numbers that none of these is, and why sh can count with them all the same."""
COUNTS = re.compile(r"\$\(\((.*?)\)\)(?!\))|\[ ([^][]*?) -(?:gt|lt|ge|le|eq|ne) ([^][]*?) \]")
INNER = re.compile(r"\$\((?!\()[^()]*\)")
NAME = re.compile(r"\$?\{?#?([A-Za-z_][A-Za-z_0-9]*|[0-9#])(?![A-Za-z_0-9])")


def counted_with(text: str) -> set[str]:
    """The variables that a script counts with."""
    code = re.sub(r"(?m)^\s*#.*$|\s#\s.*$", "", text).replace("{{", "{").replace("}}", "}")
    while INNER.search(code):
        code = INNER.sub(lambda one: " 0 " if re.fullmatch(ASKED, one[0]) else " an_answer ", code)
    found: set[str] = set()
    for one in COUNTS.finditer(code):
        arithmetic, *operands = one.groups()
        if arithmetic is not None:
            found |= {name for name in NAME.findall(arithmetic) if not name.isdigit() or f"${name}" in arithmetic}
        else:
            sides = " ".join(filter(None, operands))
            found |= {name for name in NAME.findall(sides) if re.search(rf"\${{?{name}|\ban_answer\b", sides)}
    return found


def unfiltered(name: str, text: str) -> set[str]:
    """The variables among them that somebody else may have given their value."""
    found = set()
    for variable in counted_with(text) - SET:
        given = re.findall(rf"(?:^|[\s;({{]){variable}=(\"?\$\(.*|[^\s;)]*)", text, re.MULTILINE)
        if (name, variable) not in COUNTED_SAFELY and (
            not given or not all(ITS_OWN.match(one.strip('"')) for one in given)
        ):
            found.add(variable)
    return found


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_sh_counts_with_its_own_numbers_alone(name: str) -> None:
    """Each variable in $(( )) and in a test of numbers is sh's or Python's own, or went through `number_or_zero` or `is_number`."""
    assert unfiltered(name, SCRIPTS[name]) == set()


def test_a_number_of_others_is_seen() -> None:
    """The test sees what it is there for."""
    assert unfiltered("x", 'log_at=$(slurm stat "$log") || log_at=0\necho "$((log_at + 1))"') == {"log_at"}
    assert unfiltered("x", 'echo "+$(($1 + 1))"') == {"1"}
    assert unfiltered("x", 'echo "+$(($(slurm stat) + 1))"') == {"an_answer"}
    assert unfiltered("x", 'read -r size\nif [ "$size" -gt 3 ]; then') == {"size"}
    assert (
        unfiltered("x", 'at=$(number_or_zero "$(slurm stat)")\necho $((at + 1)) "$(($(date +%s) + deadline))"') == set()
    )


# --- who may run for how long


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_timeout_kills(name: str) -> None:
    """`timeout SECONDS` alone is what `as` and `slurm` take; every other one has -k, so that nobody outlives it."""
    for line in re.sub(r"(?m)^\s*#.*$", "", SCRIPTS[name].replace("\\\n", " ")).splitlines():
        for found in re.finditer(r"(?<![-\w$])timeout(?=\s+[-\"$0-9{])\s+((?:\S+\s+){0,3})", line):
            caller = r"(?:\bas|\bexec_as|reads_as\"|\bslurm|\bas_slurm_user|\bas_user)(?!\w)[^|;&]*$"
            theirs = re.search(caller, line[: found.start()])
            words = found[1]
            if theirs:
                assert re.match(r"\"?[$0-9]", words), line
            else:
                assert "-k " in words or "--kill-after" in words, line


# --- waits


WAITS = re.compile(
    r"-(?:ge|gt|le|lt) \"?\$\(date|\$\(date \+%s[^)]*\)\"? -(?:ge|gt|le|lt)|\$\(\(.*\$\(date \+%s\) *[+]"
)
"""How a script waits until a time of day."""
TOLD = {"master/lock.sh": "for people, and for earlier versions: what counts is counted from the boot on"}


def test_no_wait_is_bounded_by_a_clock_that_somebody_sets() -> None:
    """A step of the time of day (NTP, a virtual machine that stood still) makes no script give up, or wait for ever."""
    texts = {path.relative_to(render.TEMPLATES).as_posix(): path.read_text() for path in render.TEMPLATES.rglob("*.sh")}
    texts |= {path.name: path.read_text() for path in (render.TEMPLATES.parent / "dws_on_csm").rglob("*.py")}
    found = {name for name, text in texts.items() if any(WAITS.search(line) for line in text.splitlines())}
    assert found == set(TOLD)


STEPS = {"ahead": 90000, "back": -90000}


@SHELLS
@pytest.mark.parametrize("step", STEPS)
def test_the_waits_of_a_cancel_last_as_long_as_they_are_to(tmp_path: Path, shell: str, step: str) -> None:
    """The clock jumps with each look at it: what comes is seen, and what never comes is awaited for so long and no longer."""
    date = tmp_path / "date"
    count = f"n=$(cat {tmp_path}/n 2>/dev/null || echo 0); n=$((n + 1)); echo $n >{tmp_path}/n"
    date.write_text(f"#!/bin/sh\n{count}\necho $((1800000000 + n * {STEPS[step]}))\n")
    date.chmod(0o755)
    come = "look_at=$(cat looks 2>/dev/null || echo 0); look_at=$((look_at + 1)); echo $look_at >looks\n"
    come += 'if [ $look_at -ge 3 ] && [ -z "$never" ]; then buffer=running; fi\n'
    slurm = f"find_slurm() {{ :; }}\nslurm() {{\nbuffer=pending\n{come}"
    slurm += 'echo "JobState=PENDING BurstBufferState=$buffer Reason=None"; }\n'
    settings = {"release": "", "wanted": "running", "step": "begin", "job": "1", "name": "x", "user": "x"}
    for never, buffer in (("", "running"), ("yes", "pending")):
        given = {**settings, "allowed": "2" if never else "60", "never": never}
        script = render.script("lib/bounded.sh", **given) + slurm + render.read("controller/cancel.sh")
        (tmp_path / "looks").unlink(missing_ok=True)
        began = time.monotonic()
        done = subprocess.run(
            [*shell.split(), "-c", script],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        )
        assert f"buffer={buffer}\n" in done.stdout
        assert not never or time.monotonic() - began >= 1


# --- words of others

OWN_WORDS = {
    *("SIZE", "at", "before", "now", "after", "began", "boot", "code", "end", "hold", "left", "quickest", "up", "up_"),
    *("as_group", "commit", "content", "id", "name", "main", "until_", "patience", "closed", "wanted", "work", "one"),
    *("token", "newest", "mark", "folder", "own_", "usual", "where", "state", "tool"),
}
"""Numbers, names of the script's own, and what it has checked character by character."""
FIRST = {
    ("lib/as.sh", "1"): "a number",
    ("lib/bounded.sh", "1"): "a number",
    ("lib/slurmctld.sh", "1"): "a number",
    ("lib/slurm_conf.sh", "1"): "a name of Slurm's settings, of this script's own",
    ("engine/host_script.LIBRARY", "1"): "a path of Python's",
    ("engine/host_script.LIBRARY", "2"): "a number of Python's",
    ("master/undeploy.sh", "crd#*"): "the name of a CRD, which has no backslash",
}
"""Script and variable, and why echo may have it all the same."""
ECHO = re.compile(r"""(?<![\w"'-])echo +("(?:[^"\\]|\\.)*"|[^\s;|&)}]+)""")


def echoed(text: str) -> set[str]:
    """The variables that a script gives to echo."""
    code = re.sub(r"(?m)^\s*#.*$|\s#\s.*$", "", text)
    return {name for words in ECHO.findall(code) for name in re.findall(r"\$\{?([A-Za-z_0-9*#]+)", words)}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_words_of_others_go_through_printf(name: str) -> None:
    """echo of some shells makes lines, and an end, of the backslashes in its words: it gets words of the script's own alone."""
    assert {one for one in echoed(SCRIPTS[name]) - OWN_WORDS if (name, one) not in FIRST} == set()


def test_a_refusal_is_always_a_single_line() -> None:
    """A folder of SlurmUser's has any name: what root says of it is no second line."""
    script = f"{render.script('lib/safe_file.sh')}\nrefuse '/etc/a\\nmode=666\\c is no file'"
    told = subprocess.run(["dash", "-c", script], capture_output=True, text=True, check=False)
    assert told.stderr == "/etc/a\\nmode=666\\c is no file\n"
