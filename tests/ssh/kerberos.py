"""A Kerberos realm on the loopback interface: its KDC, the keytab of hosts, and caches with tickets. All of it is in one folder."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.ssh.server import HANG, free_port

REALM = "SITE.TEST"
PASSWORD = "the ticket's password"
CLIENT = """[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
forwardable = true
default_ccache_name = FILE:{folder}/none
default_keytab_name = FILE:{folder}/keytab
k5login_directory = {folder}/k5login
[realms]
{realm} = {{
  kdc = 127.0.0.1:{port}
}}
"""
SERVER = """[kdcdefaults]
kdc_listen = 127.0.0.1:{port}
kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{realm} = {{
  database_name = {folder}/principals
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
  supported_enctypes = aes256-cts:normal
}}
"""


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """The realm while the `with` lasts: `ticket` is root's cache, `expired` one whose ticket is over, `stranger` another's."""
    folder.mkdir()
    places = {"folder": folder, "port": free_port(), "realm": REALM}
    (folder / "krb5.conf").write_text(CLIENT.format(**places))
    (folder / "kdc.conf").write_text(SERVER.format(**places))
    _run(folder, "kdb5_util", "create", "-s", "-r", REALM, "-P", PASSWORD)
    for query in (
        f'addprinc -pw "{PASSWORD}" root',
        f'addprinc -pw "{PASSWORD}" stranger',
        "addprinc -randkey host/127.0.0.1",
        f"ktadd -k {folder}/keytab host/127.0.0.1",
    ):
        _run(folder, "kadmin.local", "-r", REALM, "-q", query)
    with (folder / "log").open("wb") as log:
        words = ("krb5kdc", "-n", "-r", REALM)
        kdc = subprocess.Popen(words, env=_environment(folder), stdout=log, stderr=log)
    try:
        _await(folder, kdc)
        _run(folder, "kinit", "-c", f"{folder}/expired", "-l", "1s", "root", answer=PASSWORD)
        (folder / "caches").mkdir()
        _run(folder, "kinit", "-c", f"DIR:{folder}/caches", "root", answer=PASSWORD)
        _run(folder, "kinit", "-c", f"{folder}/stranger", "stranger", answer=PASSWORD)
        ends = time.monotonic() + HANG
        while subprocess.run(("klist", "-s", "-c", f"{folder}/expired"), check=False, timeout=HANG).returncode == 0:
            assert time.monotonic() < ends
            time.sleep(0.05)  # a ticket ends without an event
        yield
    finally:
        kdc.kill()
        kdc.wait(HANG)


def server_variables(folder: Path) -> tuple[str, ...]:
    """The words before sshd's command, with which it takes tickets of the realm."""
    return ("env", f"KRB5_CONFIG={folder}/krb5.conf", f"KRB5_KTNAME=FILE:{folder}/keytab")


def _environment(folder: Path) -> Mapping[str, str]:
    return os.environ | {"KRB5_CONFIG": f"{folder}/krb5.conf", "KRB5_KDC_PROFILE": f"{folder}/kdc.conf"}


def _run(folder: Path, *words: str, answer: str = "") -> None:
    path = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    environment = {**_environment(folder), **path}
    subprocess.run(words, env=environment, input=answer, text=True, check=True, timeout=HANG, capture_output=True)


def _await(folder: Path, kdc: subprocess.Popen[bytes]) -> None:
    """Waits until the KDC gives root's ticket."""
    ends = time.monotonic() + HANG
    while True:
        try:
            return _run(folder, "kinit", "-f", "-c", f"{folder}/ticket", "root", answer=PASSWORD)
        except subprocess.CalledProcessError as error:
            log = (folder / "log").read_text()
            assert kdc.poll() is None and time.monotonic() < ends, f"{error.stderr} {log}"
            time.sleep(0.02)  # no event says when the KDC listens
