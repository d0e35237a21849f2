"""Certificates: what is wrong with one, who signs it, and how it is renewed."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.commands import certificates
from dws_on_csm.commands.doctor import rules_access
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.display.style import text
from dws_on_csm.domain import certificates as pki
from dws_on_csm.model.actions import CallApi, Put, RunElsewhere
from dws_on_csm.model.cluster_api import ClusterError
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import Fact, Facts, Refused, StepContext
from dws_on_csm.stages.access import kubeconfig, rotate, signing
from dws_on_csm.stages.facts import Kubeconfig
from tests.unit.authority import MAY, at, authority, found, named
from tests.unit.site_files import write

TEXT = "master: {host: m}\ncontrollers: [{host: 'c[1-2]'}]\n"
CA = authority().certificate


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return load(write(tmp_path, TEXT))


# --- invoke certs

OTHER = authority("kubernetes", 100)
SHOWN: dict[str, tuple[Kubeconfig, list[tuple[str, bool]]]] = {
    "all is well": (found(authority().sign("slurm-dws", 400)), []),
    "it ends in two months": (found(authority().sign("slurm-dws", 59.5)), [("the certificate expires soon", False)]),
    "less is left than is renewed": (
        found(authority().sign("slurm-dws", 30.5)),
        [("the certificate expires soon", True)],
    ),
    "it is over": (found(authority().sign("slurm-dws", -1, 20)), [("the certificate has expired", True)]),
    "the CA was made anew": (
        found(OTHER.sign("slurm-dws", 90)),
        [("the cluster's present CA did not sign the certificate", True)],
    ),
    "it is for somebody else": (
        found(authority().sign("me", 400)),
        [("the certificate is for me, but the site file says slurm-dws", False)],
    ),
    "there is none": ({"slurm_user": "slurm", "may": []}, [("the kubeconfig is missing", True)]),
    "it is in another file": (found(b""), [("the kubeconfig has no readable certificate", True)]),
    "SlurmUser can't read it": (
        found(authority().sign("slurm-dws", 400), ["error: open: permission denied"]),
        [("slurm is refused: error: open: permission denied", True)],
    ),
    "SlurmUser may too little": (
        found(authority().sign("slurm-dws", 400), [MAY[0].replace("create ", "")]),
        [("slurm may not create Workflows", True)],
    ),
}


@pytest.mark.parametrize("case", SHOWN)
def test_problems_of_a_certificate(site: Site, case: str) -> None:
    """Each problem is shown, and counts as bad when the plugin cannot use the certificate, now or soon."""
    seen, wrong = SHOWN[case]
    told = certificates.status_of(site, "c1", seen, CA)
    assert [(problem.text, problem.bad) for problem in told.problems] == wrong


SAME = ("it ends in two months", "it is over", "the CA was made anew", "it is for somebody else", "there is none")


@pytest.mark.parametrize("case", [*SAME, "it is in another file"])
def test_doctor_and_certs_show_the_same_fix(site: Site, case: str) -> None:
    """One problem has one fix, whichever command reports it."""
    seen = SHOWN[case][0]
    cluster = {"ca": CA.decode(), "server": seen.get("server", ""), "trusts": ""}
    ctx = StepContext(site, Facts({"access.cluster": {"m": cluster}}), "c1")
    fixes = {finding.fix for finding in rules_access.file(ctx, seen)}
    shown = {problem.fix for problem in certificates.status_of(site, "c1", seen, CA).problems}
    assert shown and shown <= fixes


def test_a_certificate_does_not_outlive_its_ca(site: Site) -> None:
    """Where the CA expires first, its days count, and that is shown."""
    short = authority("short", 70)
    told = certificates.status_of(site, "c1", found(short.sign("slurm-dws", 400)), short.certificate)
    assert told.days_left == 69 and [problem.bad for problem in told.problems] == [False]
    assert re.match(r"the cluster\'s CA expires on \d{4}-\d\d-\d\d, before the certificate", told.problems[0].text)


def test_a_revoked_name_in_the_site_file_is_out_of_date(site: Site) -> None:
    """No install gives a revoked name its rights again: the fix changes the name in the site file."""
    told = certificates.status_of(
        site, "c1", found(authority().sign("new", 400)), CA, {"slurm-dws": "2028-04-10 revoked"}
    )
    (problem,) = told.problems
    assert problem.text == "the certificate is for new, but the site file says slurm-dws, which was revoked"
    assert problem.fix == f"set access.common_name in {site.path.name} to new"


def test_a_master_that_says_nothing(site: Site) -> None:
    """Without the CA a certificate's signature is unknown, which counts as bad."""
    told = certificates.status_of(site, "c1", found(authority().sign("slurm-dws", 400)), b"")
    assert told.signed is None and [problem.bad for problem in told.problems] == [True]


def test_the_table_has_a_column_for_each_controller_and_each_problem_once(site: Site) -> None:
    """A problem of two controllers is shown once, with both names."""
    pems = [authority().sign("slurm-dws", days) for days in (20, 21)]
    every = [certificates.status_of(site, host, found(pem), CA) for host, pem in zip(("c1", "c2"), pems, strict=True)]
    lines = [text(row) for row in certificates.rows(every)]
    assert lines[0].split() == ["c1", "c2"]
    assert next(line for line in lines if line.startswith("days left")).split()[2:] == ["19", "20"]
    assert lines[-1] == "✗ c1, c2: the certificate expires soon  run `invoke certs.rotate`"
    assert "slurm may work on Workflows" in "\n".join(lines)


# --- every run's warning


@pytest.mark.parametrize(("days", "said"), [(60.5, ""), (59.5, "59 days left until {}: `invoke certs.rotate`")])
def test_every_run_warns_two_months_ahead(site: Site, days: float, said: str) -> None:
    """Below 60 days the step says so, though it changes nothing yet; above that it says nothing."""
    place = at(site, {"c1": found(authority().sign("slurm-dws", days), server="https://api")})
    have = kubeconfig.read(place, place.facts.all(Fact[Any]("access", "kubeconfig"))["c1"])
    assert have == {**kubeconfig.wanted(place)}
    assert kubeconfig.near_its_end(have) == said.format(have["valid"]["until"])


@pytest.mark.parametrize("have", [None, {"valid": None}])
def test_a_kubeconfig_without_a_certificate_has_no_end(have: Any) -> None:
    """Without a certificate there is no warning."""
    assert kubeconfig.near_its_end(have) == ""


def test_a_certificate_that_ends_within_renew_below_is_renewed(site: Site) -> None:
    """30 days are too few where more than 30 are wanted."""
    place = at(site, {"c1": found(authority().sign("slurm-dws", 30.5))})
    assert kubeconfig.wanted(place)["valid"] == {"days left": "more than 30"}


# --- who signs


@dataclass
class Signer:
    """A cluster whose signer answers as `answer` says: it gets the request and returns its status."""

    answer: Callable[[Mapping[str, Any]], dict[str, Any]]
    minor: str = "33"
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        return {"major": "1", "minor": self.minor} if path == "/version" else self.objects.get(path)

    def metadata(self, path: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        name = f"{path}/{body['metadata']['name']}"
        assert name not in self.objects
        self.objects[name] = {**body, "metadata": {**body["metadata"], "resourceVersion": "7"}}
        self.seen.append(dict(body))
        return self.objects[name]

    def replace(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        raise NotImplementedError

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        name, _, part = path.rpartition("/")
        assert part == "approval" and body["metadata"]["resourceVersion"] == "7"
        self.objects[name]["status"] = {**body["status"], **self.answer(self.objects[name])}
        return self.objects[name]

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def delete(self, path: str, deadline: float, uid: str = "", version: str = "") -> None:
        self.objects.pop(path, None)

    def await_event(self, path: str, seconds: float) -> bool:
        return True


def grants(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"certificate": base64.b64encode(b"PEM").decode()}


def test_a_request_is_approved_signed_and_gone(site: Site) -> None:
    """The cluster signs a client certificate for so many days; the request is deleted."""
    cluster = Signer(grants)
    assert signing.by_request(cluster, at(site, {}), b"CSR") == b"PEM"
    (asked,) = (one["spec"] for one in cluster.seen)
    assert base64.b64decode(asked["request"]) == b"CSR"
    assert (asked["signerName"], asked["usages"]) == ("kubernetes.io/kube-apiserver-client", ["client auth"])
    assert asked["expirationSeconds"] == 500 * 86400
    assert cluster.objects == {}


@pytest.mark.parametrize(("minor", "asked"), [("20+", False), ("21", False), ("22", True), ("33+", True)])
def test_days_are_asked_for_where_the_api_knows_that(site: Site, minor: str, asked: bool) -> None:
    """expirationSeconds came with Kubernetes 1.22."""
    cluster = Signer(grants, minor)
    signing.by_request(cluster, at(site, {}), b"CSR")
    assert ("expirationSeconds" in cluster.seen[0]["spec"]) is asked


def test_a_request_that_a_run_left_is_replaced(site: Site) -> None:
    """A request of the same name that an interrupted run left is no obstacle."""
    cluster = Signer(grants, objects={f"{signing.REQUESTS}/dws-on-csm-c1": {}})
    assert signing.by_request(cluster, at(site, {}), b"CSR") == b"PEM"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"conditions": [{"type": "Denied", "message": "no"}]}, "the request was denied: no"),
        ({"conditions": [{"type": "Failed", "message": "why"}]}, "the request was failed: why"),
        ({}, "not signed within 0 s"),
    ],
)
def test_a_request_that_comes_to_nothing(site: Site, status: dict[str, Any], said: str) -> None:
    """The error has the cluster's message, or says that nobody signed in time; the request is deleted in any case."""
    cluster = Signer(lambda request: status)
    with pytest.raises(ClusterError, match=re.escape(said)):
        signing.by_request(cluster, at(site, {}), b"CSR", deadline=0.0)
    assert cluster.objects == {}


@pytest.mark.parametrize(
    ("host", "name"), [("nid-A_1", "dws-on-csm-nid-a-1"), ("10.0.0.1", "dws-on-csm-10.0.0.1"), ("c1", "dws-on-csm-c1")]
)
def test_a_request_is_named_after_its_host(site: Site, host: str, name: str) -> None:
    """The host's name becomes a valid name of the API."""
    cluster = Signer(grants)
    signing.by_request(cluster, at(site, {}, host), b"CSR")
    assert cluster.seen[0]["metadata"]["name"] == name


def test_what_would_be_renewed_at_once_is_refused(site: Site) -> None:
    """A new certificate with so few days that it would be renewed at once does not replace the old one."""
    place = at(named(site, via="csr"), {"c1": found(authority().sign("slurm-dws", 20))})
    (ask,) = kubeconfig.change(place, None, kubeconfig.wanted(place))
    assert isinstance(ask, CallApi)
    with pytest.raises(Refused, match="certificate-short"):
        ask.then(authority().sign("slurm-dws", 30.5))


@pytest.mark.parametrize("via", ["ca", "csr"])
def test_a_plan_makes_no_key(site: Site, monkeypatch: pytest.MonkeyPatch, via: str) -> None:
    """The key and its request are made once, when the request is sent."""
    requests: list[str] = []

    def request(name: str) -> pki.Request:
        requests.append(name)
        return pki.Request(Secret(b"KEY"), b"CSR")

    monkeypatch.setattr(pki, "request", request)
    place = at(named(site, via=via), {"c1": found(authority().sign("slurm-dws", 20))})
    (ask,) = kubeconfig.change(place, None, kubeconfig.wanted(place))
    assert isinstance(ask, CallApi | RunElsewhere) and requests == []
    if isinstance(ask, RunElsewhere):
        assert callable(ask.script) and "CSR" in ask.script()
    else:
        ask.ask(Signer(grants))
    (put,) = ask.then(authority().sign("slurm-dws", 400))
    assert isinstance(put, Put) and requests == ["slurm-dws"]


# --- rotation


def test_a_certificate_is_new_when_it_differs_from_the_first(site: Site) -> None:
    """A controller that shares the folder of an earlier one finds the new certificate there, and changes nothing."""
    step = next(one for one in rotate.stages(site)[1].steps if one.name == "kubeconfig")
    old, new = (found(authority().sign("slurm-dws", 400)) for _ in range(2))
    place = at(site, {"c1": old, "c2": old}, "c2")
    want = step.want(place)  # type: ignore[union-attr]
    read = step.read  # type: ignore[union-attr]
    assert read(place, old)[rotate.MADE] != want[rotate.MADE]  # type: ignore[misc]
    assert read(place, new)[rotate.MADE] == want[rotate.MADE]  # type: ignore[misc]


def test_a_rotation_changes_no_names(site: Site) -> None:
    """Where the site file has another name than the kubeconfig, it is refused, with the command that changes names."""
    (check,) = (item for item in rotate.stages(site)[0].steps if item.name == "before")
    place = at(site, {})
    assert check.judge(place, found(authority().sign("slurm-dws", 4))) == ()  # type: ignore[union-attr]
    assert check.judge(place, {"slurm_user": "slurm", "may": []}) == ()  # type: ignore[union-attr]
    (finding,) = check.judge(place, found(authority().sign("me", 4)))  # type: ignore[union-attr]
    assert (finding.name, "invoke install" in finding.fix) == ("other-name", True)


@pytest.mark.parametrize(
    ("via", "days", "said"),
    [
        ("ca", 499.5, "valid until {}, 499 days"),
        ("csr", 364.5, "valid until {}, 364 days; access.days asks for 500: the cluster limits their lifetime"),
    ],
)
def test_the_new_validity_is_reported(site: Site, via: str, days: float, said: str) -> None:
    """Fewer days than requested are reported with the reason."""
    asking = named(site, via=via)
    have = kubeconfig.read(place := at(asking, {}), found(authority().sign("slurm-dws", days)))
    assert place and rotate.validity_text(asking)(have).startswith(said.format(have["valid"]["until"]))
