"""An image that somebody else pushed under the name of a DWS image is replaced only after a confirmation."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.model import render
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages.dws import images
from tests.unit import steps

WANTED, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
NAME = "registry.local/dws:0.0.20"


@pytest.mark.parametrize(
    ("registry", "pushed", "asked"),
    [
        (OTHER, WANTED, True),
        (WANTED, WANTED, False),
        ("absent", WANTED, False),
        (OTHER, "never by this tool", False),
    ],
)
def test_another_image_is_asked_about(registry: str, pushed: str, asked: bool) -> None:
    """The question has its digest; the confirmation covers that image only."""
    have = {NAME: {"registry": registry, "pushed": pushed}}
    seen = steps.removals(images.STAGE, "pushed", StepContext(load(DEFAULT), Facts(), "m"), have, {})
    assert [(OTHER in one.words, one.things) for one in seen] == [(True, frozenset({f"{NAME} {OTHER}"}))] * asked


@pytest.mark.parametrize(
    ("there", "known", "pushes", "code"),
    [
        (OTHER, "never by this tool", False, 1),
        (OTHER, WANTED, True, 0),
        (WANTED, "never by this tool", False, 0),
        ("absent", "never by this tool", True, 0),
        ("absent", WANTED, True, 0),
    ],
)
def test_an_unconfirmed_image_stays(tmp_path: Path, there: str, known: str, pushes: bool, code: int) -> None:
    """The wanted digest may be unknown until its source is pulled: it is recorded then, so that the next run can prompt."""
    done = pushed(tmp_path, f"echo pushed >>{tmp_path}/did", there, known)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "did").exists() is pushes
    assert (tmp_path / "images").read_text() == f"{NAME} {WANTED}\n"
    assert (there in done.stdout) is (code == 1)


def test_the_cause_of_a_push_that_podman_repeated_is_named(tmp_path: Path) -> None:
    """Its second attempt has no password: what it says of that is not the cause. The image does not count as pushed."""
    done = pushed(tmp_path, "echo 'connection refused, retrying' >&2; return 125", "absent", WANTED)
    assert (done.returncode, done.stderr) == (1, "connection refused, retrying\n")
    assert f"the cause is what it reported first for {NAME}" in done.stdout and not (tmp_path / "images").exists()


def pushed(tmp_path: Path, push: str, there: str, known: str) -> subprocess.CompletedProcess[str]:
    """How images_push.sh ends where podman pushes by this command."""
    fakes = f"""
remove_at_exit() {{ :; }}
own_folder() {{ mktemp -d {tmp_path}/XXXXXX; }}
rename_synced() {{ mv "$1" "$2"; }}
credential() {{ :; }}
with_proxy() {{ "$@"; }}
podman() {{ case $1 in pull) echo {"a" * 64} ;; push) {push} ;; esac; }}
ask_registry() {{ :; }}
record={tmp_path}/images
"""
    script = fakes + render.read("master/images_push.sh") + f'\nstart {NAME} {there} "{known}" source\nfinish\n'
    return subprocess.run(["sh", "-e"], input=script, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("registry", "expected"), [(OTHER, "image-differs"), ("absent", "")])
def test_which_difference_is_an_image_of_the_sites_own(registry: str, expected: str) -> None:
    """An image that is missing was not pushed by the site."""
    have = {NAME: {"registry": registry, "pushed": WANTED}}
    want = {NAME: {"registry": WANTED, "pushed": WANTED}}
    assert steps.accepted_as(images.STAGE, "pushed", StepContext(load(DEFAULT), Facts(), "m"), have, want) == expected
