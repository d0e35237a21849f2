"""A master on this machine, as far as templates/master/registry.py needs one: kubectl with the Secret, podman with its settings."""

from __future__ import annotations

import base64
import json
import os
import shlex
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from dws_on_csm.model import render
from dws_on_csm.stages.dws import images
from tests.unit.authority import pem, private

PASSWORD = 'ho"r\\se/42 ü'
BASIC = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for 127.0.0.1, and the file with its certificate and key."""
    key, name = private(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


@dataclass
class RegistryHost:
    """The master. `trusts`: the file of CAs of its system; `entries`: those of registries.conf, as `podman info` prints them."""

    folder: Path
    trusts: Path | None = None
    username: bytes = b"admin"
    password: bytes = PASSWORD.encode()
    secret: str = ""
    entries: Mapping[str, object] = field(default_factory=dict)
    podman: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, name: str, script: str, token_hosts: str = "") -> subprocess.CompletedProcess[str]:
        """A script after templates/master/registry.sh, for the registry of this name."""
        data = {"username": self.username, "password": self.password}
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        secret = self.secret or json.dumps({"data": encoded})
        info = json.dumps({"registries": {"search": ["docker.io"], **self.entries}})
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        programs = {"kubectl": f"printf '%s\\n' {shlex.quote(secret)}", "podman": f"printf '%s\\n' {shlex.quote(info)}"}
        for program, text in (programs | ({"podman": self.podman} if self.podman else {})).items():
            (tools / program).write_text(f"#!/bin/sh\n{text}\n")
            (tools / program).chmod(0o755)
        python = tools / "python3"
        if not python.is_symlink():
            python.symlink_to(sys.executable)
        env = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(self.folder), "LC_ALL": "C"}
        env |= {"SSL_CERT_FILE": str(self.trusts or "/dev/null"), **self.env}
        settings = {"registry": name, "registry_secret": "nexus/credential", "token_hosts": token_hosts}
        text = render.script("master/registry.sh", **settings, registry_program=render.read("master/registry.py"))
        command = ["sh", "-c", f"set -eu\n{text}\n{script}"]
        return subprocess.run(
            command, env=env, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )

    def check(self, name: str, token_hosts: str = "") -> dict[str, str]:
        """What the preflight's check says of the registry."""
        done = self.run(name, "ask_registry check", token_hosts)
        assert (done.returncode, done.stderr) == (0, "")
        told: dict[str, str] = json.loads(done.stdout)
        return told

    def state(self, name: str, image: str = "dws:1", token_hosts: str = "") -> str:
        """The state of an image, as the look reads it; where the registry does not say it, why."""
        done = self.run(name, f"ask_registry images {name}/{image}", token_hosts)
        assert (done.returncode, done.stderr) == (0, "")
        (seen,) = images.parse_pushed(done.stdout.encode()).values()
        assert done.stdout.startswith(f"image {name}/{image} ")
        return seen["problem"] or seen["registry"]
