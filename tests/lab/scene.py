"""The states of a site that tests begin with, its site file and variants of it."""

import base64
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dws_on_csm.model.actions import STATE
from lab import lifecycle, machine, registry, ssh
from lab.model import Lab
from tests.lab import product, secret
from tests.lab.product import Answer

MASTER, PRIMARY, BACKUP, REGISTRY = "ncn-m001", "slurmctl1", "slurmctl2", "registry.local"
HOSTS = (MASTER, PRIMARY, BACKUP, "nid000001", "nid000002")
"""The hosts of the site file."""


def site_file(lab: Lab) -> Path:
    """The site file that the lab has written."""
    return lab.state / "hosts.yaml"


def variant(lab: Lab, folder: Path, changes: Mapping[str, Any]) -> Path:
    """A copy of the lab's site file in `folder` with some keys changed: {"versions": {"dws": "0.0.19"}}."""
    site = yaml.safe_load(site_file(lab).read_text())
    site["ssh"]["config"] = str(lab.state / "ssh_config")
    for key, value in changes.items():
        site[key] = {**site.get(key, {}), **value} if isinstance(value, Mapping) else value
    path = folder / "hosts.yaml"
    path.write_text(yaml.safe_dump(site))
    return path


def everywhere(lab: Lab, command: str, *names: str, feed: str = "") -> dict[str, str]:
    """Host -> what a shell command, as root, says there; on all hosts of the lab unless some are named."""
    hosts = names or [host.name for host in lab.hosts]
    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(pool.map(lambda name: (name, ssh.run(lab, name, command, feed)), hosts))


def pristine(lab: Lab) -> None:
    """The site to which nothing was done: made so again only where something was."""
    touched = everywhere(lab, f"[ ! -e {STATE} ] || echo yes", MASTER, PRIMARY, BACKUP)
    if any(touched.values()):
        lifecycle.reset(lab, lambda text: print(text, flush=True))  # noqa: T201 - pytest shows it when a test fails


def installed(lab: Lab, site: Path | None = None) -> Answer:
    """The site with everything as the site file (the lab's unless given) says, whatever it was, another version of DWS
    too; the run that saw to it."""
    done = product.install(site or site_file(lab), "--yes")
    assert done.code == 0, done.told
    return done


# --- the one install from nothing, watched


@dataclass(frozen=True)
class Cold:
    """An install on a pristine site: how it ended, and where secrets were seen meanwhile and afterwards.

    programs    the arguments and the environment of each program that was started, on whatever host
    leaks       a line for each place where a secret was seen, "WHAT: WHERE"
    kept        the paths with a secret that are its destination, "HOST:PATH"
    """

    answer: Answer
    programs: frozenset[bytes]
    leaks: tuple[str, ...]
    kept: frozenset[str]


@functools.cache
def cold(lab: Lab) -> Cold:
    """The install on a pristine site, made once however many tests ask for it."""
    pristine(lab)
    return watched(lab, lambda: secret.of(lab))


def watched(lab: Lab, secrets: Callable[[], secret.Needles]) -> Cold:
    """An install while every program is seen; what `secrets` there are afterwards is then looked for everywhere."""
    began = time.time()
    with traced(lab) as programs:
        answer = product.install(site_file(lab))
    needles = secrets()
    kept, elsewhere = secret.files(lab, needles, began)
    leaks = [
        *secret.within(needles, {one[:200].replace(b"\0", b" ").decode(errors="replace"): one for one in programs}),
        *secret.within(needles, secret.said(lab, answer, began)),
        *elsewhere,
    ]
    return Cold(answer, frozenset(programs), tuple(leaks), frozenset(kept))


@contextmanager
def traced(lab: Lab) -> Iterator[set[bytes]]:
    """Arguments and environment of each program that is started on a host or this machine; complete after the `with`."""
    inits = [str(machine.init(lab, host)) for host in lab.hosts]
    command = [sys.executable, "-m", "tests.lab.exec_trace", *inits]
    seen: set[bytes] = set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=registry.CHECKOUT) as process:
        try:
            assert process.stdout and process.stdout.readline() == b"ready\n"
            yield seen
        finally:
            out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    seen.update(base64.b64decode(line) for line in out.splitlines())
