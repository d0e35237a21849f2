"""Certificates shown, made anew while the plugin works, and a common name that is left without any rights."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.domain import certificates
from lab.model import Lab
from tests.lab import product, scene, secret, tree
from tests.lab.conftest import On
from tests.lab.plugin_calls import GET, KUBECONFIG, KUBECTL, plugin_calls
from tests.lab.product import Answer, Record, Running
from tests.lab.scene import BACKUP, MASTER, PRIMARY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

CONTROLLERS = (PRIMARY, BACKUP)
NEW_ONES = {f"access.kubeconfig@{host}" for host in CONTROLLERS}
ENOUGH = 20
"""Calls of the plugin during one change, on however busy a machine; on an idle one there are a hundred and more."""

Variant = Callable[..., Path]


OTHERS = r"(?:[\w-]+, )*"
"""Names that the tests of another file have revoked on this lab, which keeps them for good."""


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Path]:
    """The site file of a site with everything as it should be; its name is never revoked here, so that others find it so."""
    scene.installed(lab)
    yield scene.site_file(lab)
    scene.installed(lab)


@pytest.fixture
def variant(lab: Lab, site: Path, tmp_path: Path) -> Variant:
    """variant(common_name=..., days=...): the same site with other keys of `access`."""
    return lambda **access: scene.variant(lab, tmp_path, {"access": access})


def certificate(on: On, host: str) -> certificates.Certificate:
    """What is in the kubeconfig there."""
    return certificates.read(on(host, f"sed -n 's/.*client-certificate-data: *//p' {KUBECONFIG} | base64 -d").encode())


def rotate(site: Path, *options: str) -> Answer:
    return product.invoke("certs.rotate", f"--hosts={site}", "--json", *options, deadline=200)


def revoke(site: Path, *options: str) -> Answer:
    return product.invoke("certs.revoke", f"--hosts={site}", "--json", *options, deadline=200)


def bound(on: On) -> list[str]:
    """The names that have the plugin's rights."""
    return on(MASTER, "kubectl get clusterrolebinding slurm-dws-viewer -o jsonpath='{.subjects[*].name}'").split()


# --- shown


def test_each_controllers_certificate_is_shown(site: Path, on: On) -> None:
    """With what is in it, who signed it, and whether SlurmUser can use it; exit code 0 when all is well."""
    answer = product.invoke("certs", f"--hosts={site}", "--json", deadline=60)
    assert answer.code == 0, answer.out
    shown = {one["host"]: one for one in records(answer) if one["event"] == "certificate"}
    assert set(shown) == set(CONTROLLERS)
    for host, one in shown.items():
        true = certificate(on, host)
        assert (one["serial"], one["days_left"], one["signed"]) == (true.serial, true.days_left, True)
        assert (one["subject"], one["issuer"], one["problems"]) == ("CN=slurm-dws", "CN=kubernetes", [])
        assert (one["file"], one["slurm_user"]) == ("600 slurm", "slurm")
    table = product.invoke("certs", f"--hosts={site}", deadline=60).out
    assert table.splitlines()[0].split() == list(CONTROLLERS) and "2 certificates" in table


def records(answer: Answer) -> list[Record]:
    return [json.loads(line) for line in answer.out.splitlines()]


def test_problems_of_certificates_are_shown(site: Path, on: On) -> None:
    """A kubeconfig that SlurmUser can't read ends it with exit code 1, and the command that helps."""
    on(PRIMARY, f"chown root {KUBECONFIG}")
    answer = product.invoke("certs", f"--hosts={site}", deadline=60)
    assert answer.code == 1
    assert re.search(rf"✗ {PRIMARY}: slurm is refused: .*invoke install", answer.out)
    assert product.install(site).having("changed") >= {f"access.kubeconfig@{PRIMARY}"}


# --- new ones


def test_a_rotation_makes_new_keys_and_the_plugin_notices_nothing(lab: Lab, site: Path, on: On) -> None:
    """Each controller has a key of its own that nobody had before; one is through before the other begins; no call fails."""
    began, before = time.time(), {host: certificate(on, host).serial for host in CONTROLLERS}
    with plugin_calls(lab) as calls:
        answer = rotate(site)
    assert answer.code == 0, answer.told
    assert calls.failed == [] and calls.made >= ENOUGH
    after = {host: certificate(on, host).serial for host in CONTROLLERS}
    assert len({*before.values(), *after.values()}) == 4
    assert answer.having("changed") == NEW_ONES | {f"verify.job@{PRIMARY}"}
    turns = [(one["event"], one["host"]) for one in journal(answer) if one.get("step") == "kubeconfig"]
    assert turns.index(("done", PRIMARY)) < turns.index(("began", BACKUP))
    for host in CONTROLLERS:
        assert (
            on(host, f"stat -c '%a %U:%G' {KUBECONFIG}; ls -A /etc/slurm | grep -c dws-on-csm || true")
            == "600 slurm:slurm\n0\n"
        )
    needles = secret.of(lab)
    assert secret.within(needles, secret.said(lab, answer, began)) == []
    kept, elsewhere = secret.files(lab, needles, began)
    assert elsewhere == [] and {f"{host}:{KUBECONFIG}" for host in CONTROLLERS} <= set(kept)


def journal(answer: Answer) -> list[Record]:
    assert answer.folder
    return [json.loads(line) for line in (answer.folder / "journal.jsonl").read_text().splitlines()]


def test_the_cluster_can_sign_in_place_of_the_masters_key(lab: Lab, site: Path, on: On) -> None:
    """By request a certificate holds as long as the controller manager lets it, which is told; nothing of it stays."""
    with plugin_calls(lab) as calls:
        answer = rotate(site, "--via=csr")
    assert answer.code == 0, answer.told
    assert calls.failed == [] and calls.made >= ENOUGH
    notes = [step["note"] for step in answer.steps if step["step"] == "kubeconfig"]
    assert len(notes) == 2 and all("364 days; access.days asks for 500" in note for note in notes)
    assert [certificate(on, host).days_left for host in CONTROLLERS] == [364, 364]
    assert on(MASTER, "kubectl get certificatesigningrequests -o name") == ""


def test_a_new_certificate_that_does_not_do_never_takes_the_old_ones_place(lab: Lab, variant: Variant, on: On) -> None:
    """It is tried first: where the API server can't be reached with it, the old file stays, and only one host was tried."""
    site = variant(server=f"https://{lab.host(MASTER).address}:6444")
    before = {host: on(host, f"stat -c '%i %z' {KUBECONFIG}; sha256sum {KUBECONFIG}") for host in CONTROLLERS}
    with plugin_calls(lab) as calls:
        answer = rotate(site)
    assert answer.code == 1 and calls.failed == []
    assert answer.having("failed") == {f"access.kubeconfig@{PRIMARY}"}
    assert answer.having("skipped") >= {f"access.kubeconfig@{BACKUP}"}
    assert "the old one stays" in answer.err
    assert {host: on(host, f"stat -c '%i %z' {KUBECONFIG}; sha256sum {KUBECONFIG}") for host in CONTROLLERS} == before


def test_every_run_warns_of_an_end_that_comes_near(variant: Variant) -> None:
    """Below 60 days each run's report says so with the command that helps; below renew_below `certs` ends with 1."""
    site = variant(days=45)
    assert rotate(site, f"--limit={BACKUP}").code == 0
    answer = product.install(site)
    (note,) = (step["note"] for step in answer.steps if product.named(step) == f"access.kubeconfig@{BACKUP}")
    words = rf"44 days left until \d{{4}}-\d\d-\d\d: `invoke certs.rotate --hosts {re.escape(str(site))}`"
    assert answer.code == 0 and re.fullmatch(words, note)
    assert note in answer.err
    shown = [product.invoke("certs", f"--hosts={variant(renew_below=below)}", deadline=60) for below in (30, 44)]
    assert [one.code for one in shown] == [0, 1]
    assert rotate(variant(), f"--limit={BACKUP}").code == 0


def test_plans_change_nothing(lab: Lab, site: Path, variant: Variant) -> None:
    """A rotation's plan and a revocation's say what would be, with exit code 4, and write nothing anywhere."""
    named = variant(common_name="slurm-dws-planned")
    objects = tree.settled(lab, MASTER, *CONTROLLERS)
    before = tree.files(lab, MASTER, *CONTROLLERS), objects
    plans = [rotate(site, "--plan"), rotate(site, "--plan", "--via=csr"), revoke(named, "--plan")]
    after = tree.files(lab, MASTER, *CONTROLLERS), tree.objects(lab)
    assert [*tree.differences(before[0], after[0]), *tree.differences(before[1], after[1])] == []
    assert [plan.code for plan in plans] == [4, 4, 4]
    assert [plan.having("would change") & NEW_ONES for plan in plans] == [NEW_ONES] * 3
    told = "\n".join(line for step in plans[2].steps for line in step.get("diff", ()))
    assert "- slurm-dws: may get, list, create, patch, delete Workflows" in told


# --- a new name


def test_a_new_name_leaves_no_gap(lab: Lab, variant: Variant, on: On) -> None:
    """An install with another common name gives it to the binding beside the old one until every controller has it."""
    with plugin_calls(lab) as calls:
        answer = product.install(variant(common_name="first"))
    assert answer.code == 0, answer.told
    assert calls.failed == [] and calls.made >= ENOUGH
    assert bound(on) == ["first"]
    assert {certificate(on, host).common_name for host in CONTROLLERS} == {"first"}


def test_a_name_is_not_revoked_before_there_is_another(variant: Variant, on: On) -> None:
    """While the site file still has the name it is refused, with the line to change; and nobody agreed is refused too."""
    answer = revoke(variant(common_name="first"))
    assert answer.code == 3 and answer.findings() == {"name-in-use"}
    (failure,) = answer.failures()
    assert re.search(r"change line \d+ of hosts.yaml to `common_name: first-\d{8}`", failure["fix"])
    assert revoke(variant(common_name="second")).code == 3
    assert bound(on) == ["first"]


def test_who_has_the_old_kubeconfig_is_refused(lab: Lab, variant: Variant, on: On) -> None:
    """The plugin works all the time, the new name has the rights and the old one none; it can never be used again."""
    stolen = "/dev/shm/stolen"
    on(PRIMARY, f"install -o slurm -m 600 {KUBECONFIG} {stolen}; {KUBECTL} {stolen} {GET}")
    with plugin_calls(lab) as calls:
        answer = revoke(variant(common_name="second"), "--yes")
    assert answer.code == 0, answer.told
    assert calls.failed == [] and calls.made >= ENOUGH
    with pytest.raises(RuntimeError, match=r'Forbidden.*User "first" cannot list'):
        on(PRIMARY, f"{KUBECTL} {stolen} {GET}")
    on(PRIMARY, f"rm {stolen}")
    assert bound(on) == ["second"]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d revoked",
        on(MASTER, "kubectl -n kube-system get configmap dws-on-csm-revoked -o jsonpath='{.data.first}'"),
    )
    assert {f"revoked.refused@{host}" for host in CONTROLLERS} <= {product.named(step) for step in answer.steps}


def test_a_name_that_was_revoked_never_comes_back(variant: Variant, on: On) -> None:
    """An install with an older site file is refused before it touches anything."""
    answer = product.install(variant(common_name="first"))
    assert (answer.code, answer.findings()) == (3, {"name-revoked"})
    assert bound(on) == ["second"]


def test_a_revoked_name_stays_revoked(variant: Variant) -> None:
    """Asked for by name again it is proven again and changes nothing; without a name there is nothing left to revoke."""
    again = revoke(variant(common_name="second"), "first")
    assert again.code == 0 and again.having("changed") == set(), again.told
    assert {"revoked.rights", "revoked.refused"} <= {named.partition("@")[0] for named in again.having("ok")}
    without = revoke(variant(common_name="second"))
    assert without.code == 3 and re.search(rf"already revoked: {OTHERS}first\b", without.err)


def test_a_rollback_brings_no_revoked_name_back(variant: Variant, on: On) -> None:
    """Back to before the revocation the old kubeconfig stays away; where none is left a new one is made, and it says so."""
    on(BACKUP, f"rm {KUBECONFIG}")
    back = product.invoke("rollback", f"--hosts={variant(common_name='second')}", "--json", "--yes", deadline=200)
    assert back.code == 0, back.told
    assert back.having("changed") == {f"access.kubeconfig@{BACKUP}"}
    for host in CONTROLLERS:
        assert f"The former kubeconfig on {host} is not restored: first was revoked" in back.summary["message"]
    assert {certificate(on, host).common_name for host in CONTROLLERS} == {"second"}
    assert bound(on) == ["second"]
    assert re.search(rf"Revoked names stay revoked: {OTHERS}first\b", back.summary["message"])


MOMENTS = (("done", PRIMARY, "kubeconfig"), ("began", MASTER, "old-subjects"), ("done", MASTER, "old-subjects"))
"""When the revocation is killed: event, host, step; each run goes on from where the one before was cut off."""


@pytest.mark.matrix
def test_a_killed_revocation_continues(lab: Lab, variant: Variant, on: On) -> None:
    """Killed again and again, it comes to its end, and in between the plugin is never refused."""
    site = variant(common_name="third")
    with plugin_calls(lab) as calls:
        for event, host, step in MOMENTS:
            killed(site, event, host, step)
        answer = revoke(site, "--yes")
    assert answer.code == 0, answer.told
    assert calls.failed == [] and calls.made >= ENOUGH
    assert bound(on) == ["third"]
    assert "rights: ok" in answer.err or f"revoked.rights@{MASTER}" in answer.having("ok")


def killed(site: Path, event: str, host: str, step: str) -> None:
    """A revocation that ends at that moment."""

    def reached(record: dict[str, Any]) -> bool:
        return (record["event"], record.get("host"), record.get("step")) == (event, host, step)

    with Running("certs.revoke", f"--hosts={site}", "--json", "--yes") as running:
        assert running.until(reached), (event, host, step)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
