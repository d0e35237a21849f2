"""The looks at the registry share one program: with the real sh and python3."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.engine import looks
from dws_on_csm.model.step import Facts, ShellLook, Step, StepContext
from dws_on_csm.stages.dws import images
from dws_on_csm.stages.preflight import endpoints
from tests.unit.registry_host import BASIC, PASSWORD, RegistryHost
from tests.unit.registry_server import Registry, name_of

pytestmark = pytest.mark.slow

CONFIG = f"sha256:{'a' * 64}"
CHECK, PUSHED = "preflight.registry", "images.pushed"
MARK = "--mark"


@pytest.fixture
def host(tls: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryHost:
    """A master that counts the calls of podman, and has pushed the image dws:1."""
    monkeypatch.setattr(images, "RECORD", str(tmp_path / "record"))
    host = RegistryHost(tmp_path, tls[1])
    host.podman = f"""echo podman >>{tmp_path}/calls; echo '{{"registries": {{}}}}'"""
    return host


def seen(host: RegistryHost, name: str, *pushed: str) -> tuple[dict[str, Any], dict[str, looks.Frame]]:
    """What both looks return, by key, and their frames; `pushed`: the images that were pushed the last time."""
    (host.folder / "record").write_text("".join(f"{image} {CONFIG}\n" for image in pushed))
    site = load(DEFAULT)
    site = replace(site, registry=replace(site.registry, name=name, token_hosts=()))
    context = StepContext(site, Facts(), "ncn-m001")
    step = next(step for step in images.STAGE.steps if isinstance(step, Step) and step.name == images.PUSHED.step)
    made = {CHECK: endpoints.REGISTRY.look(context), PUSHED: step.look(context)}
    shell = {key: look for key, look in made.items() if isinstance(look, ShellLook)}
    done = host.run(name, looks.script(shell, MARK))
    frames = looks.split(done.stdout.encode(), done.stderr.encode(), MARK)
    return {key: shell[key].parse(frame.out) for key, frame in frames.items() if frame.code == 0}, frames


def test_one_program_asks_for_both(registry: Registry, host: RegistryHost) -> None:
    """The credential is read once, podman is asked once, and each look has the answer that it would get alone."""
    name = name_of(registry)
    registry.manifest({"schemaVersion": 2, "mediaType": "x", "config": {"digest": CONFIG}}, "1")
    have, _ = seen(host, name, f"{name}/dws:1", f"{name}/dws:2")
    assert have[CHECK] == {"tls": "verified", "problem": "", "text": "", "cause": ""}
    assert have[PUSHED] == {
        f"{name}/dws:1": {"registry": CONFIG, "pushed": CONFIG, "problem": ""},
        f"{name}/dws:2": {"registry": "absent", "pushed": CONFIG, "problem": ""},
    }
    paths = ["/v2/", "/v2/dws/manifests/1", "/v2/dws/manifests/2"]
    assert registry.seen == [("GET", "/v2/", ""), *(("GET", path, BASIC) for path in paths)]
    assert (host.folder / "calls").read_text() == "podman\n"


def test_a_registry_that_nothing_was_pushed_to(registry: Registry, host: RegistryHost) -> None:
    """Before the first install there are no images to ask for."""
    have, _ = seen(host, name_of(registry))
    assert (have[CHECK]["problem"], have[PUSHED]) == ("", {})


def test_a_registry_that_cannot_be_used_is_said_in_both(host: RegistryHost) -> None:
    """Of the registry, and of each image."""
    name = "127.0.0.1:1"
    have, _ = seen(host, name, f"{name}/dws:1")
    assert (have[CHECK]["problem"], have[CHECK]["text"]) == ("unreachable", "Connection refused")
    assert have[PUSHED][f"{name}/dws:1"]["problem"] == "Connection refused"


def test_a_secret_that_cannot_be_read_fails_the_look_at_the_images(registry: Registry, host: RegistryHost) -> None:
    """With the reason, which the check of the registry has too; neither says anything of what is in the Secret."""
    name = name_of(registry)
    host.secret = json.dumps({"data": {"username": PASSWORD}})
    have, frames = seen(host, name, f"{name}/dws:1")
    assert (have[CHECK]["problem"], have[CHECK]["text"]) == ("secret", "it lacks a readable username and password")
    assert frames[PUSHED].code == 1 and frames[PUSHED].err == b"it lacks a readable username and password\n"
    assert PASSWORD.encode() not in b"".join(frame.out + frame.err for frame in frames.values())
    assert registry.seen == []


def test_a_program_that_does_not_start_fails_each_look_with_its_words(registry: Registry, host: RegistryHost) -> None:
    """As if each had asked alone; without images to ask for, only the check of the registry fails."""
    (host.folder / "bin").mkdir()
    broken = host.folder / "bin" / "broken"
    broken.write_text("#!/bin/sh\necho 'no python here' >&2\nexit 126\n")
    broken.chmod(0o755)
    (host.folder / "bin" / "python3").symlink_to(broken)
    name = name_of(registry)
    have, frames = seen(host, name, f"{name}/dws:1")
    assert have == {}
    assert [frames[key].err for key in (CHECK, PUSHED)] == [b"no python here\n"] * 2
    have, frames = seen(host, name)
    assert have == {PUSHED: {}} and frames[CHECK].err == b"no python here\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_podman_asks_no_package_manager(registry: Registry, host: RegistryHost) -> None:
    """For the versions of its helpers, which takes longer than all else that it says; outside of its mounts it is there."""
    host.podman += (
        f"\n/usr/bin/dpkg-query --version >>{host.folder}/calls 2>/dev/null || echo none >>{host.folder}/calls"
    )
    have, _ = seen(host, name_of(registry))
    assert have[CHECK]["problem"] == "" and (host.folder / "calls").read_text() == "podman\nnone\n"
    assert Path("/usr/bin/dpkg-query").stat().st_size > 0
