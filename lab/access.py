"""How to reach a lab's hosts: ssh_config, known_hosts, and the site file that `invoke install --hosts` takes."""

import yaml

from lab import keys, slurm_pod
from lab.model import Lab


def write(lab: Lab) -> None:
    """Writes STATE/ssh_config, known_hosts and hosts.yaml; nothing in them changes as long as the lab lives."""
    keys.ssh_key(lab)
    (lab.state / "ssh_config").write_text(ssh_config(lab))
    (lab.state / "known_hosts").write_text(known_hosts(lab))
    (lab.state / "hosts.yaml").write_text(site_file(lab))


def ssh_config(lab: Lab) -> str:
    """What `ssh -F` needs: addresses, the lab's key, and the host keys, strictly."""
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
    """One line a host, under its name and its address."""
    lines = [f"{host.name},{host.address} {keys.host_key(lab, host.name)[1]}\n" for host in lab.hosts]
    return "".join(lines)


def site_file(lab: Lab) -> str:
    """The lab as a site: what is not said here is as the site file's defaults have it."""
    hosts = [{"host": host.name} for host in lab.role("controller")]
    site = {
        "master": {"host": lab.role("master")[0].name},
        "controllers": [{"pod": slurm_pod.POD}] if lab.options.slurmctld_pod else hosts,
        "computes": {"hosts": "nid[000001-000002]"},
        "ssh": {"config": "ssh_config", "user": "root"},
        "test_job": {"user": "joe", "partition": "work"},
        # A whole site on one machine, which may be busy with another one.
        "deadlines": {"connect": 30, "deploy": 240},
    }
    return yaml.safe_dump(site, sort_keys=False)
