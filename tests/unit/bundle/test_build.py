"""bundle.make: a bundle is complete, or the error says what is missing and no file is left."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dws_on_csm.bundle import build, bundle_file, download
from dws_on_csm.bundle.download import SourceError
from dws_on_csm.commands import bundle
from dws_on_csm.config.site import Site
from dws_on_csm.model.step import Refused
from tests.unit import bundles

pytestmark = pytest.mark.slow

MAKEFILE = "KUSTOMIZE_VERSION ?= v5.1.1\n"
MANIFEST = "image: gcr.io/kubebuilder/kube-rbac-proxy:v0.14.1\n"


def nobody(title: str) -> Any:
    return lambda done, total: None


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Any]:
    """Sources that are all local."""
    bundles.repository(tmp_path / "plugin", "v0.0.5")
    repository = tmp_path / "dws"
    bundles.repository(repository, "v0.0.1")
    (repository / "config").mkdir()
    (repository / "config/auth.yaml").write_text(MANIFEST)
    (repository / "Makefile").write_text(MAKEFILE)
    script = f"git add . && {bundles.GIT} commit -qm three && {bundles.GIT} tag -am three v0.0.20"
    subprocess.run(["sh", "-c", script], cwd=repository, check=True, timeout=30)
    for name in ("dws.tar", "proxy.tar", "kustomize.tar.gz"):
        (tmp_path / name).write_text(f"this is {name}\n")
    digest = hashlib.sha256((tmp_path / "kustomize.tar.gz").read_bytes()).hexdigest()
    return {
        "dws": [str(tmp_path / "nowhere"), str(repository)],
        "plugin": [str(tmp_path / "plugin")],
        "dws_image": [str(tmp_path / "dws.tar")],
        "kube_rbac_proxy_image": [str(tmp_path / "proxy.tar")],
        "kustomize": {"from": str(tmp_path / "kustomize.tar.gz"), "sha256": digest},
    }


def site(tmp_path: Path, sources: dict[str, Any], **changes: Any) -> Site:
    return bundles.site(tmp_path, yaml.safe_dump({"sources": {**sources, **changes}}))


def folder(tmp_path: Path) -> Path:
    """The folder for bundles, in which leftover files would be found."""
    (tmp_path / "out").mkdir(exist_ok=True)
    return tmp_path / "out"


def test_everything_is_in_it(tmp_path: Path, sources: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part by its role, from the first working source; versions, time and program."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    target = folder(tmp_path) / "site.bundle"
    build.make(site(tmp_path, sources), target, nobody)
    found = bundle_file.load(target)
    assert found.manifest.versions == bundles.VERSIONS
    assert found.manifest.made["at"] == "2023-11-14T22:13:20Z"
    assert found.manifest.made["by"].startswith("dws-on-csm 1.0.0, git version ")
    assert found.read("dws_image") == b"this is dws.tar\n"
    assert found.manifest.parts["dws"].source == str(tmp_path / "dws")
    head = ["git", "-C", str(tmp_path / "dws"), "rev-parse", "v0.0.20^{commit}"]
    assert found.manifest.parts["dws"].id == subprocess.check_output(head, text=True).strip()
    assert [path.name for path in target.parent.iterdir()] == ["site.bundle"]


def test_the_same_contents_make_the_same_bundle(
    tmp_path: Path, sources: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, also after git has stored its objects in another form."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    targets = [folder(tmp_path) / name for name in ("one", "two")]
    for target in targets:
        build.make(site(tmp_path, sources), target, nobody)
        subprocess.run(["git", "-C", tmp_path / "dws", "gc", "-q"], check=True, timeout=30)
    assert targets[0].read_bytes() == targets[1].read_bytes()


NO_SUM = {"kustomize": {"from": "/etc/passwd", "sha256": "ab" * 32}}
MISSING: dict[str, tuple[dict[str, Any], str]] = {
    "no repository": ({"dws": ["/nowhere/a", "/nowhere/b"]}, "source-failed.*/nowhere/a.*/nowhere/b"),
    "no image": ({"dws_image": ["/nowhere/dws.tar"]}, r"source-failed.*/nowhere/dws\.tar"),
    "no kustomize": ({"kustomize": {"from": "/nowhere/k", "sha256": "ab" * 32}}, "source-failed.*/nowhere/k"),
    "another kustomize": (NO_SUM, "source-failed.*its sha256 is .*, not abab"),
}


@pytest.mark.parametrize(("changes", "said"), MISSING.values(), ids=MISSING.keys())
def test_failed_downloads_are_reported_and_leave_nothing(
    tmp_path: Path, sources: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    """The error has the message of each source; an older bundle does not change."""
    target = folder(tmp_path) / "site.bundle"
    target.write_text("an older one")
    with pytest.raises(Refused, match=said):
        build.make(site(tmp_path, sources, **changes), target, nobody)
    assert [path.read_text() for path in target.parent.iterdir()] == ["an older one"]


def test_a_missing_tag_is_reported(tmp_path: Path, sources: dict[str, Any]) -> None:
    """The error has the version and the source."""
    asked = bundles.site(tmp_path, yaml.safe_dump({"sources": sources, "versions": {"plugin": "0.0.9"}}))
    with pytest.raises(Refused, match=r"source-failed: .*plugin: git bundle: .*v0\.0\.9"):
        build.make(asked, folder(tmp_path) / "site.bundle", nobody)


def test_a_wrong_proxy_version_is_reported_before_images_are_fetched(tmp_path: Path, sources: dict[str, Any]) -> None:
    """Otherwise the error would appear only on the offline site."""
    text = yaml.safe_dump({"sources": sources, "versions": {"kube_rbac_proxy": "v0.15.0"}})
    begun: list[str] = []

    def begin(title: str) -> Any:
        begun.append(title)
        return nobody(title)

    with pytest.raises(Refused, match=r"kube-rbac-proxy-version: dws v0\.0\.20 asks for kube-rbac-proxy v0\.14\.1"):
        build.make(bundles.site(tmp_path, text), folder(tmp_path) / "b", begin)
    assert not any("proxy.tar" in title for title in begun)


def test_the_releases_own_checksum_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of checksums.txt for exactly that file."""
    lines = b"11  kustomize_v5.1.1_linux_amd64.tar.gz.sig\n22  kustomize_v5.1.1_linux_amd64.tar.gz\n"
    monkeypatch.setattr(download, "read", lambda url: (lines, None))
    assert build.published_sum("https://x/", "kustomize_v5.1.1_linux_amd64.tar.gz") == "22"
    with pytest.raises(SourceError, match="has no line for kustomize_v9"):
        build.published_sum("https://x/", "kustomize_v9")


def test_the_task_reports_findings_with_their_fixes(
    tmp_path: Path, sources: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing source, and a folder instead of a file, are findings (3); a path in a missing folder is a wrong argument (2)."""
    wrong = site(tmp_path, sources, plugin=["/nowhere/plugin"])
    assert bundle.make(wrong, str(folder(tmp_path) / "b")) == 3
    said = capsys.readouterr().err
    assert "source-failed: " in said and "correct sources.plugin" in said
    with pytest.raises(SystemExit) as ended:
        bundle.make(wrong, str(tmp_path / "not/there"))
    assert ended.value.code == 2 and "/not is not a folder" in capsys.readouterr().err
    assert bundle.make(wrong, str(tmp_path)) == 3
    assert "file-is-folder: " in capsys.readouterr().err


def test_the_task_tells_each_part_and_the_checksum(
    tmp_path: Path, sources: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines with seconds while it works, then the contents of the file."""
    target = folder(tmp_path) / "site.bundle"
    assert bundle.make(site(tmp_path, sources), str(target)) == 0
    told = capsys.readouterr()
    assert told.err.count(" s  ") >= 10
    assert hashlib.sha256(target.read_bytes()).hexdigest() in told.out


def test_an_unexpected_answer_is_reported_and_the_next_source_asked() -> None:
    """A registry or mirror that answers with unexpected JSON is a source that failed."""

    def take(source: str) -> str:
        manifest: dict[str, list[dict[str, str]]] = {"layers": [{"size": "many"}]}
        return str(int(manifest["layers"][0]["size"])) if source == "a" else source

    assert build.first_that_works(["a", "b"], "dws_image", take) == "b"
    with pytest.raises(Refused, match=r"source-failed.*a: the answer could not be read: ValueError"):
        build.first_that_works(["a"], "dws_image", take)
