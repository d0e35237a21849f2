"""The files of a lab's hosts: what lies in a layer, how certificates hang together, how hosts are reached."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from dws_on_csm.config import load
from lab import access, base_layer, health, keys, kubernetes, pki, snapshot
from lab.layer import FILES, Layer, fill
from lab.model import SITE, Host, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab that was never booted."""
    return Lab("try", tmp_path / "state", 7)


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    """A layer over a root with one private folder."""
    root = tmp_path / "root"
    (root / "etc/private").mkdir(parents=True)
    (root / "etc/private").chmod(0o750)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (tmp_path / "layer").mkdir()
    return Layer(tmp_path / "layer", root)


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_keep_the_roots_modes(layer: Layer) -> None:
    """A folder that a layer repeats has the mode of the root's, since the layer's is what the host sees."""
    layer.put("/etc/private/key", "secret", 0o600)
    assert mode(layer.folder / "etc/private") == 0o750
    assert mode(layer.folder / "etc/private/key") == 0o600


def test_a_layers_file_hides_the_roots(layer: Layer) -> None:
    """What a layer holds is read first, then what the root holds."""
    assert layer.read("/etc/passwd").startswith("root:")
    layer.put("/etc/passwd", "joe:x:1500:1500::/home/joe:/bin/bash\n")
    assert layer.read("/etc/passwd").startswith("joe:")


def test_an_unknown_blank_is_an_error() -> None:
    """A template with a value that is missing fails, and is not written."""
    assert fill("user@kubernetes at @ADDRESS@", {"ADDRESS": "10.77.7.11"}) == "user@kubernetes at 10.77.7.11"
    with pytest.raises(KeyError, match="MASTER"):
        fill("server: @MASTER@", {})


def test_every_blank_of_the_nodes_has_a_value(lab: Lab, layer: Layer) -> None:
    """All templates of the master and of a worker can be filled, and what they make is YAML where it says so."""
    cluster = kubernetes.new_keys()
    for name in ("ncn-m001", "ncn-w001"):
        kubernetes.write_layer(lab, lab.host(name), layer, cluster)
        kubelet = yaml.safe_load(layer.read("/etc/kubernetes/kubelet.yaml"))
        assert bool(kubelet["registerWithTaints"]) == (name == "ncn-m001")
    assert "10.244.11.0/24 via 10.77.7.11" in layer.read("/usr/local/sbin/node-prepare")


def test_the_control_plane_is_laid_out_as_kubeadms(lab: Lab, layer: Layer) -> None:
    """The CA signs the API server's certificate, which names the master and its address; keys are root's alone."""
    kubernetes.write_layer(lab, lab.host("ncn-m001"), layer, kubernetes.new_keys())
    folder = layer.folder / "etc/kubernetes/pki"
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((folder / "apiserver.crt").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "ncn-m001" in names.get_values_for_type(x509.DNSName)
    assert "10.77.7.11" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert authority.public_key().key_size == 2048  # type: ignore[union-attr]
    assert {mode(key) for key in folder.glob("*.key")} == {0o600}
    admin = yaml.safe_load(layer.read("/etc/kubernetes/admin.conf"))
    assert admin["current-context"] == "kubernetes-admin@kubernetes"


def test_openssl_takes_the_labs_certificates(tmp_path: Path) -> None:
    """OpenSSL verifies a server's certificate of the lab's CA for the name it was made for, and for no other."""
    authority = pki.authority("lab")
    (tmp_path / "ca").write_bytes(authority.crt)
    (tmp_path / "crt").write_bytes(pki.issue(authority, "registry.local", "server", names=["registry.local"]).crt)

    def verify(name: str) -> int:
        check = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name]
        command = [*check, "-CAfile", str(tmp_path / "ca"), str(tmp_path / "crt")]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert (verify("registry.local"), verify("other.local") != 0) == (0, True)


def test_ssh_reads_the_labs_configuration(lab: Lab) -> None:
    """OpenSSH itself finds a host's address, the lab's key and known_hosts, and checks host keys strictly."""
    access_folder(lab)
    command = ["ssh", "-G", "-F", str(lab.state / "ssh_config"), "nid000002"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wanted = {"hostname 10.77.7.32", "user root", f"identityfile {lab.state}/key", "stricthostkeychecking true"}
    assert wanted <= set(said)


def test_known_hosts_names_every_host(lab: Lab) -> None:
    """ssh-keygen finds each host's key under its name and its address, and the private parts are root's alone."""
    access_folder(lab)
    for host in lab.hosts:
        for name in (host.name, host.address):
            find = ["ssh-keygen", "-F", name, "-f", str(lab.state / "known_hosts")]
            found = subprocess.run(find, capture_output=True, text=True, check=True).stdout
            assert keys.host_key(lab, host.name)[1].split()[1] in found
    assert mode(lab.state / "key") == 0o600


def test_the_site_file_is_one(lab: Lab) -> None:
    """What the lab writes as its site file is a site without errors, with the lab's hosts."""
    access_folder(lab)
    site = load.load(lab.state / "hosts.yaml")
    assert {host.name for host in site.hosts()} >= {"ncn-m001", "slurmctl1", "slurmctl2"}


def access_folder(lab: Lab) -> None:
    """Writes how to reach the lab."""
    lab.state.mkdir()
    access.write(lab)


def test_keys_are_made_once(lab: Lab) -> None:
    """The lab's keys and passwords stay the same when read again, in files that only root can read."""
    first = (keys.password(lab, "registry"), keys.ssh_key(lab), keys.authority(lab).crt)
    assert (keys.password(lab, "registry"), keys.ssh_key(lab), keys.authority(lab).crt) == first
    assert mode(lab.state / "secrets/registry") == mode(lab.state / "ca/ca.key") == 0o600


def test_hosts_know_each_other_and_the_world(lab: Lab) -> None:
    """/etc/hosts has every host, and the names of the world outside at upstream's address."""
    lines = dict(line.split(maxsplit=1) for line in base_layer.hosts_file(lab).splitlines())
    assert lines["10.77.7.13"] == "registry.local"
    assert {"github.com", "ghcr.io", "quay.io"} <= set(lines["10.77.7.12"].split())


def test_an_unknown_host_is_named_with_those_there_are(lab: Lab) -> None:
    """The error for an unknown host lists the lab's hosts."""
    with pytest.raises(KeyError, match=r"ncn-m009.*ncn-m001"):
        lab.host("ncn-m009")


def test_scripts_are_executable() -> None:
    """Everything in files/ that begins with #! can be run."""
    scripts = [path for path in FILES.rglob("*") if path.is_file() and path.read_bytes()[:2] == b"#!"]
    assert scripts
    assert [path for path in scripts if not os.access(path, os.X_OK)] == []


def test_addresses_are_apart() -> None:
    """No two hosts of a site have a name or an address in common."""
    assert len({name for name, _, _ in SITE}) == len({number for _, _, number in SITE}) == len(SITE)


def test_the_status_table_says_what_is_wrong(lab: Lab) -> None:
    """A host's line has its state and all its problems."""
    host = Host("ncn-w001", "worker", 14, "10.77.7.14")
    shown = health.table(lab, [health.Health(host, "up", ("kubelet.service failed: no", "node is not Ready"))])
    assert "ncn-w001" in shown
    assert "kubelet.service failed: no; node is not Ready" in shown


def test_a_copied_store_shares_only_what_never_changes(tmp_path: Path) -> None:
    """A copy of containerd's store has databases of its own; image content is linked."""
    blob = tmp_path / "a/containerd/io.containerd.content.v1.content/blobs/sha256/00"
    base = tmp_path / "a/containerd/meta.db"
    blob.parent.mkdir(parents=True)
    blob.write_text("layer")
    base.write_text("database")
    snapshot.copy_stores(tmp_path / "a", tmp_path / "b")
    copies = [tmp_path / "b" / path.relative_to(tmp_path / "a") for path in (blob, base)]
    assert [path.read_text() for path in copies] == ["layer", "database"]
    assert [path.stat().st_nlink for path in copies] == [2, 1]
