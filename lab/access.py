"""How to reach a lab's hosts: ssh_config, known_hosts, and the site file that `invoke install --hosts` takes."""

from typing import Any

import yaml

from lab import keys, slurm_pod
from lab.model import Lab

SECOND = "hosts-second.yaml"
"""The site file of the second Slurm cluster."""
SECOND_NAMESPACE = "second-slurm"
"""The namespace of the second Slurm cluster's Workflows; no host of the lab makes it."""


def write(lab: Lab) -> None:
    """Write STATE/ssh_config, known_hosts and hosts.yaml; they stay the same as long as the lab exists."""
    keys.ssh_key(lab)
    (lab.state / "ssh_config").write_text(ssh_config(lab))
    (lab.state / "known_hosts").write_text(known_hosts(lab))
    (lab.state / "hosts.yaml").write_text(site_file(lab))
    if lab.role("slurm"):
        (lab.state / SECOND).write_text(second_site_file(lab))


def ssh_config(lab: Lab) -> str:
    """The file for `ssh -F`: addresses, the lab's key, and strict host keys."""
    lines = [f"Host {host.name}\n    HostName {host.address}\n" for host in lab.hosts]
    everywhere = {
        "User": "root",
        "IdentityFile": str(lab.state / "key"),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(lab.state / "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "PasswordAuthentication": "no",
    }
    return "\n".join([*lines, "Host *", *(f"    {key} {value}" for key, value in everywhere.items()), ""])


def known_hosts(lab: Lab) -> str:
    """A line for each host, with its name and address."""
    lines = [f"{host.name},{host.address} {keys.host_key(lab, host.name)[1]}\n" for host in lab.hosts]
    return "".join(lines)


def site_file(lab: Lab) -> str:
    """The lab's site file. Keys that are not in it have the default."""
    hosts = [{"host": host.name} for host in lab.role("controller")]
    controllers = [{"pod": pod} for pod in slurm_pod.pods(lab)] if lab.options.in_pods else hosts
    return _site(lab, {"controllers": controllers, "computes": {"hosts": "nid[000001-000002]"}})


def second_site_file(lab: Lab) -> str:
    """The site file of the second Slurm cluster: other controllers, name and namespace, and the same master."""
    access = {"common_name": "slurm-dws-second", "namespace": SECOND_NAMESPACE, "create_namespace": True}
    return _site(lab, {"controllers": [{"host": host.name} for host in lab.role("slurm")], "access": access})


def _site(lab: Lab, slurm: dict[str, Any]) -> str:
    site = {
        "master": {"host": lab.role("master")[0].name},
        **slurm,
        "ssh": {"config": "ssh_config", "user": "root"},
        "test_job": {"user": "joe", "partition": "work"},
        # A complete site on one machine, which may be busy with another lab.
        "deadlines": {"connect": 30, "deploy": 240},
    }
    return yaml.safe_dump(site, sort_keys=False)
