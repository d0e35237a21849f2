"""Damages to an installed site: the next run comes to one of its steps, and changes something there."""

from tests.lab.scene import BACKUP, MASTER, PRIMARY, REGISTRY

Damage = tuple[str, str]
"""A host, and the commands that root types there."""

CLONE, PROOF = "/root/dws-on-csm/dws-0.0.20", "/var/lib/dws-on-csm/proof.json"
KUBECONFIG, LUA = "/etc/slurm/slurm-dws.kubeconfig", "/etc/slurm/burst_buffer.lua"
REPOSITORIES = "/var/lib/docker-registry/docker/registry/v2/repositories"
DISABLE = """mkdir -p /var/lib/dws-on-csm; exec 9>>/var/lib/dws-on-csm/busy; flock -w 150 9
while systemctl -q is-active dws-on-csm-activation; do sleep 0.1; done; exec 9>&-
sed -i '/dws-on-csm/d; /^BurstBufferType/d' /etc/slurm/slurm.conf; systemctl restart slurmctld
until scontrol ping | grep -q "at $(uname -n) is UP"; do sleep 0.2; done"""

# What a killed run has begun on a host continues there for a moment, and holds this lock.
THEN = "mkdir -p /var/lib/dws-on-csm; flock -w 150 /var/lib/dws-on-csm/busy"
NO_CLONE = (MASTER, f"{THEN} rm -rf {CLONE}")
NO_KUSTOMIZE = (MASTER, f"{THEN} rm -rf {CLONE}/bin")
NO_IMAGES = (MASTER, f"{THEN} true"), (REGISTRY, f"rm -rf {REPOSITORIES}/*/_manifests/tags")
NO_DEPLOYMENTS = (MASTER, f"{THEN} kubectl -n dws-system delete deployments --all")
NO_KUBECONFIG = (PRIMARY, f"{THEN} rm -f {KUBECONFIG}"), (BACKUP, f"{THEN} rm -f {KUBECONFIG}")
NO_PLUGIN = (BACKUP, f"{THEN} rm -f {LUA}")
DISABLED = (PRIMARY, DISABLE), (BACKUP, DISABLE)
NO_PROOF = (PRIMARY, f"{THEN} rm -f {PROOF}")

# What runs leave aside while they are at work.
LEFT = r"""find / \( -path /proc -o -path /sys -o -path /var/lib/containers -o -path /run/containerd \) -prune -o \
    \( -name '*.dws-on-csm.*' -o -name 'dws-on-csm.??????' -o -path '/root/dws-on-csm*.part' -o -path '/var/lib/dws-on-csm/*.part' \
    -o -path '/var/lib/dws-on-csm/lock*' -o -path '/var/lib/dws-on-csm/activation.d.*' \) -print"""
"""Finds half a file, a lock or a temporary folder of a run on a host; prints nothing where no run left anything."""
