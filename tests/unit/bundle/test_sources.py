"""The sources of an install's parts: bundle, local files, URLs; with the real git and sh."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.bundle import sources
from dws_on_csm.config.site import Site
from dws_on_csm.domain import names
from dws_on_csm.engine.host_script import compile_actions
from dws_on_csm.model import actions, render
from dws_on_csm.model.actions import Action, RunScript, Upload
from dws_on_csm.model.step import Facts, Refused, Step, StepContext
from dws_on_csm.stages.dws import workarea
from tests.unit import bundles, steps
from tests.unit.conftest import LocalHost
from tests.unit.site_files import MINIMAL, said

TAG = "v0.0.20"


@pytest.fixture
def host(local_host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> LocalHost:
    """A folder that stands for the master."""
    parts = f"{actions.STATE}/parts"
    monkeypatch.setattr(sources, "PARTS", parts)
    monkeypatch.setattr(workarea, "PARTS", parts)
    return local_host


def run(host: LocalHost, planned: list[Action]) -> tuple[int, str]:
    """Exit code and output of these actions on the host."""
    script, data = compile_actions(planned, "r", "==mark")
    done = host.run(script, data, deadline=60)
    return done.code, (done.out + done.err).decode()


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip()


def cloning(site: Site, folder: Path, template: str = "master/clone.sh") -> list[Action]:
    """The actions by which a stage gets dws at its tag."""
    given = sources.repository(site, "dws")
    told = {"clone": str(folder), "tag": TAG, "sources": shlex.join(given.sources), "origin": given.origin}
    told["commit"] = site.versions.commit("dws")
    script = render.script("lib/as.sh", "lib/proxy.sh", "lib/git.sh", template, **told, **sources.settings(site))
    return [*given.uploads, RunScript("clone", script)]


def bundled(tmp_path: Path, text: str = "") -> Site:
    """A site that is supplied by a bundle whose dws is a true git bundle."""
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "dws-0.0.20.bundle").write_bytes(sources.git_bundle(bundles.repository(tmp_path / "upstream"), TAG))
    return bundles.site(tmp_path, text, bundles.written(tmp_path / "site.bundle", folder))


def test_a_clone_from_a_bundle_is_like_one_from_its_url(tmp_path: Path, host: LocalHost) -> None:
    """At its tag, unchanged, with the URL as its origin; the sent files are removed."""
    code, told = run(host, cloning(bundled(tmp_path), tmp_path / "clone"))
    assert code == 0, told
    assert git(tmp_path / "clone", "describe", "--tags", "--dirty") == TAG
    assert git(tmp_path / "clone", "remote", "get-url", "origin") == "https://github.com/DataWorkflowServices/dws.git"
    assert list(Path(actions.STATE, "parts").iterdir()) == []
    assert not (tmp_path / "clone.part").exists()


def test_a_clone_that_lacks_the_tag_gets_it_from_the_bundle(tmp_path: Path, host: LocalHost) -> None:
    """Its other content stays."""
    site = bundled(tmp_path)
    bundles.repository(tmp_path / "clone", "v0.0.19")
    code, told = run(host, cloning(site, tmp_path / "clone", "master/fetch.sh"))
    assert code == 0, told
    assert git(tmp_path / "clone", "describe", "--tags") == TAG
    assert git(tmp_path / "clone", "tag").split() == ["v0.0.19", TAG]


@pytest.mark.parametrize("kind", ["a repository", "a git bundle"])
def test_sources_are_tried_in_order_wherever_they_are(tmp_path: Path, host: LocalHost, kind: str) -> None:
    """A URL that fails, then a local path; the clone's origin is still the URL."""
    source = bundles.repository(tmp_path / "upstream")
    if kind == "a git bundle":
        content = sources.git_bundle(source, TAG)
        source = tmp_path / "given"
        source.write_bytes(content)
    url = f"file://{tmp_path}/nowhere"
    site = bundles.site(tmp_path, f"sources: {{dws: ['{url}', '{source}']}}\n")
    code, told = run(host, cloning(site, tmp_path / "clone"))
    assert code == 0, told
    assert git(tmp_path / "clone", "describe", "--tags") == TAG
    assert git(tmp_path / "clone", "remote", "get-url", "origin") == url


def test_with_a_bundle_nothing_else_is_asked(tmp_path: Path) -> None:
    """Whatever the site file lists: each part comes from the bundle only."""
    site = bundled(tmp_path, "sources: {dws: ['https://mirror/dws.git'], dws_image: [mirror/dws]}\n")
    for given in (
        sources.repository(site, "dws"),
        sources.repository(site, "plugin"),
        sources.image(site, "dws_image", "0.0.20"),
        sources.image(site, "kube_rbac_proxy_image", "v0.14.1"),
    ):
        (bring,) = given.uploads
        assert list(given.sources) == [f"{actions.PARTS}/{bring.name}"]
        assert bring.name.encode() in bring.read() or bring.name.startswith("dws-0.0.20.")
    assert sources.repository(site, "dws").origin == "https://mirror/dws.git"
    assert (
        sources.repository(site, "plugin").origin == "https://github.com/DataWorkflowServices/dws-slurm-bb-plugin.git"
    )


def test_versions_not_in_the_bundle_come_from_the_site_files_sources(tmp_path: Path) -> None:
    """The clone of an older version, which an upgrade undeploys with, if the master has it no more."""
    site = bundled(tmp_path)
    older = replace(site, versions=replace(site.versions, dws="0.0.19"))
    assert sources.repository(older, "dws").sources == ["https://github.com/DataWorkflowServices/dws.git"]
    assert sources.repository(older, "dws").uploads == []


def test_an_image_of_another_tag_than_the_bundles_is_refused(tmp_path: Path) -> None:
    """The tag in the manifests counts."""
    with pytest.raises(Refused, match=r"bundle-image: the manifests ask for the tag v0\.15\.0 of kube_rbac_proxy"):
        sources.image(bundled(tmp_path), "kube_rbac_proxy_image", "v0.15.0")


def test_files_of_this_machine_that_are_missing_are_reported_before_anything_is_done(tmp_path: Path) -> None:
    """A plan reports it too: it is found when the actions are made, not when they run."""
    site = bundles.site(tmp_path, "sources: {dws: [/nowhere/dws], dws_image: [/nowhere/dws.tar]}\n")
    with pytest.raises(Refused, match="source-missing: /nowhere/dws does not exist on this machine"):
        sources.repository(site, "dws")
    with pytest.raises(Refused, match=r"source-missing: /nowhere/dws\.tar"):
        sources.image(site, "dws_image", "0.0.20")


def test_a_repository_of_this_machine_without_the_tag_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """With git's own words."""
    source = bundles.repository(tmp_path / "upstream", "v0.0.1")
    (bring,) = sources.repository(bundles.site(tmp_path, f"sources: {{dws: ['{source}']}}\n"), "dws").uploads
    with pytest.raises(Refused, match=r"source-unreadable: .*upstream: git bundle: .*v0\.0\.20"):
        bring.read()


# --- kustomize


def place(site: Site) -> StepContext:
    return StepContext(site, Facts(), "m")


WANT = {"asked": "v5.1.1", "there": "v5.1.1"}


def test_kustomize_comes_from_the_bundle(tmp_path: Path, host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of its release's archive, into the clone's bin folder."""
    folder, clone = tmp_path / "parts", tmp_path / "clone"
    folder.mkdir()
    clone.mkdir()
    (folder / "kustomize").write_text("#!/bin/sh\necho v5.1.1\n")
    archive = folder / "kustomize-v5.1.1.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", folder, "kustomize"], check=True, timeout=60)
    monkeypatch.setattr(names, "clone", lambda site: str(clone))
    site = bundles.site(tmp_path, "", bundles.written(tmp_path / "site.bundle", folder))
    planned = list(steps.change(workarea.STAGE, "kustomize", place(site), {}, WANT))
    assert [type(one) for one in planned] == [Upload, RunScript]
    code, told = run(host, planned)
    assert code == 0, told
    assert subprocess.check_output([clone / "bin/kustomize", "version"], text=True) == "v5.1.1\n"
    assert [path.name for path in (clone / "bin").iterdir()] == ["kustomize"]


def test_a_bundle_with_another_kustomize_than_the_makefile_asks_for_is_refused(tmp_path: Path) -> None:
    """Nothing is downloaded without being asked for; a kustomize in the site file is used."""
    site = bundles.site(tmp_path, "", bundles.written(tmp_path / "site.bundle", tmp_path / "parts"))
    with pytest.raises(Refused, match=r"bundle-kustomize: the Makefile asks for kustomize v9, but .* has v5\.1\.1"):
        steps.change(workarea.STAGE, "kustomize", place(site), {}, {"asked": "v9", "there": "v9"})


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("v5.5.0", ""),
        ("v5.1.1", "bin/kustomize is v5.1.1, but the Makefile of this dws asks for v5.5.0"),
        ("absent", "bin/kustomize is absent, but the Makefile of this dws asks for v5.5.0"),
    ],
)
def test_a_kustomize_of_another_version_is_reported(there: str, told: str) -> None:
    """sources.kustomize may still be that of an earlier version: the message has both versions."""
    (step,) = (one for one in workarea.STAGE.steps if isinstance(one, Step) and one.name == "kustomize")
    assert step.status_text is not None and step.status_text({"asked": "v5.5.0", "there": there}) == told
    assert step.status_text(None) == ""  # where no other version has to be undeployed, nothing is looked at


# --- the proxy


def via(site: Site, command: str) -> str:
    script = render.script("lib/proxy.sh", **sources.settings(site)) + command
    environment = {"PATH": "/usr/bin:/bin", "no_proxy": "old", "https_proxy": "http://old:1"}
    done = subprocess.run(
        ["sh", "-euc", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


SHOW = "sh -c 'echo \"$https_proxy $HTTPS_PROXY $no_proxy $NO_PROXY\"'"


def test_only_the_commands_that_go_outside_see_the_proxy(tmp_path: Path) -> None:
    """It is in the environment of that command only."""
    site = bundles.site(tmp_path, "").master
    told: dict[str, Any] = {"https": "http://proxy:3128", "no_proxy": ("mirror.site", ".local")}
    whole = replace(bundles.site(tmp_path), master=replace(site, proxies=replace(site.proxies, **told)))
    first, second = via(whole, f"with_proxy {SHOW}\n{SHOW}\n").splitlines()
    assert first == "http://proxy:3128 http://proxy:3128 mirror.site,.local mirror.site,.local"
    assert second == "http://old:1  old "


def test_without_a_proxy_the_hosts_own_holds(tmp_path: Path) -> None:
    """A proxy in the master's own environment stays."""
    assert via(bundles.site(tmp_path), f"with_proxy {SHOW}\n") == "http://old:1  old \n"


@pytest.mark.parametrize(
    "proxies",
    [
        "{https: 'http://joe:geheim@proxy:3128'}",
        "{https: 'http://geheim@proxy'}",
        "{https: 'proxy:3128'}",
        "{https: 'socks5://proxy'}",
        "{no_proxy: ['a b']}",
        "{no_proxy: ['a,b']}",
    ],
)
def test_a_proxy_with_a_password_or_that_is_none_is_refused(tmp_path: Path, proxies: str) -> None:
    """The password is not repeated."""
    (line,) = said(tmp_path, MINIMAL.replace("{host: m}", f"{{host: m, proxies: {proxies}}}"))
    assert line.startswith("1:") and "master.proxies." in line
    assert "geheim" not in line
