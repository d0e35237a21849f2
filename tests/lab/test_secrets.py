"""Secrets are in memory and at their destination, nowhere else: watched while a site is installed from nothing."""

import pytest

from lab.model import Lab
from tests.lab import scene, secret
from tests.lab.conftest import On
from tests.lab.scene import MASTER, PRIMARY, Cold

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cold(lab: Lab) -> Cold:
    """An install from nothing, with all that was seen of it."""
    return scene.cold(lab)


def test_no_secret_is_seen_anywhere(cold: Cold) -> None:
    """No password and no private key is in any process's arguments or environment, file, journal or output."""
    assert cold.answer.code == 0
    assert cold.leaks == ()


def test_secrets_are_seen_at_their_destination(cold: Cold) -> None:
    """The same search finds the keys where they belong: it can find what it looks for."""
    kubeconfigs = {f"{host}:{secret.KUBECONFIG}" for host in secret.CONTROLLERS}
    etcd = {path for path in cold.kept if path.startswith("ncn-m001:/var/lib/etcd/")}
    assert etcd and cold.kept - etcd == kubeconfigs


READ_CREDENTIAL = "kubectl --request-timeout 20s get --raw /api/v1/namespaces/nexus/secrets/nexus-admin-credential"


@pytest.mark.parametrize("program", ["podman push", "Asks the site's registry", READ_CREDENTIAL])
def test_programs_with_secrets_were_seen(cold: Cold, program: str) -> None:
    """The programs that are given secrets were seen at work, with their arguments."""
    assert any(program in one.replace(b"\0", b" ").decode(errors="replace") for one in cold.programs)


def test_no_program_is_missed(lab: Lab, on: On) -> None:
    """However short they live and however many there are: each program's arguments and environment are seen."""
    with scene.traced(lab) as programs:
        for host in (MASTER, PRIMARY):
            on(host, "me=$(hostname); for i in $(seq 200); do env -i MARK=$me-$i /bin/true $me-$i & done; wait")
    expected = {
        f"{before}{host}-{i}"
        for before in ("/bin/true\0", "MARK=")
        for host in (MASTER, PRIMARY)
        for i in range(1, 201)
    }
    assert expected - {one.decode(errors="replace") for one in programs} == set()


def test_a_secret_in_an_argument_would_be_noticed() -> None:
    """A password or a key in whatever encoding is noticed in what a process was started with."""
    needles = {"a password": (b"hunter2", secret._base64(b"admin:hunter2"))}
    seen = {"a": b"curl\0-u\0admin:hunter2", "b": b"auth=YWRtaW46aHVudGVyMg==", "c": b"curl\0--config\0-"}
    assert secret.within(needles, seen) == ["a password: a", "a password: b"]
