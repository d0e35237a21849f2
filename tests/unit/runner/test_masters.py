"""Several masters: which one is used, and through which one a run may change the site."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dws_on_csm.config.load import load, narrow
from dws_on_csm.config.site import Host, Site
from dws_on_csm.engine import cluster_lease
from dws_on_csm.engine.cluster_lease import LAST, MARKS, RUN, UNSAID, Lease
from dws_on_csm.engine.reach import ClusterLease, Reach
from dws_on_csm.engine.state import Run
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.errors import LockLost, Unreachable
from dws_on_csm.runner import locked, masters
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.read_only import only
from tests.unit.conftest import LocalHost
from tests.unit.site_files import said, write

LIST = "master: {host: [m1, m2, m3]}\ncontrollers: [{pod: {}}]\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return load(write(tmp_path, LIST))


def used(site: Site, name: str, *silent: str) -> Site:
    """The site with this master, after those that did not answer."""
    (host,) = [host for host in site.master.listed if host.name == name]
    return masters.using(site, host, list(silent))


class Api:
    """A cluster with a Lease that has these annotations; None: without one. Keeps what is patched."""

    def __init__(self, notes: dict[str, str] | None, error: ClusterError | None = None) -> None:
        self.notes, self.error = notes, error
        self.seen: list[dict[str, str]] = []

    def get(self, path: str) -> dict[str, Any] | None:
        if self.error:
            raise self.error
        return None if self.notes is None else self._lease()

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.notes = dict(body["metadata"]["annotations"])
        return self._lease()

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert self.notes is not None
        self.notes |= body["metadata"].get("annotations", {})
        self.seen.append(dict(self.notes))
        return self._lease()

    def _lease(self) -> dict[str, Any]:
        return {"metadata": {"annotations": dict(self.notes or {}), "resourceVersion": "1"}, "spec": {}}


def why(site: Site, api: Api, monkeypatch: pytest.MonkeyPatch, *on_disk: str) -> str:
    """Why a run through the site's master may change nothing; masters are called as in the site file. `on_disk`: runs whose records
    that master has."""
    monkeypatch.setattr(cluster_lease, "identity", lambda session: f"{session.host}-0")
    monkeypatch.setattr(cluster_lease, "has_run", lambda session, run: run in on_disk)
    cluster: Any = api
    return masters.records_elsewhere(site, cluster, SimpleNamespace(host=site.master.host.name))


def key(controller: str = "user/slurmctld") -> str:
    """The annotation for a controller; by default for the one of the site."""
    return cluster_lease.record_key(controller)


def marked(master: str, run: str = "r1", controller: str = "user/slurmctld", **more: str) -> dict[str, str]:
    """The annotations after a run with this controller through a master, and a proof through m2."""
    return {key(controller): f"{run} {master} {controller}", RUN: "r9", MARKS: "r9", LAST: "m2-0", **more}


def test_the_first_that_answers_is_used(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why those before it are not used is said once, with their errors; the first needs no word, and the others no connection."""
    tried: list[str] = []

    def connect_all(site: Site, hosts: list[Host]) -> Any:
        (host,) = hosts
        assert site.master.host == host
        tried.append(host.name)
        answer = Unreachable(host.name, "no route to host", "") if host.name in down else object()
        return type("Sessions", (dict,), {"close": lambda self: None})({host.name: answer})

    monkeypatch.setattr(masters, "connect_all", connect_all)
    down: set[str] = set()
    assert masters.choose(site).master.host.name == "m1" and tried == ["m1"]
    assert capsys.readouterr().err == ""
    down = {"m1"}
    chosen = masters.choose(site)
    assert chosen.master.host.name == "m2" and chosen.master.silent == ("m1: no route to host",)
    assert capsys.readouterr().err == "The master m1 is not used: no route to host\nThe master m2 is used.\n"
    assert [host.name for host in chosen.hosts("master")] == ["m2"]
    down = {"m1", "m2", "m3"}
    assert masters.choose(site) == site  # whose connection will be reported
    assert (
        capsys.readouterr().err
        == "The master m2 is not used: no route to host\nThe master m3 is not used: no route to host\n"
    )
    tried.clear()
    assert only(site, "m3").master.host.name == "m3" and tried == [], "which one is named"


def test_a_limit_that_names_a_master_means_the_one_that_is_used(site: Site) -> None:
    """Whichever of them that is."""
    limited = used(narrow(site, "m1"), "m2")
    assert limited.active("m2") and not limited.active("slurmctld")


def test_mistakes_in_a_list_of_masters(tmp_path: Path) -> None:
    """With their places; a list of one is as good as one."""
    assert said(tmp_path, LIST.replace("m2", "m1")) == [
        "1:21: master.host[1]: m1: already in master.host[0]; a host can have only one role"
    ]
    assert "the list is empty" in said(tmp_path, LIST.replace("m1, m2, m3", ""))[0]
    assert "a host's name or address" in said(tmp_path, LIST.replace("[m1, m2, m3]", "{}"))[0]
    assert not load(write(tmp_path, LIST.replace("m1, m2, m3", "m1"))).master.several


def test_only_the_master_with_the_records_may_change_a_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback would not find elsewhere what a run has changed. Before the first run it is the first of the list. One that the
    site file names alone is the one, whatever the cluster says."""
    down = "m1: no route to host"
    assert why(used(site, "m1"), Api(None), monkeypatch) == ""
    assert why(used(site, "m1"), Api(marked("m1-0")), monkeypatch) == ""
    assert why(used(site, "m2", down), Api(marked("m2-0")), monkeypatch) == ""
    text = why(used(site, "m2", down), Api(marked("m1-0")), monkeypatch)
    assert "on the disk of the master m1, and m2 does not have them. m1: no route to host. Run the same command" in text
    assert "Write `host: m2` alone" in text
    text = why(used(site, "m2", down), Api(None), monkeypatch)
    assert "m1, the first master in hosts.yaml, has to keep them" in text and down in text and "put m2 first" in text
    assert "of the master m2," in why(used(site, "m1"), Api(marked("m2-0")), monkeypatch)
    alone = replace(site, master=replace(site.master, listed=site.master.listed[:1]))
    assert why(alone, Api(marked("m2-0")), monkeypatch) == ""
    silent = ClusterError(503, "no answer")
    for name in ("m1", "m2"):
        text = why(used(site, name), Api(None, silent), monkeypatch)
        assert "The API server does not answer (" in text and f"`host: {name}` alone" in text
    assert why(alone, Api(None, silent), monkeypatch) == ""


def test_what_only_proves_leaves_the_records_where_they_are() -> None:
    """And a run that changes something says that its master has them from now on."""

    def lease(api: Api, identity: str) -> Lease:
        cluster: Any = api
        lease = Lease(cluster, identity, identity, "run-1", lambda why: None)
        lease.take()
        return lease

    api = Api(None)
    lease(api, "m2-0")
    assert api.notes and key() not in api.notes and api.notes[LAST] == "m2-0"
    lease(api, "m1-0").keep_records(["user/slurmctld"])
    assert (api.notes[key()], api.notes[LAST]) == ("run-1 m1-0 user/slurmctld", "m1-0")
    lease(api, "m2-0")
    assert (api.notes[key()], api.notes[LAST]) == ("run-1 m1-0 user/slurmctld", "m2-0")


def test_each_site_of_a_cluster_has_its_own_master_with_records(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another Slurm's run through another master moves nothing of this one, also where both slurmctlds are pods of one name. A site
    of several controllers is known by each of them, since one may be added; the last run counts."""
    assert masters.controllers(site) == ["user/slurmctld"]
    api = Api(marked("m2-0", "r2", "tenant/slurmctld") | marked("m1-0"))
    assert why(used(site, "m1"), api, monkeypatch) == ""
    assert "of the master m1," in why(used(site, "m2"), api, monkeypatch)
    api = Api(marked("m2-0", "r2", "tenant/slurmctld"))
    assert why(used(site, "m1"), api, monkeypatch) == "", "the first run of this site"
    hosts = load(write(tmp_path, LIST.replace("{pod: {}}", "{host: 'c[1-2]'}")))
    api = Api(marked("m2-0", "r2", "c2"))
    assert "of the master m2," in why(used(hosts, "m1"), api, monkeypatch)
    api = Api(marked("m2-0", "r2", "c2") | marked("m1-0", "r3", "c1"))
    assert why(used(hosts, "m1"), api, monkeypatch) == ""


def test_the_disk_is_asked_before_anything_is_said_of_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A master may get a new machine-id at each boot, and has its records all the same; one that was installed anew has none."""
    api = Api(marked("m1-of-yesterday"))
    api.notes = {**(api.notes or {}), key(): "r1 m1-1 user/slurmctld"}
    assert why(used(site, "m1"), api, monkeypatch, "r1") == ""
    text = why(used(site, "m1"), api, monkeypatch)
    assert "are lost: m1 has another machine-id than at run r1, which is not on its disk. Write" in text
    assert "answers" not in text


@pytest.mark.parametrize("run", ["20261130T061100Z-ab12", "20261130T061100Z-ab13", "$(touch bad)", ""])
def test_how_the_disk_is_asked(run: str, local_host: LocalHost, tmp_path: Path) -> None:
    """By the folder of the run's before-images; what is no run's id reaches no shell."""
    (tmp_path / "state" / "before" / "20261130T061100Z-ab12").mkdir(parents=True)
    assert cluster_lease.has_run(local_host, run) == (run == "20261130T061100Z-ab12")
    assert len(local_host.scripts) == run.startswith("2026")


def test_a_run_of_an_earlier_version_may_have_left_records(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says neither of which site nor whether it only proved, so nothing is claimed. A run of this version that only took the
    Lease left none, and remembers the earlier one's."""
    earlier = {RUN: "r5", LAST: "m2-0"}
    text = why(used(site, "m1"), Api({**marked("m1-0"), **earlier}), monkeypatch)
    assert "Run r5 of an earlier version of this tool used the master m2, and may have left records" in text
    assert why(used(site, "m2"), Api({**marked("m1-0"), **earlier}), monkeypatch) == ""
    assert why(used(site, "m1"), Api({**marked("m1-0", "r6"), **earlier}), monkeypatch) == "", "a later run of the site"
    assert why(used(site, "m1"), Api(earlier), monkeypatch, "r5") == ""
    api = Api({**marked("m1-0"), **earlier})
    cluster: Any = api
    Lease(cluster, "m3", "m3-0", "r7", lambda why: None).take()
    assert api.notes and (api.notes[UNSAID], api.notes[MARKS], api.notes[LAST]) == ("r5 m2-0", "r7", "m3-0")
    assert "Run r5 " in why(used(site, "m1"), api, monkeypatch)


@pytest.mark.parametrize(("last", "lost"), [("m1-0", ""), ("m2-0", "has worked since this run's checks")])
def test_the_records_are_moved_only_by_a_run_that_goes_on(last: str, lost: str) -> None:
    """The API server was silent when the run began. When it takes the Lease later, the request says nothing of records: only its
    answer shows whether a run through another master came before."""
    api = Api(marked("m2-0", **{LAST: last}), ClusterError(503, "no answer"))
    cluster: Any = api
    lease = Lease(cluster, "m1", "m1-0", "run-1", lambda why: None)
    lease.take()
    lease.keep_records(["user/slurmctld"])
    api.error, lease._retry = None, 1.0
    with pytest.raises(LockLost, match=lost) if lost else nullcontext():
        lease.check()
    lease.release()
    theirs, ours = ("r1 m2-0 user/slurmctld", "run-1 m1-0 user/slurmctld")
    assert [notes[key()] for notes in api.seen] == [theirs] + ([] if lost else [ours, ours])


def test_a_run_through_a_master_without_the_records(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes a site is refused; what proves is not, and does not look."""
    monkeypatch.setattr(cluster_lease, "identity", lambda session: "m2-0")
    monkeypatch.setattr(cluster_lease, "has_run", lambda session, run: False)
    cluster: Any = Api(marked("m1-0"))
    reach = Reach(lambda name: None, lambda: cluster, lambda role: "m2", lease=lambda run, tell: ClusterLease())  # type: ignore[arg-type,return-value]
    made = Run("run-1", used(site, "m2", "m1: gone"), (), reach, lambda event: None, {})
    refused = locked.why_records_elsewhere(made, Options())
    assert refused.startswith("Nothing was changed. The records of this site's runs") and "m1: gone." in refused
    assert locked.why_records_elsewhere(made, Options(proves=True)) == ""
