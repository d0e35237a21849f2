"""A smartcard, by SoftHSM: a token in a folder with a key under a PIN, and an agent that has been given it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.ssh.server import HANG

PROVIDER = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "246810"


@contextmanager
def inserted(folder: Path, key: Path) -> Iterator[None]:
    """The card with the private key (in PKCS#8) while the `with` lasts; `agent` is the socket of an agent that has the card."""
    for name in ("card", "empty"):
        (folder / name).mkdir(parents=True)
        _configured(folder, name)
    pins = ("--so-pin", "13579111", "--pin", PIN)
    _run(folder, "softhsm2-util", "--init-token", "--free", "--label", "card", *pins)
    _run(folder, "softhsm2-util", "--import", str(key), "--token", "card", "--label", "key", "--id", "01", "--pin", PIN)
    askpass(folder, PIN)
    socket = folder / "agent"
    environment = _environment(folder)
    agent = subprocess.Popen(("ssh-agent", "-D", "-a", str(socket)), env=environment, stdout=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + HANG
        while not socket.exists():
            assert agent.poll() is None and time.monotonic() < ends
            time.sleep(0.02)  # no event says when the agent listens
        _run(folder, "ssh-add", "-s", str(PROVIDER))
        yield
    finally:
        agent.kill()
        agent.wait(HANG)


def copied(folder: Path, target: Path) -> Path:
    """SoftHSM's configuration for a copy of that card in the folder `target`, for one client: each login writes to the card how
    often a PIN was wrong, and another client that reads it then finds no token, or half of one."""
    if not target.exists():
        shutil.copytree(folder / "card", target / "card")
    return _configured(target, "card")


def _configured(folder: Path, name: str) -> Path:
    file = folder / f"{name}.conf"
    file.write_text(f"directories.tokendir = {folder / name}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return file


def askpass(folder: Path, answer: str) -> Mapping[str, str]:
    """The variables with which ssh gets this answer to all that it asks; the program is in `folder`."""
    program = folder / "askpass"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    return {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none:0"}


def _environment(folder: Path) -> Mapping[str, str]:
    own = {"SOFTHSM2_CONF": str(folder / "card.conf"), "SSH_AUTH_SOCK": str(folder / "agent")}
    return {**os.environ, **own, **askpass(folder, PIN)}


def _run(folder: Path, *words: str) -> None:
    environment = _environment(folder)
    nothing = subprocess.DEVNULL
    subprocess.run(words, env=environment, stdin=nothing, check=True, timeout=HANG, capture_output=True)
