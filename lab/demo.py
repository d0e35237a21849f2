"""`make demo`: boots a site in a box, installs DWS on it, and shows a job's Workflow."""
# ruff: noqa: T201 - it speaks to people

import os
import subprocess
import sys
import time

from lab import lifecycle, registry, requirements, ssh
from lab.model import Lab, Options
from lab.tasks import clock

JOB = "#!/bin/sh\n#DW\nsleep 5\n"
WORKFLOWS = "workflows.dataworkflowservices.github.io"


def demo() -> int:
    """Boot the default lab, install DWS on it, show a job with its Workflow. Returns the exit code of the install.

    2 if the default lab exists and runs slurmctld in a pod: the demo runs commands on the controllers' hosts.
    """
    requirements.programs_of_packages(announce := clock())
    lab = registry.create("", Options())
    if lab.options.in_pods:
        print(
            f"{lab.state} runs slurmctld in a pod; the demo needs a lab without: run invoke lab.down, then this again"
        )
        return 2
    lifecycle.up(lab, announce)
    here = os.path.relpath(lab.state)
    print(f"\n$ invoke install --hosts {here}/hosts.yaml --verify --yes", flush=True)
    invoke = [sys.executable, "-m", "invoke", "install", "--hosts", f"{here}/hosts.yaml", "--verify", "--yes"]
    code = subprocess.run(invoke, check=False).returncode
    if code == 0:
        show(lab)
        print(NEXT.format(here=here))
    return code


def show(lab: Lab) -> None:
    """Submit a job of five seconds, and show what Slurm and Kubernetes report while it runs."""
    print("\nA job with a bare #DW, as an ordinary user submits it:\n")
    job = ssh.run(lab, "slurmctl1", "cd /tmp && runuser -u joe -- sbatch --parsable --output=/dev/null", JOB).strip()
    end = time.monotonic() + 60
    while f"{job} " not in ssh.run(lab, "slurmctl1", "squeue --noheader --states=RUNNING --format='%i %T'"):
        if time.monotonic() > end:
            raise RuntimeError(f"job {job} does not run: see ssh -F {lab.state}/ssh_config slurmctl1 squeue")
        time.sleep(0.2)
    for host, command in (
        ("slurmctl1", "squeue"),
        ("ncn-m001", f"kubectl get {WORKFLOWS} --all-namespaces"),
        ("slurmctl1", f"scontrol show bbstat workflow {job}"),
        ("ncn-m001", "kubectl get pods --namespace dws-system --output wide"),
    ):
        print(f"{host}$ {command}\n{ssh.run(lab, host, command).rstrip()}\n", flush=True)


NEXT = """What to try next:
  .venv/bin/invoke plan --hosts {here}/hosts.yaml       nothing to do; so damage something:
  ssh -F {here}/ssh_config slurmctl1 rm /etc/slurm/burst_buffer.conf
  .venv/bin/invoke install --hosts {here}/hosts.yaml    fixes exactly that, and proves it with a job
  .venv/bin/invoke lab.ssh ncn-m001                     opens a shell on the master
  .venv/bin/invoke lab.reset                            resets the site, in about ten seconds
  .venv/bin/invoke lab.down                             removes it
"""
