"""Controllers that slurm.conf names and the site file does not list: which are found, which are not, and the findings."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands import certificates
from dws_on_csm.commands.doctor import probes
from dws_on_csm.config import acceptable
from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import Host
from dws_on_csm.model import render
from dws_on_csm.model.snapshot import RollbackTarget
from dws_on_csm.model.step import Check, Facts, Finding, Stage, StepContext
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.facts import CONTROLLER, ControllerValues
from dws_on_csm.stages.install import STAGES
from dws_on_csm.stages.preflight import unlisted_controllers
from dws_on_csm.stages.rollback import procedure
from dws_on_csm.stages.slurm import controller, slurmctld

CONF = "/etc/slurm/slurm.conf"
BOTH = "ClusterName=lab\nSlurmctldHost=c1\nSlurmctldHost=c2(10.0.0.2)\n"


def found(name: str, text: str = BOTH, addresses: str = "", fqdn: str = "", **included: str) -> dict[str, Any]:
    """The look at a controller whose own name is `name`."""
    files = {CONF: text, **{f"/etc/slurm/{file}.conf": more for file, more in included.items()}}
    return {
        **dict.fromkeys(ControllerValues.__annotations__, ""),
        "host": name,
        "fqdn": fqdn,
        "addresses": addresses,
        "files": files,
    }


def places(seen: dict[str, dict[str, Any]], pings: str = "", spelled: tuple[str, ...] = ()) -> list[StepContext]:
    """The contexts of a site with these controllers, by the site file's names; `spelled`: controllers without a look."""
    hosts = tuple(Host(name, "controller", "root", False) for name in (*seen, *spelled))
    site = replace(load(DEFAULT), controllers=hosts)
    told = slurmctld.parse("".join(f"named={line}\n" for line in pings.splitlines()).encode())
    facts = Facts({CONTROLLER.name: dict(seen), slurmctld.FACT.name: dict.fromkeys(seen, told)})
    return [StepContext(site, facts, name) for name in seen]


def findings(some: list[StepContext], takes: bool = False) -> list[Finding]:
    """The findings of the check on all of them."""
    return [one for place in some for one in unlisted_controllers.check(takes).judge(place, None)]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"c1": found("c1"), "c2": found("c2")}, "the same names"),
        ({"first": found("c1"), "10.1.1.1": found("c2.site")}, "an alias and an address in the site file"),
        ({"c1": found("c1"), "x": found("C2")}, "capitals"),
        ({"a": found("c1", "SlurmctldHost=c1.site\n", fqdn="c1.site")}, "a name with its domain"),
        ({"a": found("c1", "SlurmctldHost=virtual,c1(10.0.0.9)\n")}, "a virtual name beside the host's own"),
        ({"a": found("c1", "SlurmctldHost=c1(slurm.example.org)\nSlurmctldAddr=10.0.0.9\n")}, "another address"),
        ({"a": found("slurmctld-0", "SlurmctldHost=slurmctld-0(slurmctld.slurm.svc)\n")}, "a service in Kubernetes"),
        ({"a": found("c1", "SlurmctldHost=localhost\n")}, "whoever reads it"),
        ({"a": found("c1", "ControlMachine=c1\nControlAddr=10.0.0.1\n")}, "the older names"),
        ({"a": found("c1", "SlurmctldHost=c1\nControlMachine=old\nBackupController=gone\n")}, "older names beside"),
        ({"a": found("c1", "SlurmctldHost=c1\n#SlurmctldHost=c2\n")}, "a comment"),
        ({"a": found("c1", "Include hosts.conf\n", hosts="SlurmctldHost=c1\n")}, "an include"),
    ],
)
def test_a_site_that_names_all_has_no_finding(seen: dict[str, dict[str, Any]], why: str) -> None:
    """The name that a host gives itself decides, and neither the site file's spelling nor an address."""
    assert [one.name for takes in (False, True) for one in findings(places(seen), takes)] == [], why


@pytest.mark.parametrize(
    ("text", "included", "pings", "missed"),
    [
        (BOTH, "", "", ["c2"]),
        (BOTH, "", "c1 UP\nc2 DOWN", ["c2"]),
        ("SlurmctldHost = c1\nslurmctldhost=\"c2\" \nSlurmctldHost=c3,v3\n", "", "", ["c2", "c3,v3"]),
        ("ControlMachine=c1\nControlAddr=10.0.0.1\nBackupController=c2\nBackupAddr=10.0.0.2\n", "", "", ["c2"]),
        ("SlurmctldHost=c1\nInclude more.conf\n", "SlurmctldHost=c2\n", "", ["c2"]),
        ("SlurmctldHost=c1\n", "", "c1 UP\nc2 UP", ["c2"]),
        ("SlurmctldHost=c1\nSlurmctldHost=c1-old\n", "", "", ["c1-old"]),
        ("SlurmctldHost=c1(10.0.0.7)\nSlurmctldHost=c1.elsewhere(10.0.0.8)\n", "", "", ["c1.elsewhere"]),
    ],
)  # fmt: skip
def test_one_that_is_left_out_is_found(text: str, included: str, pings: str, missed: list[str]) -> None:
    """Wherever slurm.conf names it, or only `scontrol ping`: one finding, with the line to add."""
    some = places({"one": found("c1", text, more=included), "two": found("c1", text, more=included)}, pings)
    for takes, name in ((False, "controller-unlisted"), (True, "controllers-left-out")):
        told = findings(some, takes)
        assert [one.name for one in told] == [name] * len(missed)
        for one, which in zip(told, missed, strict=True):
            assert f"names {which} as a controller" in one.text
            assert f"add `- host: {which.partition(',')[0]}` under controllers" in one.fix
            assert ("DOWN" in one.text) == ("DOWN" in pings)
            assert ("without their storage" in one.text, "accept: [controller-unlisted]" in one.fix) == (not takes,) * 2


@pytest.mark.parametrize(
    ("seen", "spelled", "names"),
    [
        ({"a": found("c1", addresses="10.0.0.1 10.0.0.2")}, (), ["controllers-unclear"]),
        ({"a": found("c1"), "b": found("c9")}, (), ["controllers-unclear"]),
        ({"a": found("c1")}, ("c2",), []),
        ({"a": found("c1")}, ("c2.site",), []),
        ({"a": found("c1")}, ("10.0.0.2",), []),
        ({"a": found("c1")}, ("another",), []),
        ({"a": found("c1", f"{BOTH}SlurmctldHost=c3\n")}, ("c2",), ["controllers-left-out"]),
    ],
)
def test_where_it_can_not_be_decided(seen: dict[str, Any], spelled: tuple[str, ...], names: list[str]) -> None:
    """An address of a controller's own, or one that is none of these: that is said, and may be accepted. Of one that did not
    answer that alone is said."""
    told = findings(places(seen, spelled=spelled), takes=True)
    assert [one.name for one in told] == names
    assert all("accept: [controllers-unclear]" in one.fix for one in told if one.name == "controllers-unclear")


@pytest.mark.parametrize("takes", [False, True])
def test_a_host_with_the_name_of_another_one(takes: bool) -> None:
    """As after its disk was cloned: the site file lacks nobody, and nothing is to be added there."""
    (one,) = findings(places({"c1": found("c1"), "c2": found("c1")}), takes)
    assert one.name == "host-name-differs" and "`hostnamectl set-hostname c2` on c2" in one.fix


def test_a_limit_hides_none() -> None:
    """Controllers that a run may not change are looked at as well, and belong to the site."""
    (first, _) = places({"c1": found("c1"), "c2": found("c2")})
    assert unlisted_controllers.unlisted_entries(replace(first, site=replace(first.site, limit=frozenset({"c1"})))) == (
        [],
        [],
    )


def test_who_looks() -> None:
    """An install, the doctor, an undeploy and a rollback of the Slurm side; a run that removes the plugin never continues."""

    def judged(stages: tuple[Stage, ...]) -> list[str]:
        place = places({"a": found("c1")})[0]
        checks = [
            one for stage in stages for one in stage.steps if isinstance(one, Check) and one.name == "controllers"
        ]
        return [finding.name for one in checks for finding in one.judge(place, None)]

    back = RollbackTarget("x", "leave", {}, (), {"a": True}, True, False, False, ())
    assert judged(STAGES) == judged(probes.stages(load(DEFAULT))) == ["controller-unlisted"]
    assert judged(tuple(certificates.rotation(load(DEFAULT), "")[1])) == ["controller-unlisted"]
    assert judged(tuple(certificates.revocation(load(DEFAULT), "old")[1])) == ["controller-unlisted"]
    assert judged(undeploy.stages(slurm=True)) == ["controllers-left-out"]
    assert judged(undeploy.stages(slurm=False)) == []
    assert judged(procedure.stages(back, CONF)) == ["controller-unlisted"]
    assert judged(procedure.stages(replace(back, dws="install"), CONF)) == ["controller-unlisted"]
    assert judged(procedure.stages(replace(back, enabled={"a": False}, off=True), CONF)) == ["controllers-left-out"]
    assert not acceptable.refusal("controller-unlisted") and not acceptable.refusal("controllers-unclear")
    assert acceptable.refusal("controllers-left-out")


def test_what_a_host_calls_itself(tmp_path: Path) -> None:
    """The look returns its name, with and without domain, its addresses, and the controllers of `scontrol ping`."""
    (tmp_path / "slurm.conf").write_text("ClusterName=x\n")
    programs = {
        "uname": "echo c1",
        "hostname": 'case $1 in -f) echo c1.site ;; -I) echo "10.0.0.1 fd00::1 " ;; esac',
        "pgrep": "exit 1",
        "scontrol": 'echo "Slurmctld(primary) at v1,c1 is UP"; echo "Slurmctld(backup) at UPS is DOWN"; exit 1',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    settings = {"folder": str(tmp_path), "unit": "no-such-unit-at-all", "state": str(tmp_path)}

    def told(*parts: str) -> bytes:
        script = render.script("lib/as.sh", "lib/slurmctld.sh", *parts, **settings)
        environment = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, timeout=60, check=True).stdout

    seen = controller.parse(told("lib/lua.sh", "controller/controller.sh"))
    assert (seen["host"], seen["fqdn"], seen["addresses"].split()) == ("c1", "c1.site", ["10.0.0.1", "fd00::1"])
    running = slurmctld.parse(told("controller/daemon.sh"))
    assert running["named"] == [["v1,c1", "UP"], ["UPS", "DOWN"]]
    assert running["pings"] == [["here", "UP"], ["there", "DOWN"]]
