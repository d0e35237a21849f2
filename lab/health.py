"""The health of a lab: the state of each host, and its problems."""

import concurrent.futures
import subprocess
from dataclasses import dataclass, replace

from lab import cluster, machine, slurm_pod, ssh
from lab.model import Host, Lab


@dataclass(frozen=True)
class Health:
    """A host's state ("up", "booting", "down") and its problems."""

    host: Host
    state: str
    problems: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether the host is up and has no problem."""
        return self.state == "up" and not self.problems


def look(lab: Lab) -> list[Health]:
    """The health of every host, and of slurmctld's pods as if they were some; takes at most about 90 seconds."""
    ready = cluster.ready_nodes(lab) if machine.running(lab, lab.role("master")[0]) else set()
    with concurrent.futures.ThreadPoolExecutor(len(lab.hosts)) as pool:
        hosts = list(pool.map(lambda host: _look(lab, host, ready), lab.hosts))
    return [*hosts, *_look_at_pods(lab)] if lab.options.in_pods else hosts


def table(lab: Lab, report: list[Health]) -> str:
    """The report as text: a line for each host."""
    lines = [f"{lab.state}  10.77.{lab.index}.0/24"]
    for status in report:
        problems = "; ".join(status.problems)
        lines.append(
            f"  {status.host.name:15} {status.host.address:12} {status.host.role:11} {status.state:8} {problems}".rstrip()
        )
    return "\n".join(lines)


def failed_units(lab: Lab, host: Host) -> tuple[str, ...]:
    """The failed units of a host, each with its last log line; a single line if the host does not respond."""
    try:
        output = ssh.run(lab, host.name, FAILED, deadline=45)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return (str(error).splitlines()[-1],)
    return tuple(line for line in output.splitlines() if line)


FAILED = """for unit in $(systemctl --failed --plain --no-legend | cut -d' ' -f1); do
  echo "$unit failed: $(journalctl -q -n 1 -o cat -u "$unit")"
done"""


def _look(lab: Lab, host: Host, ready: set[str]) -> Health:
    if not machine.running(lab, host):
        return Health(host, "down")
    if not machine.greets(host):
        return Health(host, "booting")
    node = () if not host.runs_pods or host.name in ready else ("node is not Ready",)
    return Health(host, "up", failed_units(lab, host) + node)


def _look_at_pods(lab: Lab) -> list[Health]:
    report = []
    for number, (worker, pod) in enumerate(zip(lab.slurmctlds, slurm_pod.pods(lab), strict=True)):
        # For a while the API server believes a worker that is gone.
        problem = slurm_pod.problem(lab, number) if machine.running(lab, worker) else f"{worker.name} is down"
        host = replace(worker, name=f"pod {pod.get('name', 'slurmctld')}", role="controller")
        report.append(Health(host, "down", (problem,)) if problem else Health(host, "up"))
    return report
