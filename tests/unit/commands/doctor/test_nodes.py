"""A partition without any node that takes jobs has a finding, with the command that returns the nodes."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from dws_on_csm.commands.doctor import nodes
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext

SITE = load(DEFAULT)
PLACE = StepContext(SITE, Facts({}), SITE.controllers[0].name)
RESUME = "scontrol update NodeName={} State=RESUME"
CHECK = "systemctl enable --now munge slurmd"


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ("batch*|up|idle|nid[1-2]|Unknown|none\n", None),
        ("batch*|up|plnd|nid[1-2]|Unknown|none\n", None),
        ("batch*|up|unk|nid[1-2]|Unknown|none\n", None),
        ("batch*|up|idle*|nid1|Unknown|none\n", [CHECK]),
        ("batch*|up|mix~|nid1|Unknown|none\nbatch*|up|down*|nid2|2026-11-30T10:00:00|Not responding\n", None),
        (
            "batch*|up|down*|nid[1-2]|2026-11-30T10:00:00|Not responding\n",
            [CHECK, RESUME.format("'nid[1-2]'")],
        ),
        ("batch*|up|idle*|nid1|Unknown|none\nbatch*|up|drain|nid2|x|disk\n", [CHECK, RESUME.format("nid2")]),
        ("batch*|up|drain|nid1|x|disk | memory\nbatch*|up|down|nid2|x|fan\n", [RESUME.format("nid1,nid2")]),
        ("batch*|up|down|nid[1-2]|2026-11-30T10:00:00|Not responding\n", [CHECK, RESUME.format("'nid[1-2]'")]),
        ("batch*|up|idle*|nid[1-2]|2026-11-30T10:00:00|Not responding\n", [CHECK]),
        ("batch*|up|maint|nid[1-2]|Unknown|none\n", ["scontrol show reservation"]),
        ("batch*|down|idle|nid1|Unknown|none\n", ["scontrol update PartitionName=batch State=UP"]),
        ("other|up|down|nid1|x|y\n", None),
        ("", None),
    ],
)
def test_nodes_that_take_no_job(said: str, typed: list[str] | None) -> None:
    """One node that takes jobs is enough; of the others the state decides what is typed."""
    script = render.script("lib/slurmctld.sh", folder="/none", unit="x") + "\npings() { echo here UP; }\n"
    script += f"slurm() {{ printf %s {shlex.quote(said)}; }}\npartition=\n{render.read('controller/nodes.sh')}"
    done = subprocess.run(["sh", "-euc", script], capture_output=True, timeout=60, check=True)
    found = nodes.judge(PLACE, nodes.parse(done.stdout))
    assert [re.findall(r"`([^`]+)`", finding.fix) for finding in found] == ([] if typed is None else [typed])
