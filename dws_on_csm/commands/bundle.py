"""`invoke bundle.make` and `bundle.show`, and `--bundle FILE` of other commands: messages and exit codes."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dws_on_csm.bundle import build, bundle_file
from dws_on_csm.bundle.download import Progress, SourceError
from dws_on_csm.commands.command_line import exit_usage
from dws_on_csm.config.bundle_contents import Manifest
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.select import is_terminal
from dws_on_csm.model.exit_codes import CONVERGED, FAILED, REFUSED
from dws_on_csm.model.printable import escaped_lines
from dws_on_csm.model.step import Refused

NO_BUNDLE = (
    "somebody else deploys DWS here (dws: external), and a bundle has DWS in it. For the plugin alone, set sources.plugin to a "
    "repository or git bundle on this machine (docs/external.md)."
)


def attached(site: Site, file: str) -> Site:
    """The site with this bundle as its only supply.

    A bundle that cannot be used is reported with the fix and ends the process with exit code 3: no host was touched. Where somebody
    else deploys DWS, a bundle is a wrong option: exit code 2.
    """
    if site.external:
        exit_usage(f"--bundle: {NO_BUNDLE}")
    try:
        return bundle_file.attach(site, Path(file).expanduser())
    except Refused as refused:
        sys.exit(_print_findings(refused))


def make(site: Site, file: str) -> int:
    """Make the bundle for this site with a progress display, and list its contents. The exit code."""
    if site.external:
        exit_usage(f"No bundle was made: {NO_BUNDLE}")
    target = Path(file).expanduser()
    if not target.absolute().parent.is_dir():
        exit_usage(f"{target.parent} is not a folder. Choose another path for the bundle.")
    try:
        with download_display(sys.stderr) as begin:
            manifest = build.make(site, target, begin)
    except Refused as refused:
        return _print_findings(refused)
    except (SourceError, OSError) as error:
        console.note(f"{target}: {error}")
        return FAILED
    except KeyboardInterrupt:
        console.note(f"Stopped. {target} was not changed.")
        return FAILED
    _list(target, manifest)
    return CONVERGED


def show(file: str) -> int:
    """Check every byte of a bundle and list its contents. The exit code; REFUSED: it cannot be used."""
    path = Path(file).expanduser()
    try:
        _list(path, bundle_file.load(path).manifest)
    except Refused as refused:
        return _print_findings(refused)
    return CONVERGED


def _print_findings(refused: Refused) -> int:
    """Print each finding with its fix; the exit code."""
    for finding in refused.findings:
        console.note(f"{finding.name}: {finding.text}\n  {finding.fix}")
    return REFUSED


def _list(path: Path, manifest: Manifest) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    rows = [f"{path}  {path.stat().st_size / 1e6:.1f} MB  sha256 {digest}", f"  {versions}"]
    rows += [f"  made {manifest.made['at']} by {manifest.made['by']}"]
    rows += [
        f"  {part.size / 1e6:8.1f} MB  {part.file}  from {part.source}  {part.id}" for part in manifest.parts.values()
    ]
    console.say(*(row.rstrip() for row in rows))


@contextmanager
def download_display(stream: TextIO) -> Iterator[Callable[[str], Progress]]:
    """Progress bars on a terminal; elsewhere a line for each download that begins or ends."""
    if not is_terminal(stream):
        yield download_lines(stream)
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console.drawn_on(stream)) as bars:

        def begin(title: str) -> Progress:
            task = bars.add_task(escaped_lines(title), total=None)
            return lambda done, total: bars.update(task, completed=done, total=total or None)

        yield begin


def download_lines(stream: TextIO) -> Callable[[str], Progress]:
    """A line for each download that begins or ends."""
    began, write = time.monotonic(), console.writer(stream)

    def say(text: str) -> None:
        write(f"{time.monotonic() - began:7.1f} s  {text}\n")

    def begin(title: str) -> Progress:
        say(title)

        def progress(done: int, total: int) -> None:
            if done == total:
                say(f"{title}: {done / 1e6:.1f} MB")

        return progress

    return begin
