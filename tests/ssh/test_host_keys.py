"""Host keys: which are accepted, and how a refused key is reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ssh.conftest import Connect, One, Refused
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
    assert "`ssh -o StrictHostKeyChecking=ask host`" in error.fix


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


def test_file_that_cannot_be_written_is_noted(server: Server, connect: Connect, tmp_path: Path) -> None:
    """A new key that can't be added to known_hosts is trusted for this run, as by ssh, with a note."""
    (tmp_path / "file").write_text("")
    for file in ("/proc/nothere/known_hosts", f"{tmp_path / 'file'}/known_hosts"):
        sessions = connect(server.config("StrictHostKeyChecking accept-new", f"UserKnownHostsFile {file}"))
        assert sessions.open(), sessions
        (note,) = sessions.notes["host"]
        assert f"its new host key could not be added to {file}" in note


def test_a_line_without_its_end_is_left_whole(server: Server, one: One, tmp_path: Path) -> None:
    """A key is added on a line of its own, also where the last line of known_hosts has no newline."""
    file = _file(tmp_path, f"other {_other(tmp_path)}")
    file.write_text(before := file.read_text().rstrip("\n"))
    one(server.config("StrictHostKeyChecking accept-new", f"UserKnownHostsFile {file}"))
    assert file.read_text() == f"{before}\n[127.0.0.1]:{server.port} {server.host_key}\n"


def test_paths_with_blanks_are_whole(server: Server, one: One, refused: Refused, tmp_path: Path) -> None:
    """Quoted paths of ssh_config stay whole, although `ssh -G` prints them without their quotes."""
    folder = tmp_path / "my  own files"
    folder.mkdir()
    known = server.known_hosts().rename(folder / "known hosts")
    for words in (f'"{known}"', f'/dev/null "{known}"', f'"{known}" /dev/null', f'"{folder}/not there" "{known}"'):
        one(server.config(f"UserKnownHostsFile {words}"))
    one(server.config(f'GlobalKnownHostsFile /dev/null "{known}"', "UserKnownHostsFile /dev/null"))
    key = folder / "my key"
    key.write_bytes(server.key.read_bytes())
    key.chmod(0o600)
    one(server.config(f'IdentityFile "{key}"').replace(f"IdentityFile {server.key}", ""))
    new = folder / "new hosts"
    one(server.config(f'UserKnownHostsFile "{new}" "{known}x"', "StrictHostKeyChecking accept-new"))
    assert server.host_key in new.read_text()


def test_port_of_its_own_is_another_host(server: Server, one: One, refused: Refused, tmp_path: Path) -> None:
    """Behind NAT the plain name has another host's key: the key of the name with its port is new, not changed."""
    file = _file(tmp_path, f"127.0.0.1 {_other(tmp_path)}")
    error = refused(server.config(f"UserKnownHostsFile {file}"))
    assert "its host key is unknown" in error.text
    assert f"without its port the name has another key ({file}:1)" in error.text
    one(server.config("StrictHostKeyChecking accept-new", f"UserKnownHostsFile {file}"))
    assert file.read_text().splitlines()[1] == f"[127.0.0.1]:{server.port} {server.host_key}"


def test_a_changed_key_is_not_found_by_the_name_without_the_port(
    server: Server, refused: Refused, tmp_path: Path
) -> None:
    """As with ssh: where the name with the port has a key, another host's key (a gateway's) is a changed one."""
    file = _file(tmp_path, f"[127.0.0.1]:{server.port} {_other(tmp_path)}", f"127.0.0.1 {server.host_key}")
    assert "its host key differs from the known one" in refused(server.config(f"UserKnownHostsFile {file}")).text


def test_file_that_cannot_be_read_is_left_out(server: Server, tmp_path: Path) -> None:
    """A known_hosts that this user can't read is passed over, as by ssh; where its line is missed, it is named."""
    mine = server.known_hosts()
    program = f"""
import os, sys
from pathlib import Path
from dws_on_csm.transport.known_hosts import known, unreadable
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(len(known(["[127.0.0.1]:{server.port}"], [Path(sys.argv[1]), Path("/etc/hosts")])), *unreadable([Path(sys.argv[1])]))
"""
    mine.chmod(0o600)
    done = subprocess.run([sys.executable, "-c", program, mine], capture_output=True, text=True, check=True)
    assert done.stdout == f"0 {mine}: Permission denied\n"
