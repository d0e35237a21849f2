"""A lab's life: up, down, reset, and what is known of it in between."""

import datetime
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lab import access, cgroups, cluster, layers, machine, network
from lab.model import Host, Lab

Announce = Callable[[str], None]


def up(lab: Lab, announce: Announce) -> None:
    """Brings the lab up, whatever state it is in."""
    lab.state.mkdir(parents=True, exist_ok=True)
    layers.write(lab, announce)
    announce("layers written")
    access.write(lab)
    (lab.state / "shared/slurm").mkdir(parents=True, exist_ok=True)
    since = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    network.ensure_bridge(lab)
    each(lab, lambda host: machine.boot(lab, host, layers.stack(lab, host, announce)))
    announce("booted")
    machine.wait_for_ssh(lab.hosts)
    announce("sshd answers on all hosts")
    cluster.wait_for_nodes(lab, since)
    announce("nodes Ready")
    cluster.fill(lab, announce)
    announce("applied")
    cluster.wait_for_cert_manager(lab)
    announce("cert-manager admits")


def down(lab: Lab) -> None:
    """Ends the lab and leaves nothing of it on this machine."""
    each(lab, lambda host: machine.kill(lab, host))
    network.remove_bridge(lab)
    cgroups.remove(lab)
    shutil.rmtree(lab.state, ignore_errors=True)


def each(lab: Lab, act: Callable[[Host], None]) -> None:
    """Calls act(host) for all hosts at once; the first error is raised when all have ended."""
    with ThreadPoolExecutor(len(lab.hosts)) as pool:
        for done in [pool.submit(act, host) for host in lab.hosts]:
            done.result()
