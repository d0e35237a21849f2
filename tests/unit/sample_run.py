"""Runs as the engine tells them, for the displays' tests and for looking at the displays.

`python -m tests.unit.sample_run install|failed|again|plan|wide [SPEED]` plays one in real time on this terminal.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from dws_on_csm.model.events import Awaiting, Began, Done, Event, Failure, Line, Opened, Outcome, Summary
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Value
from dws_on_csm.redaction.diff import difference

MASTER = "ncn-m001"
CONTROLLERS = ("slurmctl1", "slurmctl2")
STAGES = {
    "preflight": (),
    "workarea": ("preflight",),
    "images": ("workarea",),
    "deploy": ("images",),
    "access": ("preflight",),
    "plugin": ("preflight",),
    "slurm": ("access", "plugin", "deploy"),
    "verify": ("slurm",),
}
START = 1_765_400_000.0

CONF = "".join(f"{line}\n" for line in (
    "ClusterName=csm", "SlurmctldHost=slurmctl1", "SlurmctldHost=slurmctl2", "AuthType=auth/munge",
    "StateSaveLocation=/var/spool/slurmctld", "ProctrackType=proctrack/linuxproc", "# nodes",
    "NodeName=nid[000001-000002] CPUs=2", "PartitionName=workq Nodes=ALL Default=YES",
))  # fmt: skip


@dataclass
class Script:
    """A run being written down: events with the second at which each happens."""

    events: list[tuple[float, Event]] = field(default_factory=list)

    def add(self, at: float, event: Event) -> None:
        self.events.append((at, event))

    def work(self, where: str, at: float, *acts: tuple[float, Event | str | Done]) -> None:
        """What happens at one step: acts are (seconds since the one before, title | Line | Awaiting)."""
        host, stage, step = where.split()
        for wait, act in acts:
            at += wait
            self.add(at, Began(host, stage, step, act, START + at) if isinstance(act, str) else act)

    def done(self, where: str, at: float, outcome: Outcome, seconds: float = 0.0, **more: object) -> None:
        host, stage, step = where.split()
        event = Done(host, stage, step, outcome, START + at - seconds, seconds, **more)  # type: ignore[arg-type]
        self.add(at, event)

    def end(self, at: float, code: int, message: str, go_on: str = "") -> list[tuple[float, Event]]:
        counts: Counter[str] = Counter(event.outcome for _, event in self.events if isinstance(event, Done))
        hosts = len({event.host for _, event in self.events if isinstance(event, Done)})
        self.add(at, Summary("20251210-205320-4f2a", code, counts, hosts, 14 + hosts, hosts, at, message, go_on))
        return sorted(self.events, key=lambda pair: pair[0])


def opened(task: str, hosts: dict[str, tuple[str, ...]] | None = None) -> Script:
    """A run that has just begun."""
    script = Script()
    roles = hosts or {"master": (MASTER,), "controllers": CONTROLLERS, "computes": ("nid000001", "nid000002")}
    script.add(0.0, Opened("20251210-205320-4f2a", task, roles, STAGES, START))
    return script


def preflight(script: Script, at: float = 1.4) -> None:
    """Everything is as it must be."""
    for step in ("reachable", "tools", "privileges", "clock", "disk", "registry", "cert-manager", "workers"):
        script.done(f"{MASTER} preflight {step}", at, "ok")
    for host in (*CONTROLLERS, "nid000001", "nid000002"):
        for step in ("reachable", "clock", "slurm"):
            script.done(f"{host} preflight {step}", at, "ok")
    script.done(f"{CONTROLLERS[0]} preflight lua", at, "ok", note="accepted: lua-unseen (no Lua of the linked version)")


def diffs() -> dict[str, tuple[str, ...]]:
    """Differences as the steps of an install show them."""
    want = CONF + "# DataWorkflowServices\nBurstBufferType=burst_buffer/lua\n"
    states: dict[str, tuple[Value, Value]] = {
        "clone": ({"tag": None, "modified": False}, {"tag": "v0.0.20", "modified": False}),
        "push": ({"registry.local/dws": None}, {"registry.local/dws": "0.0.20 sha256:5f9c0a77d1"}),
        "webhook": ({"dws-webhook": {"available": 0}}, {"dws-webhook": {"available": 3}}),
        "kubeconfig": (None, {"subject": "CN=slurm-dws", "days": 500, "mode": "0600", "key": Secret(b"x")}),
        "files": (None, {"burst_buffer.conf": "Directive=DW\nFlags=TeardownFailure\n", "burst_buffer.lua": "0.0.5"}),
        "activation": ({"slurm.conf": CONF}, {"slurm.conf": want}),
        "job": (None, {"workflow": "bb12", "state": "Teardown", "left": []}),
    }
    return {step: difference(*pair) for step, pair in states.items()}


def deploy(script: Script, at: float) -> float:
    """The master's part: clone, kustomize, images, manifests, pods; gives the second at which it is through."""
    diff = diffs()
    script.work(
        f"{MASTER} workarea clone",
        at,
        (0, "git clone --branch v0.0.20 https://github.com/.../dws.git"),
        (0.4, Line(MASTER, "workarea", "clone", "Receiving objects:  41% (812/1980)\rReceiving objects: 100%")),
    )
    script.done(f"{MASTER} workarea clone", at + 2.2, "changed", 2.2, diff=diff["clone"])
    script.done(f"{MASTER} workarea kustomize", at + 2.2, "ok")
    script.work(
        f"{MASTER} images push",
        at + 2.3,
        (0, "podman pull ghcr.io/dataworkflowservices/dws:0.0.20"),
        (1.2, Line(MASTER, "images", "push", "Copying blob 7c12895b777b done")),
        (0.9, "podman push registry.local/dws:0.0.20"),
        (0.7, Line(MASTER, "images", "push", "\x1b[32mWriting manifest to image destination\x1b[0m")),
    )
    script.done(f"{MASTER} images push", at + 5.6, "changed", 3.3, diff=diff["push"])
    script.work(
        f"{MASTER} deploy manifests",
        at + 5.7,
        (0, "make deploy OVERLAY=csm"),
        *((0.25, Line(MASTER, "deploy", "manifests", f"deployment.apps/object-{i} created")) for i in range(8)),
    )
    script.done(f"{MASTER} deploy manifests", at + 8.3, "changed", 2.6, diff=("+ objects: 34",))
    script.work(f"{MASTER} deploy webhook", at + 8.4,
                (0, Awaiting(MASTER, "deploy", "webhook", "0 of 3 webhook pods: pulling the image", 120.0)),
                (4.1, Awaiting(MASTER, "deploy", "webhook", "1 of 3 webhook pods: certificate not mounted yet", 115.9)),
                (2.2, Awaiting(MASTER, "deploy", "webhook", "2 of 3 webhook pods: not ready", 113.7)))  # fmt: skip
    return at + 16.0


def slurm_side(script: Script, at: float) -> None:
    """What can be made ready on the controllers meanwhile."""
    diff = diffs()
    for number, host in enumerate(CONTROLLERS):
        begins = at + 0.1 * number
        script.work(f"{host} access kubeconfig", begins, (0, f"sign CN=slurm-dws on {MASTER}"),
                    (0.5, "put /etc/slurm/slurm-dws.kubeconfig"))  # fmt: skip
        script.done(f"{host} access kubeconfig", begins + 0.9, "changed", 0.9, diff=diff["kubeconfig"])
        script.done(f"{host} access rights", begins + 0.9, "ok")
        script.work(f"{host} plugin files", begins + 1.0, (0, "put /etc/slurm/burst_buffer.lua"))
        script.done(f"{host} plugin files", begins + 1.6, "changed", 0.6, diff=diff["files"])


def install(ends: bool = True) -> list[tuple[float, Event]]:
    """A cold install that ends well."""
    script, diff = opened("install"), diffs()
    preflight(script)
    slurm_side(script, 1.5)
    at = deploy(script, 1.5)
    script.done(f"{MASTER} deploy webhook", at, "changed", 7.6, diff=diff["webhook"])
    for host in CONTROLLERS:
        script.work(f"{host} slurm activation", at, (0.1, "replace slurm.conf, restart slurmctld, wait for its answer"),
                    (0.6, Line(host, "slurm", "activation", "slurmctld: Running as primary controller")))  # fmt: skip
        script.done(f"{host} slurm activation", at + 2.5, "changed", 2.4, diff=diff["activation"])
        at += 2.5
    script.work(f"{CONTROLLERS[0]} verify job", at, (0.1, "sbatch --wrap hostname, with #DW, as user alice"),
                (1.0, Awaiting(CONTROLLERS[0], "verify", "job", "job 12 is pending: Workflow bb12 in DataIn", 299.0)),
                (1.4, Awaiting(CONTROLLERS[0], "verify", "job", "job 12 is running", 297.6)))  # fmt: skip
    note = "job 12 of alice: COMPLETED in 3s on nid000001; Workflow bb12 went through 7 states and is gone"
    script.done(f"{CONTROLLERS[0]} verify job", at + 4.4, "changed", 4.3, diff=diff["job"], note=note)
    if not ends:
        return sorted(script.events, key=lambda pair: pair[0])
    return script.end(at + 4.5, 0, "Installed and verified.")


FAILURE = Failure(
    "make deploy OVERLAY=csm",
    2,
    ("kustomize build config/begin | kubectl apply -f -",
     "no matches for kind \"Certificate\" in version \"cert-manager.io/v1alpha3\"",
     "\x1b[31mmake: *** [Makefile:113: deploy] Error 1\x1b[0m"),
    "This cluster's cert-manager no longer serves v1alpha3, which DWS's csm overlay asks for.",
    "Set overlay: csm-v1 in hosts.yaml, or bring cert-manager 1.5 back.",
)  # fmt: skip


def failed() -> list[tuple[float, Event]]:
    """An install whose deploy fails."""
    script = opened("install")
    preflight(script)
    slurm_side(script, 1.5)
    kept = [pair for pair in (deploy(script, 1.5), script.events)[1] if getattr(pair[1], "step", "") != "webhook"]
    script.events = [pair for pair in kept if not (isinstance(pair[1], Done) and pair[1].step == "manifests")]
    script.done(f"{MASTER} deploy manifests", 9.8, "failed", 2.6, failures=(FAILURE,))
    script.done(f"{MASTER} deploy webhook", 9.8, "skipped", note="an earlier step failed")
    for host in CONTROLLERS:
        script.done(
            f"{host} slurm activation", 9.8, "skipped", note=f"needs deploy, which did not complete on {MASTER}"
        )
    script.done(f"{CONTROLLERS[0]} verify job", 9.8, "skipped", note=f"needs slurm, which did not complete on {MASTER}")
    return script.end(10.0, 1, "Deploy failed; Slurm was not touched.", "invoke install --hosts hosts.yaml")


def again() -> list[tuple[float, Event]]:
    """A second install: nothing to do."""
    script = opened("install")
    preflight(script)
    for where in (
        f"{MASTER} workarea clone",
        f"{MASTER} images push",
        f"{MASTER} deploy webhook",
        *(f"{h} {s}" for h in CONTROLLERS for s in ("access kubeconfig", "plugin files", "slurm activation")),
    ):
        script.done(where, 1.5, "ok")  # fmt: skip
    script.done(f"{CONTROLLERS[0]} verify job", 1.5, "ok", note="proven 3 days ago by job 12 of alice")
    return script.end(1.6, 0, "Nothing to do: all is as it should be.")


def plan() -> list[tuple[float, Event]]:
    """A plan on a bare site."""
    script, diff = opened("plan"), diffs()
    preflight(script)
    script.done(f"{MASTER} workarea clone", 1.5, "would change", diff=diff["clone"])
    script.done(f"{MASTER} images push", 1.5, "unknown", note="known after workarea")
    script.done(f"{MASTER} deploy webhook", 1.5, "unknown", note="known after images")
    for host in CONTROLLERS:
        script.done(f"{host} access kubeconfig", 1.5, "would change", diff=diff["kubeconfig"])
        script.done(f"{host} plugin files", 1.5, "would change", diff=diff["files"])
        script.done(f"{host} slurm activation", 1.5, "would change", diff=diff["activation"])
    script.done(f"{CONTROLLERS[0]} verify job", 1.5, "unknown", note="known after slurm")
    return script.end(1.6, 4, "")


def wide(number: int = 400) -> list[tuple[float, Event]]:
    """Many compute nodes at once, some of which fail the same way."""
    nodes = tuple(f"nid{i:06}" for i in range(1, number + 1))
    script = opened("install", {"master": (MASTER,), "controllers": CONTROLLERS, "computes": nodes})
    preflight(script)
    for i, node in enumerate(nodes):
        begins = 1.5 + 0.01 * i + (i % 7) * 0.4
        script.work(f"{node} plugin conf", begins, (0, "put /etc/slurm/slurm.conf"),
                    (0.3, Line(node, "plugin", "conf", f"copying {i}")))  # fmt: skip
        bad = i % 97 == 50
        failures = (
            (Failure("put /etc/slurm/slurm.conf", 1, ("No space left on device",), "The disk is full."),) if bad else ()
        )
        script.done(f"{node} plugin conf", begins + 2.5, "failed" if bad else "changed", 2.5, failures=failures)
    return script.end(12.0, 1, "Some nodes have no room.", "invoke install --limit @failed")


RUNS: dict[str, Callable[[], list[tuple[float, Event]]]] = {
    "install": install, "failed": failed, "again": again, "plan": plan, "wide": wide,
}  # fmt: skip


def events(name: str) -> list[Event]:
    """All events of a run in their order."""
    return [event for _, event in RUNS[name]()]


def played(pairs: Iterable[tuple[float, Event]], speed: float) -> Iterator[Event]:
    """The events in real time, as if the run began now."""
    begin = time.time()
    for at, event in pairs:
        time.sleep(max(begin + at / speed - time.time(), 0))
        if isinstance(event, Opened | Began):
            yield replace(event, at=time.time())
        elif isinstance(event, Done):
            yield replace(event, began=time.time() - event.seconds)
        else:
            yield event


def main(name: str, *options: str) -> None:
    """Plays a run on the display that this terminal and these options get."""
    from dws_on_csm.display import select

    speed = next((float(option) for option in options if option[0].isdigit()), 1.0)
    terminal = select.is_terminal(sys.stdout)
    with select.consumer(name, json="json" in options, terminal=terminal) as show:
        for event in played(RUNS[name](), speed):
            show(event)


if __name__ == "__main__":
    main(*sys.argv[1:])
