"""`make demo`: a site in a box, DWS installed on it, and a job's Workflow to look at."""
# ruff: noqa: T201 - it speaks to people

import os
import subprocess
import sys
import time

from lab import lifecycle, registry, requirements
from lab.model import Lab, Options
from lab.tasks import clock

JOB = "#!/bin/sh\n#DW\nsleep 5\n"
WORKFLOWS = "workflows.dataworkflowservices.github.io"


def demo() -> int:
    """Boot the default lab, install DWS on it, show a job with its Workflow. Returns install's exit code.

    2 where the default lab is there and has slurmctld in a pod: what is shown is shown on its hosts.
    """
    requirements.programs_of_packages(announce := clock())
    lab = registry.create("", Options())
    if lab.options.slurmctld_pod:
        print(f"{lab.state} has slurmctld in a pod, and the demo is for hosts: invoke lab.down, then again")
        return 2
    lifecycle.up(lab, announce)
    here = os.path.relpath(lab.state)
    print(f"\n$ invoke install --hosts {here}/hosts.yaml --verify", flush=True)
    invoke = [sys.executable, "-m", "invoke", "install", "--hosts", f"{here}/hosts.yaml", "--verify"]
    code = subprocess.run(invoke, check=False).returncode
    if code == 0:
        show(lab)
        print(NEXT.format(here=here))
    return code


def show(lab: Lab) -> None:
    """Submit a job that takes five seconds, and show what Slurm and Kubernetes say of it meanwhile."""
    print("\nA job with a bare #DW, as an ordinary user submits it:\n")
    job = ssh(lab, "slurmctl1", "cd /tmp && runuser -u joe -- sbatch --parsable --output=/dev/null", JOB).strip()
    end = time.monotonic() + 60
    while f"{job} " not in ssh(lab, "slurmctl1", "squeue --noheader --states=RUNNING --format='%i %T'"):
        if time.monotonic() > end:
            raise RuntimeError(f"job {job} does not run: see ssh -F {lab.state}/ssh_config slurmctl1 squeue")
        time.sleep(0.2)
    for host, command in (
        ("slurmctl1", "squeue"),
        ("ncn-m001", f"kubectl get {WORKFLOWS} --all-namespaces"),
        ("slurmctl1", f"scontrol show bbstat workflow {job}"),
        ("ncn-m001", "kubectl get pods --namespace dws-system --output wide"),
    ):
        print(f"{host}$ {command}\n{ssh(lab, host, command).rstrip()}\n", flush=True)


def ssh(lab: Lab, host: str, command: str, stdin: str = "") -> str:
    """What `command` prints on a host of the lab. CalledProcessError if it fails."""
    words = ["ssh", "-F", str(lab.state / "ssh_config"), host, command]
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout


NEXT = """What to try next:
  .venv/bin/invoke plan --hosts {here}/hosts.yaml       nothing to do; then break something and look again:
  ssh -F {here}/ssh_config slurmctl1 rm /etc/slurm/burst_buffer.conf
  .venv/bin/invoke install --hosts {here}/hosts.yaml    exactly that is put right, and proven again
  .venv/bin/invoke lab.ssh ncn-m001                     a shell on the master
  .venv/bin/invoke lab.reset                            the pristine site again, within seconds
  .venv/bin/invoke lab.down                             nothing is left of it
"""
