"""Controllers with different files of Slurm have a finding."""

from __future__ import annotations

from dataclasses import replace

from dws_on_csm.commands.doctor.slurm_confs import judge_alike
from dws_on_csm.config.site import Host
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.facts import CONTROLLER
from dws_on_csm.stages.slurm import slurmctld
from tests.unit.commands.doctor.context import HOST, SITE, told


def test_controllers_with_different_files() -> None:
    """Each file that means something else than the first controller's has a finding, with its lines, which slurmctld has loaded
    which, and the command that copies it; BurstBufferType and comments do not count."""
    conf, nodes = "/etc/slurm/slurm.conf", "/etc/slurm/nodes.conf"
    one = {"files": {conf: "A=1\n# one\n", nodes: "N=1\n"}}
    two = {"files": {conf: "A=1 # two\nBurstBufferType=burst_buffer/lua\n", nodes: "N=2\n"}}
    runs = {**slurmctld.parse(b""), "main": "7", "started": 9.0}
    daemons = {HOST: {**runs, "changed": {nodes: 5.0}}, "other": {**runs, "changed": {nodes: 20.0}}}
    controllers = (Host(HOST, "controller", "root", False), Host("other", "controller", "adm", False))
    site = replace(SITE, controllers=controllers)
    seen = StepContext(site, Facts({CONTROLLER.name: {HOST: one, "other": two}, slurmctld.FACT.name: daemons}), "other")
    (finding,) = judge_alike(seen)
    assert finding.text.startswith(f"{nodes} on other differs from that on {HOST} (- other, + {HOST}): - N=2; + N=1. ")
    assert f"slurmctld on {HOST} has loaded its file; slurmctld on other runs with an earlier text" in finding.text
    assert (
        f"`scp -3 root@{HOST}:{nodes} adm@other:{nodes}` to keep {HOST}'s, or `scp -3 adm@other:{nodes} root@{HOST}:{nodes}`"
        in finding.fix
    )
    assert "repair slurm" in finding.fix
    assert told(judge_alike(StepContext(site, seen.facts, HOST))) == []
