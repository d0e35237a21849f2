"""`invoke doctor` on a real site: many problems are provoked at once and looked at once; each is told by its name."""

import base64
import json
import signal
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dws_on_csm.model.secret import REDACTED
from lab import registry
from lab.model import Lab
from tests.lab import command, scene, secret
from tests.lab.conftest import On
from tests.lab.problems import FIRST, KUBECONFIG, NOWHERE, PLANTED, SECOND, THIRD, WORKFLOW, expected, provoked
from tests.lab.scene import BACKUP, MASTER, PRIMARY
from tests.unit.authority import Authority, authority, pem, private

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

LOG = "/var/log/slurm/slurmctld.log"


@dataclass(frozen=True)
class Seen:
    """What `invoke doctor --json` said: host and name of each finding, and the step and reason of what it could not see."""

    findings: set[tuple[str, str]]
    unseen: set[tuple[str, str]]

    @property
    def provoked(self) -> set[tuple[str, str]]:
        """Without the Workflow that has no job: whether its minute is over is not asked before SECOND."""
        return self.findings - {(MASTER, "orphan")}


def examined(site: Path, *options: str) -> Seen:
    """Every finding has a text and a fix; the exit code says whether there are any."""
    said = command.invoke("doctor", f"--hosts={site}", "--json", *options, deadline=250)
    found = said.records("finding")
    assert said.code == (1 if found else 0), said.err
    assert all(one["fix"] and one["text"] for one in found)
    unseen = {(one["host"], one["step"]) for one in said.records("unseen")}
    return Seen({(one["host"], one["name"]) for one in found}, unseen)


@dataclass(frozen=True)
class Scene:
    """FIRST as it was seen: what the doctor said, and what the support archive holds that it wrote at the same time."""

    seen: Seen
    archive: Mapping[str, bytes]
    mode: int
    needles: secret.Needles


@pytest.fixture(scope="module")
def first(lab: Lab, on: On, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """FIRST on a site that was installed with certificates for 45 days, with one node more than there is."""
    folder = tmp_path_factory.mktemp("doctor")
    site, archive = scene.variant(lab, folder, {"access": {"days": 45, "renew_below": 30}}), folder / "support.tar.gz"
    scene.everywhere(lab, f"rm -f {KUBECONFIG}", PRIMARY, BACKUP)
    scene.installed(lab, site)
    on(MASTER, WORKFLOW)
    on(PRIMARY, "\n".join(f"sed -i 's|{key}: .*|{key}: {data}|' {KUBECONFIG}" for key, data in ended(on).items()))
    on(PRIMARY, f'echo "[$(date +%Y-%m-%dT%H:%M:%S.000)] error: lua: password={PLANTED}" >>{LOG}')
    site.write_text(site.read_text().replace("nid[000001-000002]", f"nid[000001-000002],{NOWHERE}"))
    needles = {**secret.of(lab), "what was planted": (PLANTED.encode(),)}
    with provoked(on, FIRST):
        seen = examined(site, "--archive", str(archive))
    return Scene(seen, members(archive), archive.stat().st_mode & 0o777, needles)


def ended(on: On) -> dict[str, str]:
    """Keys of a kubeconfig that kubectl can use: a certificate of the cluster that ended yesterday, and trust in another CA."""
    signer = (on(MASTER, f"cat /etc/kubernetes/pki/ca.{kind}").encode() for kind in ("key", "crt"))
    key = private()
    made = {
        "client-certificate-data": Authority(*signer).sign("slurm-dws", days=-1, ago=46, key=key),
        "client-key-data": pem(key),
        "certificate-authority-data": authority("another").certificate,
    }
    return {name: base64.b64encode(data).decode() for name, data in made.items()}


def members(archive: Path) -> dict[str, bytes]:
    """The archive's files by their paths in it."""
    with tarfile.open(archive) as tar:
        return {one.name.partition("/")[2]: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def test_each_problem_is_reported_by_name(first: Scene) -> None:
    """Exactly what was provoked is found, each at its host, whatever else is wrong; what can't be seen is said to be so."""
    assert first.seen.provoked == expected(FIRST)
    assert {(MASTER, "images.pushed")} == first.seen.unseen


def test_the_archive_has_what_helps(first: Scene) -> None:
    """Site file, findings, looks, slurmctld's log, pods, objects and journals, of a site on which much is wrong."""
    archive = first.archive
    assert archive["site.yaml"].decode().count(NOWHERE) == 1
    found = [json.loads(line) for line in archive["doctor.jsonl"].splitlines()]
    assert {(one["host"], one["name"]) for one in found if one["event"] == "finding"} == first.seen.findings
    assert json.loads(archive[f"looks/{BACKUP}.json"])["found"]["slurm.daemon"]["changed"]
    assert b"slurm_bb_job_process" in archive["logs.txt"] and b"manager@" in archive["logs.txt"]
    assert b"_slurm_rpc_submit_batch_job" in archive[f"hosts/{PRIMARY}.txt"]  # what isn't about the plugin, too
    assert b"dws-controller-manager" in archive["cluster/pods.json"] and b"-dirty" in archive["cluster/events.json"]
    assert any(name.startswith("runs/") for name in archive)


def test_the_archive_has_no_secret(first: Scene) -> None:
    """No key, password or token, wherever somebody left one; it is its owner's alone."""
    assert first.mode == 0o600
    assert secret.within(first.needles, first.archive) == []
    assert f"password={REDACTED}".encode() in first.archive["logs.txt"]


def test_an_install_puts_right_what_it_can_and_the_rest_has_names_too(lab: Lab, on: On, first: Scene) -> None:
    """After FIRST an install leaves nothing; SECOND is told, an orphan once its job had a minute to appear; THIRD; then nothing."""
    site = scene.site_file(lab)
    scene.installed(lab)
    with provoked(on, SECOND):
        await_orphan(site)
        assert examined(site).findings == expected(SECOND)
        workflows_are_listed(site)
        who_is_stopped_says_nothing(on, site)
    scene.installed(lab)
    with provoked(on, THIRD):
        assert examined(site).findings == expected(THIRD)
    assert examined(site) == Seen(set(), set())


def await_orphan(site: Path) -> None:
    """Until the Workflow without a job is listed; without accounting nothing shows whose job it was."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        listed = command.invoke("workflows", f"--hosts={site}", "--json").records("workflow")
        if [(one["name"], one["fate"], one["slurm"]) for one in listed] == [("bb90001", "foreign", None)]:
            return
        time.sleep(1)  # between two questions
    pytest.fail(f"not listed: {listed}")


def workflows_are_listed(site: Path) -> None:
    """A Workflow of an unknown job is marked, and another CRD of this name is named; one can be had as YAML by its job's number."""
    listed = command.invoke("workflows", f"--hosts={site}")
    assert listed.code == 0
    assert all(word in listed.out for word in ("default/bb90001", "may be of another Slurm", "workflows.argoproj.io"))
    shown = command.invoke("workflows", f"--hosts={site}", "--yaml", "90001")
    assert "apiVersion: dataworkflowservices.github.io/" in shown.out and "name: bb90001" in shown.out


def who_is_stopped_says_nothing(on: On, site: Path) -> None:
    """Ctrl-C while a slow kubectl is awaited: no diagnosis of what was cut off, no success."""
    words = [str(command.BIN / "invoke"), "doctor", f"--hosts={site}"]
    with subprocess.Popen(
        words, cwd=registry.CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        on(PRIMARY, "until pgrep -f '[/]usr/local/bin/kubectl .*get --raw' >/dev/null; do sleep 0.1; done")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (1, "", "Stopped; nothing was changed.\n")


def test_an_existing_archive_stays(lab: Lab, tmp_path: Path) -> None:
    """Nothing is looked at for a file that could not be written."""
    archive = tmp_path / "support.tar.gz"
    archive.write_bytes(b"another one")
    said = command.invoke("doctor", f"--hosts={scene.site_file(lab)}", "--archive", str(archive))
    assert (said.code, "already exists" in said.err) == (2, True)
    assert archive.read_bytes() == b"another one"
