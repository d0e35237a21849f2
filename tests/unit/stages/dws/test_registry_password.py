"""The registry's password goes to the registry and nowhere else, whatever an answer says: with the real sh and curl."""

from __future__ import annotations

import base64
import json
import os
import shlex
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from dws_on_csm.model import render
from tests.unit.authority import pem, private
from tests.unit.registry_server import Registry, serving

pytestmark = pytest.mark.slow

PASSWORD = 'ho"r\\se/42\n'
BASIC = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A certificate for 127.0.0.1, and its file for curl to trust."""
    key, name = private(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


@pytest.fixture
def registry(tls: tuple[ssl.SSLContext, Path]) -> Iterator[Registry]:
    with serving(Registry(), tls[0]) as served:
        yield served


@pytest.fixture
def thieves(tls: tuple[ssl.SSLContext, Path]) -> Iterator[Mapping[str, Registry]]:
    """Servers of somebody else: one without TLS, and one with TLS whose certificate curl trusts."""
    with serving(Registry()) as plain, serving(Registry(), tls[0]) as other:
        yield {"plain": plain, "other": other}


def ran(registry: Registry, tls: Path, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script after templates/master/registry.sh, with a kubectl that has the Secret."""
    data = {
        key: base64.b64encode(value.encode()).decode() for key, value in (("username", "admin"), ("password", PASSWORD))
    }
    tools = folder / "bin"
    tools.mkdir()
    (tools / "kubectl").write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(json.dumps({'data': data}))}\n")
    (tools / "kubectl").chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "CURL_CA_BUNDLE": str(tls), "HOME": str(folder)}
    name = registry.base.removeprefix("https://")
    settings = render.script("master/registry.sh", registry=name, secret_namespace="nexus", secret_name="credential")
    return subprocess.run(
        ["sh", "-c", f"set -eu\n{settings}\n{script}"], env=env, cwd=folder, capture_output=True, text=True, timeout=60
    )


def begun(registry: Registry, tls: tuple[ssl.SSLContext, Path], folder: Path, location: str) -> None:
    """Templates/images_writable.sh on a registry that names this place for an upload."""
    registry.location = location
    done = ran(registry, tls[1], folder, "repository=dws\n" + render.read("master/images_writable.sh"))
    assert done.returncode == 0, done.stderr
    assert registry.seen[0] == ("POST", "/v2/dws/blobs/uploads/", BASIC)


@pytest.mark.parametrize(
    "location", ["/v2/dws/blobs/uploads/1?a=b", "{base}/v2/dws/blobs/uploads/1?a=b", "/v2/[1-9]{{a,b}}"]
)
def test_an_incomplete_upload_is_cancelled_at_the_registry(
    registry: Registry, tls: tuple[ssl.SSLContext, Path], tmp_path: Path, location: str
) -> None:
    """A location on the registry itself, as a path or as a URL, is requested once, as it was named."""
    place = location.format(base=registry.base)
    begun(registry, tls, tmp_path, place)
    assert registry.seen[1:] == [("DELETE", place.removeprefix(registry.base), BASIC)]


@pytest.mark.parametrize(
    "location",
    [
        "{plain}/v2/dws/blobs/uploads/1",
        "{other}/v2/dws/blobs/uploads/1",
        "HTTP{plain_rest}/upload",
        "//{other_host}/upload",
        "{base}@{other_host}/upload",
        "{base}.example/upload",
        "https://joe:x@{other_host}/upload",
        "-K{folder}/evil",
        "--config={folder}/evil",
        "-o{folder}/written",
        "file://{folder}/evil",
        "uploads/1",
        "",
        "/upload -K{folder}/evil",
    ],
)
def test_the_password_goes_nowhere_else(
    registry: Registry,
    thieves: Mapping[str, Registry],
    tls: tuple[ssl.SSLContext, Path],
    tmp_path: Path,
    location: str,
) -> None:
    """A location without TLS, another host, an option of curl and a name that only looks like the registry get no request."""
    plain, other = thieves["plain"], thieves["other"]
    (tmp_path / "evil").write_text(f'url = "{plain.base}/stolen"\n')
    words = {"base": registry.base, "plain": plain.base, "other": other.base, "folder": str(tmp_path)}
    words |= {"plain_rest": plain.base.removeprefix("http"), "other_host": other.base.removeprefix("https://")}
    begun(registry, tls, tmp_path, location.format(**words))
    assert (plain.seen, other.seen) == ([], [])
    assert registry.seen[1:] == []
    assert not (tmp_path / "written").exists()


def test_no_redirect_takes_the_password_along(
    registry: Registry, thieves: Mapping[str, Registry], tls: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    """A redirect is not followed: no other host gets a request."""
    digest = registry.blob(b"a manifest")
    done = ran(
        registry, tls[1], tmp_path, f'login=$(credential curl)\nask /v2/dws/blobs/{digest} --write-out "%{{http_code}}"'
    )
    assert (done.returncode, done.stdout) == (0, "307")
    assert [path for _, path, _ in registry.seen] == [f"/v2/dws/blobs/{digest}"]


@pytest.mark.parametrize("path", ["dws_on_csm", "templates"])
def test_every_curl_speaks_tls_alone_and_takes_no_option_from_outside(path: str) -> None:
    """Each call says which protocol it may speak, and gives the address behind --url or --. Examples of what others typed,
    for what they give away, are none."""
    root = Path(render.TEMPLATES).parent / path
    texts = {file: file.read_text().replace("\\\n", " ") for file in root.rglob("*") if file.suffix in (".py", ".sh")}
    calls = [
        line for text in texts.values() for line in text.splitlines() if "curl --" in line and "SECRET" not in line
    ]
    assert calls
    for line in calls:
        assert "--proto =https" in line and (" --url " in line or " -- " in line), line
