"""A rollback ends in the state before its run, however often it runs and wherever it is interrupted."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands.history import former_state
from dws_on_csm.config.load import load
from dws_on_csm.domain import names
from dws_on_csm.stages.access import revoked_names
from dws_on_csm.stages.dws import installed
from tests.unit.simulated_site import CONF, Cut, Simulated, dws, role_of
from tests.unit.site_files import MINIMAL, write
from tests.unit.stages.rollback.test_rollback import OURS, certificate

OLD, NEW, NEWER = "0.0.20", "0.1.9", "0.1.12"


@cache
def _of_name(name: str) -> bytes:
    return certificate(name, 9, OURS)


@pytest.fixture
def site(tmp_path: Path) -> Simulated:
    """A site without DWS."""
    return Simulated(load(write(tmp_path, MINIMAL)), _of_name, certificate("ca", 9, OURS))


def cut(site: Simulated, after: int, task: Callable[[], None]) -> bool:
    """Run `task`, interrupted after so many changes; whether it was interrupted."""
    site.changes, site.cut = 0, after
    try:
        task()
    except Cut:
        return True
    finally:
        site.cut = None
    return False


def installs(site: Simulated, *versions: str) -> None:
    """One install after the other."""
    for version in versions:
        site.install(version)


# --- the scenarios that were seen


@pytest.mark.slow
@pytest.mark.parametrize("after", range(80))
def test_a_rollback_over_a_version_change_that_is_cut_anywhere(site: Simulated, after: int) -> None:
    """Run again, it ends in the former state, and a third run changes nothing."""
    site.install(OLD)
    before = site.state()
    site.install(NEWER)
    cut(site, after, lambda: site.rollback("r002"))
    for _ in range(2):
        site.rollback("r002")
        assert site.state() == before
    runs = site.runs
    site.rollback("r002")
    assert site.runs == runs, "a rollback that had nothing to do began a run"


def test_dws_stays_after_a_downgrade_by_install(site: Simulated) -> None:
    """The site is already in the state before the upgrade: nothing is removed."""
    installs(site, OLD)
    before = site.state()
    installs(site, NEWER, OLD)
    site.rollback("r002")
    assert site.state() == before


def test_a_run_that_did_not_look_for_dws(site: Simulated) -> None:
    """A rotation records nothing of DWS; its rollback, after a later upgrade, restores the former version."""
    site.install(OLD)
    objects = site.state()[0]
    site.rotate()
    site.install(NEWER)
    for _ in range(2):
        site.rollback("r002")
        assert site.state()[0] == objects


def test_half_of_a_version_does_not_come_back(site: Simulated) -> None:
    """Where an undeploy had been interrupted before the run, the rollback says so and changes nothing."""
    site.install(OLD)
    assert cut(site, 7, lambda: site.undeploy(slurm=False))
    site.install(NEWER)
    there = site.state()
    with pytest.raises(former_state.HalfRemoved, match=OLD):
        site.rollback("r003")
    assert site.state() == there


def test_crds_that_were_there_without_dws_stay(site: Simulated) -> None:
    """The objects may be somebody's data: they stay, and what an install added around them is removed."""
    crds = {path: one for path, one in dws(OLD).items() if "/customresourcedefinitions/" in path}
    for path, one in crds.items():
        site.api.write(path, one)
    installs(site, OLD, NEWER)
    site.rollback("r001")
    assert {path for path in site.api.objects if path in dws(OLD)} == set(crds)


def test_the_binding_has_the_role_of_the_version_that_comes_back(site: Simulated) -> None:
    """A name that was revoked since stays without rights; the present name has them by the present role."""
    site.install(OLD)
    site.install(NEWER)
    site.revoke()
    for _ in range(2):
        site.rollback("r002")
        bound = site.api.objects[former_state.BINDING]
        assert bound["roleRef"]["name"] == role_of(OLD) == names.ROLE
        assert former_state.subjects(bound) == {site.own()} == {site.named()}


# --- any sequence of runs


def abstract(site: Simulated) -> dict[str, Any]:
    """The site's state, apart from what is never restored."""
    objects = copy.deepcopy(site.api.state())
    binding = objects.pop(former_state.BINDING, None)
    objects.pop(revoked_names.PATH, None)
    kubeconfig = site.files.get(names.KUBECONFIG)
    there = site.now()
    files = {path: one for path, one in site.files.items() if path != names.KUBECONFIG}
    return {
        "there": bool(there["traces"]),
        "none": not (there["traces"] or there["crds"] or there["unfinished"]),
        "half": bool(there["unfinished"] and (there["traces"] or there["crds"])),
        "tag": there["tag"],
        "whole": all(path in objects for path in dws(there["tag"] or OLD)),
        "objects": objects,
        "binding": binding,
        "names": former_state.subjects(binding),
        "files": files,
        "kubeconfig": kubeconfig,
        "enabled": b"BurstBuffer" in site.files[CONF][2],
    }


def of_dws(objects: dict[str, Any]) -> dict[str, Any]:
    every = {**dws(OLD), **dws(NEWER)}
    return {path: one for path, one in objects.items() if path in every and path != installed.NAMESPACE}


def as_before(site: Simulated, was: dict[str, Any], bound: frozenset[str]) -> None:
    """The site is in the state `was`, except for revoked names and for parts that DWS lacked.

    `bound`: the names with rights when the rollback started, of which an interrupted revocation may have left some.
    """
    now, gone = abstract(site), site.revoked()
    if was["none"]:
        assert now["none"]
    if was["there"] and was["tag"] and not was["half"]:
        assert now["tag"] == was["tag"]
        assert of_dws(was["objects"]).keys() <= of_dws(now["objects"]).keys()
        if was["whole"]:
            assert of_dws(now["objects"]) == of_dws(was["objects"])
    assert now["enabled"] == was["enabled"]
    assert now["files"][CONF] == was["files"][CONF]
    assert was["files"].items() <= now["files"].items()
    if not now["enabled"]:
        assert now["files"] == was["files"]
    if was["binding"] is None:
        assert now["binding"] is None
    else:
        assert now["binding"]["roleRef"] == was["binding"]["roleRef"]
        assert now["names"] >= was["names"] - gone and now["names"] & gone <= bound
    named = was["kubeconfig"][2].decode().partition(" ")[0] if was["kubeconfig"] else ""
    if named and named not in gone and named in was["names"]:
        assert now["kubeconfig"] == was["kubeconfig"]
    assert site.named() not in gone - bound or not was["enabled"]


def a_task(site: Simulated, dice: random.Random) -> tuple[str, Callable[[], None]]:
    """One of the tasks that fit the site, at random."""
    tasks: list[tuple[str, Callable[[], None]]] = [
        (f"install {version}", lambda version=version: site.install(version))  # type: ignore[misc]
        for version in (OLD, NEW, NEWER)
    ]
    tasks += [(f"undeploy {slurm}", lambda slurm=slurm: site.undeploy(slurm)) for slurm in (True, False)]  # type: ignore[misc]
    if former_state.BINDING in site.api.objects and names.KUBECONFIG in site.files:
        tasks += [("rotate", site.rotate), ("revoke", site.revoke)]
    return dice.choice(tasks)


def of_the_past(site: Simulated, dice: random.Random, was: dict[str, dict[str, Any]], story: list[str]) -> None:
    """Roll back some run, interrupted at random, until it is complete; then it has nothing left to do."""
    run = dice.choice(list(was))
    story.append(f"rollback {run}")
    bound = abstract(site)["names"]
    for after in (dice.randrange(40), dice.randrange(40), 1000):
        there = abstract(site)
        runs = site.runs
        try:
            over = not cut(site, after, lambda: site.rollback(run))
        except former_state.HalfRemoved:
            story.append("half")
            assert was[run]["half"] or any(was[one]["half"] for one in was if one >= run)
            assert abstract(site) == there
            return
        if site.runs > runs:
            was[site.run] = there
        if over:
            break
    as_before(site, was[run], bound)
    runs = site.runs
    site.rollback(run)
    assert site.runs == runs, f"{run} was rolled back, and a second time changed something"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(80))
def test_any_sequence_of_runs(site: Simulated, seed: int) -> None:
    """Installs, undeploys, rotations, revocations and rollbacks, each interrupted anywhere: a rollback ends in the former state,
    and a second run of a completed task changes nothing."""
    dice = random.Random(seed)  # noqa: S311
    was: dict[str, dict[str, Any]] = {}
    story: list[str] = []
    try:
        for _ in range(10):
            if was and dice.random() < 0.4:
                of_the_past(site, dice, was, story)
                continue
            name, task = a_task(site, dice)
            there = abstract(site)
            runs = site.runs
            broke = cut(site, dice.choice([1000, dice.randrange(30)]), task)
            story.append(f"{site.run}: {name}{' (cut)' if broke else ''}")
            if site.runs > runs:
                was[site.run] = there
            if not broke and name.startswith(("install", "undeploy")):
                done = site.state()
                there = abstract(site)
                task()
                was[site.run] = there
                assert site.state() == done, f"a second {name} changed something"
    except BaseException as error:
        error.add_note("\n  ".join([f"seed {seed}:", *story]))
        raise
