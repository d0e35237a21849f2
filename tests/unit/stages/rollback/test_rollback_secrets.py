"""A rollback's output about files: no secret, and one name for a file wherever links lead. Real sh, real links."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from dws_on_csm.commands.history import rollback, rollback_target
from dws_on_csm.commands.history.host_record import parse_host_record
from dws_on_csm.config.load import load
from dws_on_csm.config.site import Site
from dws_on_csm.domain import certificates, names
from dws_on_csm.engine.host_script import compile_actions
from dws_on_csm.model import render
from dws_on_csm.model.actions import Put, Remove, RunScript
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.snapshot import FileSnapshot, RollbackTarget
from dws_on_csm.model.step import Check, Constant, Facts, ShellLook, Step, StepContext
from dws_on_csm.stages.access.kubeconfig import certificate as pem_of
from dws_on_csm.stages.access.revocation_proof import parse_kept
from dws_on_csm.stages.rollback import files, unchanged
from dws_on_csm.stages.slurm import computes, plugin
from tests.unit import steps
from tests.unit.conftest import LocalHost
from tests.unit.site_files import MINIMAL, write
from tests.unit.stages.rollback.test_rollback import OURS, certificate

pytestmark = pytest.mark.slow

SHELLS = pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix")], ids=["dash", "bash"])

_KIND = "EC PRIVATE KEY"
PEM = f"-----BEGIN {_KIND}-----\nMHcCAQEEIBkg\n-----END {_KIND}-----\n"
PUBLIC = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def encoded(text: str, *, width: int = 0) -> str:
    """Base64, in one line or in lines of this width."""
    made = base64.b64encode(text.encode()).decode()
    return "\n".join(made[at : at + width] for at in range(0, len(made), width)) if width else made


SECRET = {
    "a key": PEM,
    "an old key": PEM.replace("EC ", "RSA "),
    "an encrypted key": PEM.replace("EC ", "ENCRYPTED "),
    "a key of OpenSSH": PEM.replace("EC ", "OPENSSH "),
    "a key behind a certificate": PUBLIC + PEM,
    "a key in base64": f"data: {encoded(PEM)}",
    "a key in base64, in lines": encoded(PUBLIC + PEM, width=20),
    "a key in base64, one byte on": encoded("x" + PEM),
    "a key in base64, two bytes on": encoded("xy" + PEM),
    "a key in JSON": json.dumps({"tls.key": PEM}),
    "a kubeconfig": "users:\n- user:\n    client-certificate-data: QQ==\n    client-key-data: QUJD\n",
    "a kubeconfig in JSON": '{"user": {"client-key-data": "QUJD"}}',
    "a Secret": "kind: Secret\ndata: {a: QUJD}\n",
    "a Secret in JSON": '{"kind":"Secret","data":{"a":"QUJD"}}',
    "a token": "    token: eyJhbGciOi\n",
    "a bearer": "curl -H 'Authorization: Bearer abcdefghijk'",
    "a password": "password=hunter2",
    "a quoted password": 'password = "hunter2"',
    "a password of Slurm": "StoragePass=hunter2",
    "a password in lines": "password: |\n  hunter2\n",
    "an environment": "DB_PASSWORD=hunter2\n",
    "an API key": "api_key: hunter2",
    "a URL": "https://me:hunter2@registry.local/v2",
    "a JWT": "x eyJhbGciOiJSUzI1NiIs.eyJpc3MiOiJr.c2ln",
    "a short name": "NEXUS_PW=hunter2",
    "an argument": "skopeo copy --password hunter2 a b",
    "a login": "podman login -u admin -p hunter2 registry.local",
    "sshpass": "sshpass -p'hunter2' ssh host",
    "a variable's name beside its value": "- name: DB_PASSWORD\n  value: hunter2\n",
    "the same in JSON": '{"name":"DB_PASSWORD","value":"hunter2"}',
    "XML": '<password type="plain">hunter2</password>',
    "percent": "next=password%3Dhunter2",
    "netrc": "machine h\n  login u\n  password hunter2\n",
    "netrc in a line": "machine h login u password hunter2",
    "podman's auth.json": '{"auths": {"h": {"auth": "YWRtaW46aHVudGVyMg=="}}}',
    "a hash": "root:$6$salt$abcdefghijkl:18000::",
    "a token of a service": "ghp_abcdefghijklmnopqrst",
    "a share": "mount -t cifs //joe:hunter2@host/share",
    "bytes before it": "\x00\x01\n" + PEM,
}

PUBLIC_TEXTS = {
    "nothing": "",
    "a certificate": PUBLIC,
    "a certificate in base64": f"certificate-authority-data: {encoded(PUBLIC)}",
    "slurm.conf": "ClusterName=x\nAuthType=auth/munge\nSlurmUser=slurm\nSlurmctldParameters=enable_configless\nBypass=1\n",
    "munge's socket": "AccountingStoragePass=/var/run/munge/munge.socket.2\n",
    "the plugin": 'local TOKEN = "/var/run/secrets/token"\nreturn \' --token="\' .. content\nKUBECONFIG="/etc/x"\n',
    "a reference": "password: ${PASSWORD}\nsecretName: \n",
    "another kind": "kind: SecretProviderClass\n",
    "a URL": "https://registry.local/v2 mail me@example.com",
    "a comment of Lua": "-- token is read from the file, returned as a --token argument\n--token .. x\n",
    "names": "name: webhook-server-cert\nsecretName: x\nname: password-policy\n",
    "a port": "ssh login -p 22\nmkdir -p /etc/slurm\n",
    "variables": "$1$2 $6 $5$x",
}


def judged(texts: Sequence[str], shell: Sequence[str], tmp_path: Path) -> list[bool]:
    """Whether holds_secret finds one in each of these."""
    for number, text in enumerate(texts):
        (tmp_path / f"text{number}").write_bytes(text.encode())
    loop = (
        'for n in $(seq 0 "$last"); do if holds_secret "$(base64 -w 0 "text$n")"; then echo yes; else echo no; fi; done'
    )
    script = render.script("lib/holds_secret.sh", last=str(len(texts) - 1)) + loop
    done = subprocess.run([*shell, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True)
    assert done.stderr == ""
    return [word == "yes" for word in done.stdout.split()]


@SHELLS
def test_a_secret_is_known_by_what_it_is(shell: Sequence[str], tmp_path: Path) -> None:
    """Keys, tokens and passwords are recognised in all forms in which files have them; text about them is no secret."""
    for texts, expected in ((SECRET, True), (PUBLIC_TEXTS, False)):
        found = dict(zip(texts, judged(list(texts.values()), shell, tmp_path), strict=True))
        assert found == dict.fromkeys(texts, expected)


def test_the_judgement_is_linear(tmp_path: Path) -> None:
    """Ten times the text takes ten times as long, not a hundred times: a file of one long line is no obstacle."""

    def took(size: int) -> float:
        began = time.monotonic()
        assert (
            judged([word * size for word in ("a", "token", "://a", "eyJ", "password ")], ("dash",), tmp_path)
            == [False] * 5
        )
        return time.monotonic() - began

    took(100)
    small, large = min(took(20_000) for _ in range(3)), took(400_000)
    assert large < 20 * small * 4 + 10


# --- a host with links


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a master and a controller."""
    return load(write(tmp_path, MINIMAL))


class Linked:
    """A controller whose /etc/slurm is a link to a folder, or whose kubeconfig is a link to a file, as root made it."""

    def __init__(self, host: LocalHost, site: Site, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.etc, self.real = host, host.folder / "etc/slurm", host.folder / "opt/real"
        self.real.mkdir(parents=True)
        self.etc.parent.mkdir()
        name = "slurm-dws.kubeconfig"
        if link == "folder":
            self.etc.symlink_to(self.real)
        else:
            self.etc.mkdir()
            (self.etc / name).symlink_to(self.real / name)
        self.kubeconfig = self.etc / name
        self.site = replace(site, slurm=replace(site.slurm, folder=str(self.etc)))
        monkeypatch.setattr(names, "KUBECONFIG", str(self.kubeconfig))
        self.state = str(host.folder.parent / "state")
        for module in ("stages.rollback.files", "stages.rollback.unchanged"):
            monkeypatch.setattr(f"dws_on_csm.{module}.STATE", self.state)
        (self.etc / "slurm.conf").write_text("ClusterName=x\nBurstBufferType=burst_buffer/lua\n")

    def sh(self, script: str, data: bytes = b"") -> str:
        answer = self.host.run(script, data, deadline=60)
        assert answer.code == 0, answer.err.decode()
        return answer.out.decode()

    def do(self, run: str, *actions: Put | Remove) -> None:
        """A run's actions."""
        self.sh(*compile_actions(actions, run, "==mark", "access.kubeconfig"))

    def lines(self) -> list[str]:
        """The output of host_record.sh."""
        return self.sh(self.script()).splitlines()

    def script(self, conf: str | None = None) -> str:
        """The script that prints it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dws_on_csm.commands.history.rollback.STATE", self.state)
            return rollback.record_script(self.site, "r1", self.site.slurm.conf if conf is None else conf)

    def goal(self, revoked: Sequence[str] = ()) -> tuple[RollbackTarget, list[str], bool]:
        """The target of a rollback of r1."""
        known = rollback_target.AccessNow(certificate("ca", 9, OURS), None, frozenset(revoked))
        files, said, anew = rollback_target.file_targets(self.site, "c", parse_host_record(self.lines()), True, known)
        return RollbackTarget("r1", "leave", {"c": files}, (), {"c": True}, roles={"controller": ("c",)}), said, anew

    def look(self, item: Step | Check) -> object:
        """What a step or check finds."""
        look = item.look(StepContext(self.site, Facts({}), "c"))
        if isinstance(look, Constant):
            return look.value
        assert isinstance(look, ShellLook)
        out = self.sh(look.script)
        assert "QUJDREVG" not in out and "PRIVATE" not in out
        return look.parse(out.encode())


@pytest.fixture(params=["file", "folder"])
def linked(
    request: pytest.FixtureRequest, local_host: LocalHost, site: Site, monkeypatch: pytest.MonkeyPatch
) -> Linked:
    """A controller with such a link, on which a run has replaced a kubeconfig."""
    made = Linked(local_host, site, request.param, monkeypatch)
    made.kubeconfig.write_text(kubeconfig("slurm-dws"))
    made.kubeconfig.chmod(0o600)
    owner = f"{os.getuid()}:{os.getgid()}"
    made.do("r1", Put(str(made.kubeconfig), Secret(kubeconfig("slurm-new").encode()), 0o600, owner))
    return made


@cache
def kubeconfig(name: str, key: str = "QUJDREVG") -> str:
    """One with a certificate for `name`."""
    pem = base64.b64encode(certificate(name, 9, OURS)).decode()
    return f"users:\n- user:\n    client-certificate-data: {pem}\n    client-key-data: {key}\n"


def test_an_image_behind_a_link_is_known_by_its_name(linked: Linked) -> None:
    """A kubeconfig's before-image has its real path, is compared by its usual path, and its key stays on the host."""
    lines = linked.lines()
    assert not any("QUJDREVG" in line or encoded("QUJDREVG") in line for line in lines)
    found = parse_host_record(lines)
    assert list(found.files) == [str(linked.kubeconfig)]
    one = found.files[str(linked.kubeconfig)]
    assert one.text is None and one.image == str(linked.real / linked.kubeconfig.name)
    assert [certificates.common_name(pem) for pem in one.certificates or ()] == ["slurm-dws"]
    assert found.conf == "ClusterName=x\nBurstBufferType=burst_buffer/lua\n"


def test_a_revoked_kubeconfig_behind_a_link_stays_away(linked: Linked) -> None:
    """The rule holds for the file, whatever its path."""
    goal, said, anew = linked.goal(["slurm-dws"])
    assert goal.files == {"c": {}} and anew and "slurm-dws was revoked" in said[0]


def test_a_revoked_kubeconfig_under_another_name_stays_away(linked: Linked) -> None:
    """Also where it has a name that no kubeconfig has."""
    other = linked.etc / "burst_buffer.conf"
    other.write_text(kubeconfig("slurm-dws"))
    linked.do("r1", Put(str(other), b"new\n", 0o644, f"{os.getuid()}:{os.getgid()}"))
    found = parse_host_record(linked.lines())
    assert found.files[str(other)].text is None
    goal, said, _ = linked.goal(["slurm-dws"])
    assert goal.files == {"c": {}} and str(other) in " ".join(said)


@pytest.mark.parametrize(
    ("then", "now"), [("lab-1", "slurm"), ("", "slurm"), ("lab-1", ""), ("lab-1\n  namespace: x", "lab-1; rm")]
)
def test_the_namespaces_of_kubeconfigs_are_known(
    local_host: LocalHost, site: Site, monkeypatch: pytest.MonkeyPatch, then: str, now: str
) -> None:
    """The namespaces in the former and in the present kubeconfig, as kubectl reads them; nothing else of them is shown."""
    made = Linked(local_host, site, "file", monkeypatch)

    def of(space: str) -> str:
        return kubeconfig("slurm-dws") + (f"contexts:\n- context:\n    namespace: {space}\n" if space else "")

    made.kubeconfig.write_text(of(then))
    owner = f"{os.getuid()}:{os.getgid()}"
    made.do("r1", Put(str(made.kubeconfig), Secret(of(now).encode()), 0o600, owner))
    lines = made.lines()
    assert not any("QUJDREVG" in line for line in lines)
    found = parse_host_record(lines)
    assert found.unreadable == {}
    assert found.files[str(made.kubeconfig)].space == (then.partition("\n")[0] or "default")
    assert found.namespace == (now if now == "slurm" else "default")


def test_a_rotation_behind_a_link_is_rolled_back(linked: Linked) -> None:
    """The file counts as unchanged, no key is shown, and it is restored behind the link."""
    goal, said, _ = linked.goal()
    assert said == []
    place = StepContext(linked.site, Facts({}), "c")
    check = unchanged.files("controller", goal)
    assert check.judge(place, linked.look(check)) == []
    (stage,) = files.files(goal, "plugin", "controller", set())
    (step,) = stage.steps
    assert isinstance(step, Step) and step.read and step.change
    seen = linked.look(step)
    place.facts.found[f"plugin.{step.name}"] = {"c": seen}
    have, want = step.read(place, seen), step.want(place)
    assert have != want and set(have) == set(want) == {"mode", "owner", "sum"}
    linked.sh(*compile_actions(step.change(place, have, want), "r2", "==mark"))
    assert step.read(place, linked.look(step)) == want
    assert linked.kubeconfig.read_text() == kubeconfig("slurm-dws")
    record = Path(linked.state, "before/r2/.record").read_text()
    assert f"secret {linked.real / linked.kubeconfig.name}\n" in record


def test_no_key_is_readable_for_others_again(tmp_path: Path) -> None:
    """A kubeconfig that others could read before the run comes back as a file of SlurmUser's alone."""
    path = "/shared/of-slurm"  # a link leads there
    left = frozenset({"new"})
    known = FileSnapshot(path, "1", "644", "slurm:slurm", "old", left, None, path, certificates=(b"pem",))
    goal = RollbackTarget("1", "leave", {"c": {path: known}}, (), {"c": True}, roles={"controller": ("c",)})
    (stage,) = files.files(goal, "plugin", "controller", set())
    (step,) = stage.steps
    assert isinstance(step, Step) and step.change and step.read
    site = load(write(tmp_path, MINIMAL))
    found = {"mode": "600", "owner": "slurm:slurm", "sum": "new"}
    place = StepContext(site, Facts({f"plugin.{step.name}": {"c": found}}), "c")
    want = step.want(place)
    (action,) = step.change(place, step.read(place, found), want)
    assert want["mode"] == "600" and isinstance(action, RunScript) and "\nmode=600\n" in f"\n{action.script}"


def test_a_file_that_holds_a_secret_now_is_not_sent(linked: Linked) -> None:
    """Whatever its former state: a secret that somebody wrote into it meanwhile stays on the host."""
    other = linked.etc / "burst_buffer.conf"
    other.write_text("before\n")
    linked.do("r1", Put(str(other), b"new\n", 0o644, f"{os.getuid()}:{os.getgid()}"))
    goal, _, _ = linked.goal()
    (stage,) = files.files(goal, "plugin", "controller", {str(linked.kubeconfig)})
    (step,) = stage.steps
    other.write_text(PEM)
    found = linked.look(step)
    assert isinstance(found, dict) and "text" not in found
    other.write_text("")
    found = linked.look(step)
    assert isinstance(found, dict) and found["text"] == ""


def test_what_a_run_wrote_as_a_secret_is_one(linked: Linked) -> None:
    """Also where nothing in it looks like one."""
    other = linked.etc / "plain"
    other.write_text("old words\n")
    linked.do("r1", Put(str(other), Secret(b"new words\n"), 0o600, f"{os.getuid()}:{os.getgid()}"))
    assert (
        parse_host_record(linked.lines()).files[str(linked.real / "plain" if linked.etc.is_symlink() else other)].text
        is None
    )


def test_files_with_the_same_name_are_two_steps(linked: Linked) -> None:
    """A step's name is the file's own, where no other file has it."""
    found = parse_host_record([f"image r1 600 a:b aaa - {path}" for path in ("/a/x", "/b/x", "/b/y")]).files
    goal = RollbackTarget("r1", "leave", {"c": found}, (), {"c": True}, roles={"controller": ("c",)})
    (stage,) = files.files(goal, "plugin", "controller", set())
    assert [step.name for step in stage.steps] == ["/a/x", "/b/x", "y"]


def test_kept_kubeconfigs_are_found_behind_links(linked: Linked) -> None:
    """`certs.revoke` tries all kubeconfigs among the before-images, whatever their paths."""
    other = linked.etc / "burst_buffer.conf"
    other.write_text(json.dumps({"users": [{"user": {"client-certificate-data": "QQ==", "client-key-data": "QQ=="}}]}))
    linked.do("r1", Remove(str(other)))
    settings = {"state": linked.state, "kubeconfig": str(linked.kubeconfig), "call": "", "workflows": "w"}
    script = render.script(
        "lib/as.sh", "lib/temporary.sh", "host/saved_kubeconfigs.sh", namespace="n", cluster="", **settings
    )
    found = parse_kept(linked.sh(script).encode())
    assert certificates.common_name(pem_of(found["r1"])) == "slurm-dws"
    assert sorted(len(run.split()) for run in found) == [1, 2]


def test_a_slurm_conf_that_cannot_be_read_is_reported(linked: Linked) -> None:
    """A host whose slurm.conf is unreadable does not count as one without the burst buffer."""
    conf = Path(linked.site.slurm.conf)
    conf.unlink()
    conf.mkdir()
    assert linked.host.run(linked.script(), deadline=60).code != 0
    told = linked.host.run(linked.script(conf=""), deadline=60)  # a node's decides nothing
    assert told.code == 0 and b"conf " not in told.out


@pytest.mark.parametrize("name", ["plugin", "node"])
def test_a_key_in_the_place_of_our_file_is_not_shown(tmp_path: Path, name: str) -> None:
    """Where a plugin's file or a node's slurm.conf is a key, or a link to one, that is reported, and the key is not shown."""
    file = tmp_path / "file"
    (tmp_path / "key").write_text(PEM)
    file.symlink_to(tmp_path / "key")
    scripts = {
        "plugin": render.script(
            "lib/as.sh", "lib/holds_secret.sh", "controller/plugin_file.sh", user="root", file=str(file)
        ),
        "node": render.script(
            "lib/safe_file.sh", "lib/holds_secret.sh", "controller/compute_look.sh", file=str(tmp_path / "key")
        ),
    }
    done = subprocess.run(["sh", "-c", scripts[name]], capture_output=True, timeout=60, check=True)
    found = steps.parse(plugin.STAGE, "lua", done.stdout) if name == "plugin" else computes.parse(done.stdout)
    text = steps.present(found)["text"]
    assert "holds a key" in text and "PRIVATE" not in text
