"""Commands of this tool that a message gives to paste: quoted as a shell takes them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dws_on_csm.config.load import DEFAULT
from dws_on_csm.config.site import Site
from dws_on_csm.display.progress import fold
from dws_on_csm.runner.options import Options


def again(options: Options, site: Site) -> str:
    """The command that runs the same again: with all options that were given, and on no other hosts."""
    given = {
        "--verify": options.verify and options.task == "install",
        "--plan": options.plan and options.task != "plan",
        "--yes": options.yes,
        "--json": options.json,
        "--diff": bool(options.diff),
    }
    switches = [name for name, on in given.items() if on]
    if options.host:
        return _fab(options.host, options.task, *options.words, "--site", str(site.path), *switches)
    return shlex.join(["invoke", options.task, *options.words, *_selection(site), *switches])


def repair(site: Site, host: str, step: str) -> str:
    """The command that repairs a stage or step on one host."""
    return _fab(host, "repair", step, *([] if site.path == DEFAULT else ["--site", str(site.path)]))


def _fab(host: str, *words: str) -> str:
    return shlex.join(["fab", "-H", host, *words])


def _selection(site: Site) -> Sequence[str]:
    """The options that select the site file and the hosts of a run."""
    if site.limit is None:
        return ["--hosts", str(site.path)]
    nodes = fold(sorted(site.limit))
    return ["--hosts", nodes] if site.path == DEFAULT else ["--hosts", str(site.path), "--limit", nodes]
