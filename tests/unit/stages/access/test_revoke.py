"""What is decided when a common name is given up: which rights stay until when, and what stands in the way."""

from __future__ import annotations

import base64
import datetime
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.model import render
from dws_on_csm.model.actions import Apply
from dws_on_csm.model.step import Step
from dws_on_csm.stages import undeploy
from dws_on_csm.stages.access import kubeconfig, rbac, revocation_proof, revoke, revoked_names
from dws_on_csm.stages.access.stage import STAGE as ACCESS
from dws_on_csm.stages.facts import AUTHORITY
from tests.unit.authority import at, authority, found, named, pem, private
from tests.unit.site_files import write

TEXT = "master: {host: m}\ncontrollers: [{host: 'c[1-2]'}]\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return load(write(tmp_path, TEXT))


# --- a new name leaves no gap


@pytest.mark.parametrize(
    ("limit", "first", "last"),
    [
        (None, ["User new", "User old", "User somebody"], ["User somebody"]),
        (frozenset({"m", "c1"}), ["User new", "User old", "User somebody"], ["User old", "User somebody"]),
    ],
)
def test_a_former_name_keeps_its_rights_as_long_as_a_kubeconfig_has_it(
    site: Site, limit: frozenset[str] | None, first: list[str], last: list[str]
) -> None:
    """First both names have the rights; at last only those that a controller has which the run must not change.

    A name that no controller of this site has may be another Slurm's: it stays.
    """
    here = replace(named(site, "new"), limit=limit)
    old = found(authority().sign("old", 100))
    bound = {"role": "workload-manager", "subjects": ["User old", "User somebody"]}
    place = at(here, {"c1": old, "c2": old}, "m", access__binding=bound, **{"access__old-subjects": bound})
    binding, former = (item for item in ACCESS.steps if item.name in ("binding", "old-subjects"))
    assert binding.want(place)["subjects"] == first  # type: ignore[union-attr]
    assert former.want(place) == last  # type: ignore[union-attr]


def test_a_former_name_goes_when_each_controller_has_the_new_one(site: Site) -> None:
    """This run saw it in a kubeconfig of this site's before it put the new one there. A name of another Slurm's stays as it was."""
    bound = {"role": "workload-manager", "subjects": ["ServiceAccount b/slurm", "User b", "User new", "User old"]}
    new, old = (found(authority().sign(name, 100)) for name in ("new", "old"))
    place = at(named(site, "new"), {"c1": new, "c2": new}, "m", **{"access__old-subjects": bound})
    place.facts.first["access.kubeconfig"] = {"c1": old, "c2": new}
    former = next(item for item in ACCESS.steps if item.name == "old-subjects")
    assert isinstance(former, Step) and former.change and former.read and former.status_text
    have, want = former.read(place, bound), former.want(place)
    assert want == ["ServiceAccount b/slurm", "User b"] and "User old" in have
    (apply,) = former.change(place, have, want)
    assert isinstance(apply, Apply)
    assert apply.manifest["subjects"][1] == {"kind": "ServiceAccount", "namespace": "b", "name": "slurm"}
    assert [one["name"] for one in apply.manifest["subjects"]] == ["new", "slurm", "b"]
    assert "User b" in former.status_text(want)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_a_certificate_is_nobodys_without_its_key(site: Site, shell: str) -> None:
    """Another Slurm's certificate is public: beside a key of somebody else, or none, its name is not believed, and an install
    replaces it.
    """
    mine, other = private(), private()
    rsa_key = rsa.generate_private_key(65537, 2048)
    signed = {
        "mine": authority().sign("slurm-dws", 100, key=mine),
        "rsa": authority().sign("slurm-dws", 100, key=rsa_key),
    }

    def fits(certificate: bytes, key: bytes) -> str:
        words = " ".join(base64.b64encode(one).decode() or "''" for one in (certificate, key))
        script = f"set -eu\n{render.script('lib/key_fits.sh')}\nkey_fits {words}"
        done = subprocess.run([*shell.split()], input=script, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        return done.stdout.strip()

    assert [fits(signed["mine"], pem(mine)), fits(signed["rsa"], pem(rsa_key))] == ["yes", "yes"]
    assert {fits(signed["mine"], one) for one in (pem(other), pem(rsa_key), b"", b"no key")} == {"no"}
    assert fits(b"no certificate", pem(mine)) == ""
    seen: dict[str, Any] = {answer: {**found(signed["mine"]), "key_fits": answer} for answer in ("yes", "no", "")}
    place = at(site, {"c1": seen["yes"]})
    assert [kubeconfig.proven_name(place, seen[one]) for one in ("yes", "no", "")] == ["slurm-dws", "", "slurm-dws"]
    assert kubeconfig.read(place, seen["yes"])["certificate"] == kubeconfig.FITS
    assert kubeconfig.read(place, seen["no"])["certificate"] == "without its key"


RULE = {
    "apiGroups": ["dataworkflowservices.github.io"],
    "resources": ["workflows"],
    "verbs": ["create", "get", "patch", "delete"],
}


@pytest.mark.parametrize(
    ("rules", "accepted"),
    [
        ([RULE], "role-differs"),
        ([{**RULE, "verbs": ["get"]}], ""),
        ([RULE, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}], ""),
        (None, ""),
    ],
)
def test_a_role_that_the_site_changed_is_left_where_it_allows_no_more(site: Site, rules: Any, accepted: str) -> None:
    """It may look different, or allow less than upstream's; one with which the plugin cannot work is put back."""
    role = next(item for item in ACCESS.steps if item.name == "role")
    assert isinstance(role, Step) and role.accepted_as
    want = {"rules": [{**RULE, "verbs": [*RULE["verbs"], "watch"]}]}
    assert role.accepted_as(at(site, {}, "m"), {"rules": rules}, want) == accepted


def test_the_names_of_a_binding_are_read_with_their_namespace() -> None:
    """A ServiceAccount is one of its namespace."""
    subjects = [{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "namespace": "b", "name": "a"}]
    bound = rbac.binding_of({"roleRef": {"name": "r"}, "subjects": subjects})
    assert bound == {"role": "r", "subjects": ["ServiceAccount b/a", "User a"]}
    assert rbac.binding_of({"roleRef": {"name": "r"}}) == {"role": "r", "subjects": []}


def test_a_shared_dws_is_not_removed(site: Site) -> None:
    """The other Slurm's name is in the finding, and the command that removes it leaves this site's own."""
    bound = {"role": "workload-manager", "subjects": ["User b", "User new", "User old"]}
    place = at(named(site, "new"), {"c1": found(authority().sign("old", 100))}, "m")
    check = rbac.shared(lambda place: True)
    (told,) = check.judge(place, bound)
    assert told.name == "dws-shared" and "rights to User b:" in told.text
    assert "--user=new --user=old --dry-run=client" in told.fix
    assert not rbac.shared(lambda place: False).judge(place, bound) and not check.judge(place, None)
    assert not check.judge(place, {**bound, "subjects": ["User new", "User old"]})
    stages = {stage.name: stage for stage in undeploy.stages(rbac=True)}
    assert all("shared" in [one.name for one in stages[name].steps] for name in ("preflight", "undeploy", "access"))


def test_a_name_of_another_slurm_counts_only_if_the_cluster_signed_it(site: Site) -> None:
    """SlurmUser can write any certificate into the kubeconfig: that takes no rights from another Slurm, and hides nothing."""
    bound = {"role": "workload-manager", "subjects": ["User new", "User slurm-b"]}
    own, forged = found(authority().sign("new", 100)), found(authority("somebody").sign("slurm-b", 100))
    here = at(named(site, "new"), {"c1": forged, "c2": own}, "m", preflight__names=bound, preflight__common_name={})
    here.facts.found["preflight.kept"] = {"c1": {"run": forged}}
    here.facts.found["access.old-subjects"] = {"m": bound}
    (finding,) = rbac.shared(lambda place: True).judge(here, bound)
    assert finding.name == "dws-shared" and "User slurm-b:" in finding.text
    former = rbac.OLD_SUBJECTS_STEP
    assert isinstance(former, Step) and former.want(here) == ["User slurm-b"]
    assert revoke.names_to_revoke(here, "") == ()
    signed = found(authority().sign("slurm-b", 100))
    with_it = at(named(site, "new"), {"c1": signed, "c2": own}, "m")
    assert not rbac.shared(lambda place: True).judge(with_it, bound)


def test_a_server_s_certificate_names_nobody(site: Site) -> None:
    """The API server's own is public, and the CA signed it: SlurmUser could copy it into the kubeconfig."""

    def signed(usage: x509.ObjectIdentifier) -> bytes:
        issuer = x509.load_pem_x509_certificate(authority().certificate).subject
        key, now = private(), datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(issuer, x509.Name.from_rfc4514_string("CN=slurm-b"), key.public_key(), 7)
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(9))
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        signer = serialization.load_pem_private_key(authority().key, None)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]

    place = at(named(site, "new"), {}, "m")
    usages = {ExtendedKeyUsageOID.SERVER_AUTH: "", ExtendedKeyUsageOID.CLIENT_AUTH: "slurm-b"}
    assert {usage: kubeconfig.proven_name(place, found(signed(usage))) for usage in usages} == usages


def test_whoever_asks_for_names_has_read_the_cluster_s_authority() -> None:
    """Before the first finding: in an undeploy, and in a revocation."""
    for stages in (undeploy.stages(), revoke.stages()):
        names = [item.name for item in stages[0].steps]
        assert AUTHORITY.step in names and stages[0].name == AUTHORITY.stage


# --- revocation

BOUND = {"role": "workload-manager", "subjects": ["User old"]}


def revoking(
    site: Site, given: str = "", record: dict[str, str] | None = None, bound: Any = BOUND
) -> list[tuple[str, str]]:
    """Names and fixes of what stands in the way of a revocation where all controllers have kubeconfigs of `old`."""
    old = found(authority().sign("old", 100))
    record = record or {}
    place = at(
        site, {"c1": old, "c2": old}, "m", preflight__names=bound, preflight__common_name=record, preflight__kept={}
    )
    checks = {item.name: item for item in revoke.stages(given)[0].steps}
    told = [*checks["names"].judge(place, bound), *checks["common_name"].judge(place, record)]  # type: ignore[union-attr]
    return [(one.name, one.fix) for one in told]


def test_the_old_name_goes_where_the_site_file_has_a_new_one(site: Site) -> None:
    """Whether it is named or not."""
    assert revoking(named(site, "new")) == revoking(named(site, "new"), "old") == []


@pytest.mark.parametrize("given", ["", "old"])
def test_a_name_that_the_site_file_still_has_is_not_revoked(tmp_path: Path, given: str) -> None:
    """The very line of the site file is told, and a name that was never used."""
    site = load(write(tmp_path, f"{TEXT}access:\n  days: 400\n  common_name: old\n"))
    ((name, fix),) = revoking(site, given)
    assert name == "name-in-use"
    assert re.search(r"change line 5 of hosts.yaml to `common_name: old-\d{8}`", fix)


@pytest.mark.parametrize(
    ("section", "fix"),
    [
        ("", r"add `access: {common_name: slurm-dws-\d{8}}` to hosts.yaml"),
        ("access:\n  days: 400\n", r"add `common_name: slurm-dws-\d{8}` to `access` \(line 4 of hosts.yaml\)"),
    ],
)
def test_a_name_that_the_site_file_does_not_mention(tmp_path: Path, section: str, fix: str) -> None:
    """Where the name is the default it is told what to add, and where."""
    site = load(write(tmp_path, TEXT + section))
    assert [name for name, said in revoking(site, "slurm-dws") if re.search(fix, said)] == ["name-in-use"]


def test_a_name_that_no_kubeconfig_has_is_not_revoked(site: Site) -> None:
    """A name with a typing error is refused, with those that are known."""
    ((name, fix),) = revoking(named(site, "new"), "odl")
    assert (name, fix) == ("name-unknown", "give one of these names: old")


def test_a_revoked_name_never_comes_back(site: Site) -> None:
    """Neither by a revocation of another one nor, by the same check, by an install."""
    assert [name for name, _ in revoking(named(site, "new"), record={"new": "2030-01-01 revoked"})] == ["name-revoked"]


def test_an_interrupted_revocation_continues(site: Site) -> None:
    """What is recorded as being revoked has to go, though no binding and no kubeconfig has it any more."""
    new = found(authority().sign("new", 100))
    record = {"old": "2030-01-01 being revoked", "older": "2029-01-01 revoked"}
    bound = {"role": "workload-manager", "subjects": ["User new"]}
    kept = {"run-1": found(authority().sign("old", 100))}
    more: dict[str, Any] = {"preflight__names": bound, "preflight__common_name": record}
    place = at(named(site, "new"), {"c1": new, "c2": new}, "m", **more, preflight__kept=kept)
    assert revoke.names_to_revoke(place, "") == ("old",)


def test_another_slurms_names_are_revoked_by_name_alone(site: Site) -> None:
    """Neither what is bound nor what is being revoked is this site's unless a kubeconfig of its controllers has, or had, it."""
    new, old = (found(authority().sign(name, 100)) for name in ("new", "old"))
    bound = {"role": "workload-manager", "subjects": ["User b", "User new", "User old"]}
    more: dict[str, Any] = {
        "preflight__names": bound,
        "preflight__common_name": {"b-old": "2030-01-01 being revoked"},
        "preflight__kept": {},
    }
    place = at(named(site, "new"), {"c1": old, "c2": new}, "m", **more, access__binding=bound)
    place.facts.found["access.old-subjects"] = {"m": bound}
    assert revoke.names_to_revoke(place, "") == ("old",)
    assert revoke.names_to_revoke(place, "b") == ("b",)
    wanted = {}
    for name in ("", "b"):
        steps = {one.name: one for one in revoke.stages(name)[1].steps if isinstance(one, Step)}
        wanted[name] = steps["old-subjects"].want(place)
        (told,) = steps["old-subjects"].removals(place, ["User b", "User old"], wanted[name])
        assert ("User b " in told.words) == (name == "b")
    assert wanted == {"": ["User b"], "b": []}


@pytest.mark.parametrize("bound", [None, {"role": "dws-workload-manager", "subjects": ["User old"]}])
def test_nothing_is_revoked_where_a_binding_must_be_recreated(site: Site, bound: Any) -> None:
    """Without the binding, or with another role in it, there would be a gap: an install comes first."""
    assert ("not-installed", "run `invoke install` first") in revoking(named(site, "new"), "old", bound=bound)


def test_all_controllers_or_none(site: Site) -> None:
    """A controller that is left out would keep a kubeconfig that is refused."""
    told = revoking(replace(named(site, "new"), limit=frozenset({"m", "c1"})), "old")
    assert [name for name, _ in told] == ["controllers-left-out"]
    told = revoking(replace(named(site, "new"), limit=frozenset({"c1", "c2"})), "old")
    assert [name for name, _ in told] == ["master-left-out"]


@pytest.mark.parametrize(
    ("own", "taken", "fresh"),
    [
        ("slurm-dws", set(), r"slurm-dws-\d{8}"),
        ("slurm-dws-20250101", set(), r"slurm-dws-\d{8}"),
        ("slurm-dws-20250101-4", set(), r"slurm-dws-\d{8}"),
        ("x" * 64, set(), r"x{50}-\d{8}"),
    ],
)
def test_a_fresh_name_says_since_when_it_holds(own: str, taken: set[str], fresh: str) -> None:
    """It is the old one with today's date, within 64 characters."""
    assert re.fullmatch(fresh, made := revoke.fresh(own, taken)) and len(made) <= 64


def test_a_fresh_name_was_never_used() -> None:
    """Two on one day are told apart."""
    first = revoke.fresh("a", set())
    second = revoke.fresh(first, {"a"})
    third = revoke.fresh(second, {"a", first})
    assert (second, third) == (f"{first}-2", f"{first}-3")


def test_only_kubeconfigs_that_could_still_work_have_to_be_refused(site: Site) -> None:
    """Of those that were kept: not those of another name, not those that are over, not those of another CA."""
    pems = {
        "works": authority().sign("old", 100),
        "over": authority().sign("old", -1, 20),
        "another CA's": authority("kubernetes", 100).sign("old", 90),
        "another name's": authority().sign("new", 100),
    }
    kept = {run: {**found(pem), "may": "yes", "said": "bb1"} for run, pem in pems.items()}
    place = at(site, {}, "c1", revoked__refused={})
    place.facts.found["revoked.refused"] = {"c1": kept}
    step = revocation_proof.refused(lambda place: ("old",))
    assert step.read and step.read(place, kept) == {"works": "still works: bb1"}
    assert step.want(place) == {"works": "refused"}
    kept["works"]["may"] = "no"
    assert step.read(place, kept) == step.want(place)


@pytest.mark.parametrize(
    ("text", "state", "until"),
    [
        ("2028-04-06 being revoked", revoked_names.BEING, "2028-04-06"),
        ("2028-04-06 revoked", revoked_names.DONE, "2028-04-06"),
        ("", "", ""),
    ],
)
def test_revoked_names_are_recorded(text: str, state: str, until: str) -> None:
    """The day on which its certificates end, and how far it has come."""
    assert (revoked_names.state(text), revoked_names.until(text)) == (state, until)


def test_only_confirmed_names_are_recorded(site: Site) -> None:
    """What is recorded never comes back. A name that got rights after somebody was asked is refused before it is recorded."""
    steps = {one.name: one for one in revoke.stages()[1].steps if isinstance(one, Step)}
    recorded, former = steps["recorded"], steps["old-subjects"]
    new = found(authority().sign("new", 100))
    told = []
    for subjects in (["User old"], ["User old", "User somebody"]):
        bound = {"role": "workload-manager", "subjects": subjects}
        more = {"preflight__names": bound, "preflight__common_name": {}, "access__binding": bound}
        kept = {name: found(authority().sign(name, 100)) for name in ("old", "somebody")}
        place = at(named(site, "new"), {"c1": new, "c2": new}, "m", **more, preflight__kept=kept)
        assert recorded.read is not None
        told.append(recorded.removals(place, recorded.read(place, {}), recorded.want(place)))
        # the same words as those of the binding: one question
        assert [one.words for one in former.removals(place, subjects, [])] == [one.words for one in told[-1]]
    (asked,), (now,) = told
    assert not now.confirmed <= asked.confirmed and "somebody" in now.words and "somebody" not in asked.words
