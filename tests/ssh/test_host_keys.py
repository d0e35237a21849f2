"""Host keys: which are accepted, and how a refused key is reported."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.ssh.conftest import One, Refused
from tests.ssh.server import Server, keygen

pytestmark = pytest.mark.slow


def _file(tmp_path: Path, *lines: str, name: str = "known_hosts") -> Path:
    file = tmp_path / name
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def _other(tmp_path: Path, *words: str) -> str:
    """A public key that the server does not have."""
    return " ".join(keygen(tmp_path / "other", *words).with_suffix(".pub").read_text().split()[:2])


def test_unknown_key_is_refused(server: Server, refused: Refused) -> None:
    """A host without a line in known_hosts is refused; the key's fingerprint is shown as by ssh-keygen."""
    error = refused(server.config("UserKnownHostsFile /dev/null"))
    shown = subprocess.run(
        ["ssh-keygen", "-lf", server.folder / "host.pub"], capture_output=True, text=True, check=True
    )
    assert "its host key is unknown" in error.text
    assert shown.stdout.split()[1] in error.text
    assert "ssh host" in error.fix


@pytest.mark.parametrize("how", ["accept-new", "no"])
def test_unknown_key_is_stored_where_configured(server: Server, one: One, tmp_path: Path, how: str) -> None:
    """StrictHostKeyChecking accept-new and no accept an unknown key, and add it to known_hosts."""
    file = tmp_path / "new" / "known_hosts"
    lines = (f"StrictHostKeyChecking {how}", f"UserKnownHostsFile {file}", "HashKnownHosts yes")
    one(server.config(*lines))
    assert "127.0.0.1" not in file.read_text()
    assert server.host_key in file.read_text()
    one(server.config("StrictHostKeyChecking yes", f"UserKnownHostsFile {file}"))
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("how", ["yes", "ask", "accept-new", "no"])
@pytest.mark.parametrize("words", [("-t", "ed25519"), ("-t", "ecdsa")])
def test_changed_key_is_refused(
    server: Server, refused: Refused, tmp_path: Path, how: str, words: tuple[str, ...]
) -> None:
    """A key that differs from the known one is never accepted; each line of the known key is named, with its removal."""
    key = _other(tmp_path, *words)
    user = _file(tmp_path, "# mine", f"[127.0.0.1]:{server.port} {key}", name="user")
    system = _file(tmp_path, f"[127.0.0.1]:{server.port},elsewhere {key}", name="system")
    lines = (f"StrictHostKeyChecking {how}", f"UserKnownHostsFile {user}", f"GlobalKnownHostsFile {system}")
    error = refused(server.config(*lines))
    assert f"{user}:2, {system}:1" in error.text
    for file in (user, system):
        assert f"ssh-keygen -f {file} -R '[127.0.0.1]:{server.port}'" in error.fix


def test_any_of_several_known_keys_will_do(server: Server, one: One, tmp_path: Path) -> None:
    """A host may have several known keys, also of one type."""
    lines = [f"[127.0.0.1]:{server.port} {key}" for key in (_other(tmp_path), server.host_key)]
    one(server.config(f"UserKnownHostsFile {_file(tmp_path, *lines)}"))


@pytest.mark.parametrize(
    "names",
    [
        "127.0.0.1",
        "127.0.*",
        "[127.0.0.?]:{port}",
        "elsewhere,[127.0.0.1]:{port}",
        "|1|",
    ],
)
def test_names_are_matched_as_ssh_does(server: Server, one: One, tmp_path: Path, names: str) -> None:
    """A line matches a host by its name, with or without the port, by a pattern, in a list, or hashed."""
    hashed = names == "|1|"
    name = f"[127.0.0.1]:{server.port}" if hashed else names.format(port=server.port)
    file = _file(tmp_path, f"{name} {server.host_key} comment")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    file.write_text(f"not a line\n|1|%|% ssh-ed25519 AAAA\n{file.read_text()}")
    one(server.config(f"UserKnownHostsFile {file}"))


def test_negated_pattern_is_no_match(server: Server, refused: Refused, tmp_path: Path) -> None:
    """A pattern with ! excludes the host from its line."""
    file = _file(tmp_path, f"!127.0.0.1,127.0.* {server.host_key}")
    assert "its host key is unknown" in refused(server.config(f"UserKnownHostsFile {file}")).text


def test_host_key_alias_is_looked_up(server: Server, one: One, refused: Refused) -> None:
    """With HostKeyAlias only that name counts."""
    one(server.config("HostKeyAlias node", f"UserKnownHostsFile {server.known_hosts('node')}"))
    assert "(node)" in refused(server.config("HostKeyAlias node")).text


def test_revoked_key_is_refused(server: Server, refused: Refused, tmp_path: Path) -> None:
    """A revoked key is refused, although another line has it as known."""
    name = f"[127.0.0.1]:{server.port}"
    file = _file(tmp_path, f"{name} {server.host_key}", f"@revoked * {server.host_key}")
    error = refused(server.config(f"UserKnownHostsFile {file}"))
    assert "revoked" in error.text
    assert f"{file}:2" in error.text


def test_authority_is_named(server: Server, refused: Refused, tmp_path: Path) -> None:
    """A host that only a certificate authority vouches for is refused with that reason."""
    file = _file(tmp_path, f"@cert-authority * {_other(tmp_path)}")
    error = refused(server.config(f"UserKnownHostsFile {file}", "VerifyHostKeyDNS yes"))
    assert f"host certificates ({file}:1)" in error.text
    assert "VerifyHostKeyDNS" in error.text
