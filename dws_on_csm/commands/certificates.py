"""`invoke certs` and what goes with it: the certificate of each controller, whether the plugin can use it, and new ones."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from dws_on_csm.commands.certificates_table import Problem, Shown, rows
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.paint import printed
from dws_on_csm.domain import certificates
from dws_on_csm.model.step import Check, Stage
from dws_on_csm.runner.inspect import Reading, looked
from dws_on_csm.runner.options import Options
from dws_on_csm.stages.access import kubeconfig, revoke, revoked_names, rotate
from dws_on_csm.stages.access.rotate import ACCESS
from dws_on_csm.stages.slurm import slurm_user

STAGES = (
    Stage(
        "access",
        (),
        (ACCESS["cluster"], revoked_names.CHECK, Check("kubeconfig", "controller", kubeconfig.look, lambda p, h: ())),
    ),
)


def show(site: Site, as_json: bool) -> int:
    """Print the controllers' certificates. 1 when one can't be used, or has fewer days left than access.renew_below."""
    with looked(replace(site, computes=()), STAGES) as reading:
        every = [_shown(reading, host.name) for host in site.controllers if site.active(host)]
    code = int(any(problem.bad for one in every for problem in one.problems))
    if as_json:
        console.records(
            (*({"event": "certificate", **asdict(one)} for one in every), {"event": "summary", "exit": code})
        )
    else:
        printed(rows(every))
    return code


VIA: dict[str, Literal["ca", "csr"]] = {"ca": "ca", "csr": "csr"}


def rotating(site: Site, via: str, **how: Any) -> tuple[Site, Sequence[Stage], Options]:
    """What makes a run of `invoke certs.rotate`; `via` "": as the site file says. Ends the program for what is no such way."""
    if via and via not in VIA:
        console.note(f"--via {via}: expected {' or '.join(VIA)}")
        sys.exit(1)
    access = replace(site.access, via=VIA.get(via, site.access.via))
    site = replace(site, computes=(), access=access)
    done = "Every controller has a new key and certificate, and the plugin works with it."
    flags = f" --via {via}" if via else ""
    return site, rotate.stages(site), Options(task="certs.rotate", flags=flags, done=done, **how)


def revoking(site: Site, name: str, **how: Any) -> tuple[Site, Sequence[Stage], Options]:
    """What makes a run of `invoke certs.revoke`."""
    done = "Revoked: whoever has a kubeconfig of the old name is refused, and the plugin works with the new one."
    right = "It is revoked: whoever has a kubeconfig of that name is refused."
    options = Options(task="certs.revoke", flags=f" {name}" if name else "", done=done, right=right, **how)
    return replace(site, computes=()), revoke.stages(name), options


# --- what is there


def _shown(reading: Reading, host: str) -> Shown:
    if reason := reading.silent.get(host):
        return Shown(host, problems=(Problem(f"can't be reached: {reason.text}", reason.fix),))
    board = reading.run.board
    if failed := board.failed.get(("access.kubeconfig", host)):
        return Shown(host, problems=(Problem(failed, "see whether the host is well"),))
    found = board.facts.all("access.kubeconfig")[host]
    ca = next(iter(board.facts.found.get("access.cluster", {}).values()), None)
    gone: Mapping[str, str] = next(iter(board.facts.found.get("access.common_name", {}).values()), {})
    return described(reading.run.site, host, found, ca["ca"].encode() if ca else b"", gone)


def described(site: Site, host: str, found: Mapping[str, Any], ca: bytes, gone: Collection[str] = ()) -> Shown:
    """What was found on a controller, in the light of the cluster's CA of today (PEM; b"": not known), and of the names
    that were revoked (`gone`)."""
    shown = Shown(host, slurm_user=found["slurm_user"])
    if "mode" not in found:
        return replace(shown, problems=(Problem("there is no kubeconfig", "`invoke install` makes one"),))
    may, server = slurm_user.rights(found["may"]), found.get("server", "")
    shown = replace(shown, server=server, file=f"{found['mode']} {found['owner']}", may=may)
    try:
        certificate = certificates.read(pem := kubeconfig.certificate(found))
    except ValueError:
        return replace(
            shown, problems=(Problem("no certificate is embedded in it", "`invoke install` makes a new one"),)
        )
    signer = certificates.signer(pem, ca) if ca else None
    left = min(one.days_left for one in (certificate, signer) if one)
    shown = replace(
        shown,
        subject=certificate.subject,
        issuer=certificate.issuer,
        since=f"{certificate.since:%Y-%m-%dT%H:%M:%SZ}",
        until=f"{certificate.until:%Y-%m-%dT%H:%M:%SZ}",
        days_left=left,
        serial=certificate.serial,
        signed=signer is not None if ca else None,
    )
    return replace(shown, problems=tuple(_problems(site, shown, certificate, signer, gone)))


def _problems(
    site: Site,
    shown: Shown,
    certificate: certificates.Certificate,
    signer: certificates.Certificate | None,
    gone: Collection[str],
) -> Iterator[Problem]:
    if shown.signed is None:
        yield Problem("nobody knows whether it is of the cluster's CA: the master did not say", "see `invoke plan`")
    elif signer is None:
        yield Problem("the cluster's CA of today did not sign it", "`invoke certs.rotate`")
    elif signer.days_left < certificate.days_left:
        yield Problem(
            f"the CA itself ends {signer.until:%Y-%m-%d}, before it", "renew the cluster's CA first", bad=False
        )
    if certificate.common_name != site.access.common_name:
        yield _other_name(site, certificate.common_name, gone)
    if shown.days_left is not None and shown.days_left < kubeconfig.WARN:
        low = shown.days_left <= site.access.renew_below
        yield Problem("it is over" if shown.days_left < 0 else "it ends soon", "`invoke certs.rotate`", bad=low)
    if shown.may != slurm_user.RIGHTS:
        yield Problem(f"{shown.slurm_user} {shown.may}", "`invoke install` puts right what it needs")


def _other_name(site: Site, name: str, gone: Collection[str]) -> Problem:
    own = site.access.common_name
    text = f"it is for {name}, and the site file says {own}"
    if own in gone:  # no install gives that name its rights again: it is the site file that is old
        return Problem(f"{text}, which was revoked", f"set access.common_name in {site.path.name} to {name}", bad=False)
    fix = "`invoke install` changes it, and `invoke certs.revoke` shuts the old name out for good"
    return Problem(text, fix, bad=False)
