"""The tool's own part of a measurement: slurm.conf of a site's compute nodes, by its engine, stages and connections.

`python -m bench.product SITE CONF` makes the nodes of the site file SITE have the text CONF. What a whole run does beside that
(master, cluster, lock, journal) is not in it: the programs that it is compared with do nothing of the kind.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dws_on_csm.config.load import load
from dws_on_csm.engine import apply, state
from dws_on_csm.engine.reach import Reach
from dws_on_csm.engine.state import Run
from dws_on_csm.model.errors import Unreachable
from dws_on_csm.model.events import Done, Event
from dws_on_csm.model.step import Check, Constant, Fact, Stage, StepContext
from dws_on_csm.runner.connections import connect_all
from dws_on_csm.stages import facts
from dws_on_csm.stages.slurm import activate, computes

RUN = "20000101T000000Z-bench"


def _known(name: str, value: Mapping[str, Any]) -> Check:
    """What is known of the controller, as a check that reads nothing."""

    def look(ctx: StepContext) -> Constant:
        return Constant(value)

    return Check(name, "controller", look, lambda ctx, have: ())


def main(site_file: str, conf: str) -> int:
    """Connect to all nodes, read them, change what differs, and print what was done. 0: all nodes are as they should be."""
    site, text = load(Path(site_file)), Path(conf).read_text()
    nodes = site.hosts("compute")
    controller = site.controllers[0].name
    fixed: dict[Fact[Any], dict[str, Any]] = {
        facts.CONTROLLER: {"files": {site.slurm.conf: text}, "uid": ""},
        activate.SLURM_CONF: {"id": "", "text": text},
    }
    known = [Stage(fact.stage, (), (_known(fact.step, value),)) for fact, value in fixed.items()]
    failed: list[Done] = []
    outcomes: Counter[str] = Counter()

    def emit(event: Event) -> None:
        if isinstance(event, Done) and event.stage == computes.STAGE.name:
            outcomes[event.outcome] += 1
            if event.failures:
                failed.append(event)

    sessions = connect_all(site, nodes)
    try:
        down = [str(session) for session in sessions.values() if isinstance(session, Unreachable)]
        there = tuple(name for name, session in sessions.items() if not isinstance(session, Unreachable))
        reach = Reach(sessions.session, lambda: None, lambda role: controller)
        stage = replace(computes.STAGE, needs=())
        run = Run(RUN, site, (*known, stage), reach, emit, {"controller": (controller,), "compute": there})
        state.first_looks(run)
        apply.install(run)
        print(
            json.dumps(
                {
                    "outcomes": outcomes,
                    "commands": sessions.commands,
                    "connections": sessions.connections,
                    "down": len(down),
                }
            )
        )
        print(*down[:3], *(failure for event in failed[:3] for failure in event.failures), sep="\n", file=sys.stderr)
        return 1 if down or failed else 0
    finally:
        sessions.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
