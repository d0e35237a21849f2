"""`invoke certs`, `certs.rotate` and `certs.revoke`: each controller's certificate, whether it works, and new ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dws_on_csm.commands import certificate_fixes
from dws_on_csm.commands.command_line import exit_usage
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.paint import printed
from dws_on_csm.display.style import Row, plural
from dws_on_csm.domain import certificates
from dws_on_csm.model.cluster_api import SILENT_FIX
from dws_on_csm.model.printable import escaped
from dws_on_csm.model.step import Check, Fact, NotYetKnown, Stage, StepContext
from dws_on_csm.runner.options import Options
from dws_on_csm.runner.read_only import Reading, looked
from dws_on_csm.stages.access import kubeconfig, rbac, revoke, revoke_account, revoked_names, rotate, signing
from dws_on_csm.stages.facts import API_SERVER, KUBECONFIG, Kubeconfig
from dws_on_csm.stages.pod import service_account
from dws_on_csm.stages.preflight import unlisted_controllers
from dws_on_csm.stages.slurm import pod_checks, slurm_user

STAGES = (
    Stage("preflight", (), (pod_checks.KNOWN,)),
    Stage(
        "access",
        (),
        (
            rbac.CLUSTER_CHECK,
            revoked_names.CHECK,
            Check("kubeconfig", "controller", kubeconfig.look, lambda p, h: ()),
        ),
    ),
)
_REVOKED: Fact[dict[str, str]] = Fact("access", revoked_names.FACT.step)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a certificate, and the fix; `bad`: the plugin cannot use it, now or soon."""

    text: str
    fix: str
    bad: bool = True


@dataclass(frozen=True)
class Status:
    """A controller's kubeconfig as it is shown. "" for missing values; `since` and `until` are UTC in ISO 8601.

    days_left   whole days until it, or the CA that signed it, expires; None without a certificate
    signed      whether the cluster's present CA signed it; None where the CA is unknown
    may         what the API server lets SlurmUser do with it
    account     the ServiceAccount of its pod, where it logs in with that, NAMESPACE/NAME
    """

    host: str
    subject: str = ""
    issuer: str = ""
    since: str = ""
    until: str = ""
    days_left: int | None = None
    serial: str = ""
    signed: bool | None = None
    server: str = ""
    file: str = ""
    slurm_user: str = ""
    may: str = ""
    problems: tuple[Problem, ...] = ()
    account: str = ""


def show(site: Site, as_json: bool) -> int:
    """Print the controllers' certificates; 1 if one cannot be used, or has at most access.renew_below days left."""
    with looked(replace(site, computes=()), STAGES) as reading:
        statuses = [_status_of_host(reading, host.name) for host in site.controllers if site.active(host)]
    code = int(any(problem.bad for status in statuses for problem in status.problems))
    if as_json:
        console.records(records(statuses, code))
    else:
        printed(rows(statuses))
    return code


def records(statuses: Sequence[Status], code: int) -> Iterator[dict[str, object]]:
    """The certificates as JSON objects, and a summary."""
    yield from ({"event": "certificate", **asdict(status)} for status in statuses)
    yield {"event": "summary", "exit": code}


VIA: dict[str, Literal["ca", "csr"]] = {"ca": "ca", "csr": "csr"}


def rotation(site: Site, via: str, **how: Any) -> tuple[Site, Sequence[Stage], Options]:
    """The arguments of a run of `invoke certs.rotate`; `via` "": as in the site file. Exits for another `via`."""
    if via and via not in VIA:
        exit_usage(f"--via {via}: expected {' or '.join(VIA)}")
    if via and site.access.via == "serviceaccount":
        exit_usage(f"--via {via}: access.via is serviceaccount, so there is no certificate to sign")
    access = replace(site.access, signed_via=VIA.get(via, ""))
    site = replace(site, computes=(), access=access)
    changed = "Every controller has a new key and certificate, and the plugin works with them."
    words = ("--via", via) if via else ()
    options = Options(task="certs.rotate", words=words, changed_text=changed, unchanged_text=_NOTHING, **how)
    return site, _seeing_all(rotate.stages(site), _KEEPS), options


_NOTHING = "Nothing to rotate: every plugin logs in with its pod's ServiceAccount, whose token the kubelet renews."


def revocation(site: Site, name: str, **how: Any) -> tuple[Site, Sequence[Stage], Options]:
    """The arguments of a run of `invoke certs.revoke`. Without a name, a site whose plugins log in with ServiceAccounts is read
    before."""
    if not name and _by_account(site):
        changed = "Revoked: the ServiceAccounts of the controllers' pods have no rights on Workflows. #DW jobs are refused until "
        changed += "`invoke install` gives them back."
        unchanged = "Already revoked: the ServiceAccounts of the controllers' pods have no rights on Workflows."
        options = Options(task="certs.revoke", changed_text=changed, unchanged_text=unchanged, **how)
        return replace(site, computes=()), _seeing_all(revoke_account.stages(), _REJECTED), options
    changed = (
        "Revoked: the API server rejects every kubeconfig of the old name, and the plugin works with the new name."
    )
    unchanged = "Already revoked: the API server rejects every kubeconfig of that name."
    options = Options(
        task="certs.revoke", words=(name,) if name else (), changed_text=changed, unchanged_text=unchanged, **how
    )
    return replace(site, computes=()), _seeing_all(revoke.stages(name), _REJECTED), options


def _by_account(site: Site) -> bool:
    """Whether all controllers' plugins log in with the ServiceAccounts of their pods, as far as that can be seen."""
    if site.access.via != "auto" or not all(host.pod for host in site.controllers):
        return site.access.via == "serviceaccount"
    with looked(replace(site, computes=()), STAGES) as reading:
        return revoke_account.by_account([reading.run.board.context(host.name) for host in site.controllers])


_KEEPS = "it keeps its present certificate until that ends, and then its #DW jobs fail"
_REJECTED = "where its kubeconfig has that name, its #DW jobs fail from then on"


def _seeing_all(stages: Sequence[Stage], effect: str) -> tuple[Stage, ...]:
    """The stages; the first also compares the controllers of slurm.conf with those of the site file."""
    first, *others = stages
    return (replace(first, steps=(*first.steps, *unlisted_controllers.checks_for_reading(effect))), *others)


# --- the certificates


def _status_of_host(reading: Reading, host: str) -> Status:
    if reason := reading.silent.get(host):
        return Status(host, problems=(Problem(f"the host cannot be reached: {reason.text}", reason.fix),))
    board = reading.run.board
    if failed := board.failed.get((KUBECONFIG.name, host)):
        return Status(host, problems=(Problem(failed.text, failed.fix or "run `invoke doctor`"),))
    file = board.facts.all(KUBECONFIG)[host]
    cluster = board.facts.one_or_none(API_SERVER)
    revoked = board.facts.one_or_none(_REVOKED) or {}
    silent = board.failed.get((_REVOKED.name, reading.run.site.master.host.name))
    ca = cluster["ca"].encode() if cluster else b""
    return status_of(
        reading.run.site, host, file, ca, revoked, silent.text if silent else "", _account(board.context(host), file)
    )


def _account(ctx: StepContext, file: Kubeconfig) -> str:
    """The ServiceAccount that a kubeconfig logs in with, NAMESPACE/NAME; "" for a certificate, or where the pod was not seen."""
    try:
        return service_account.account(ctx) if service_account.in_file(file) else ""
    except NotYetKnown:
        return ""


def status_of(
    site: Site,
    host: str,
    file: Kubeconfig,
    ca: bytes,
    revoked: Collection[str] = (),
    silent: str = "",
    account: str = "",
) -> Status:
    """The status of a controller's kubeconfig.

    ca        the cluster's present CA (PEM); b"" if unknown
    revoked   revoked names
    silent    why the API server did not respond to the master: then it said nothing about rights
    account   the ServiceAccount of the pod, if the kubeconfig names its token
    """
    status = Status(host, slurm_user=file["slurm_user"])
    if "mode" not in file:
        return replace(
            status, problems=(Problem("the kubeconfig is missing", certificate_fixes.new_kubeconfig(site, host)),)
        )
    permissions, server = slurm_user.permissions(file["may"]), file.get("server", "")
    may = slurm_user.permissions_text(permissions)
    status = replace(status, server=server, file=f"{file['mode']} {file['owner']}", may=may)
    if service_account.in_file(file):
        return _status_by_account(replace(status, account=account or "unknown"), file, silent)
    try:
        certificate = certificates.read(pem := kubeconfig.certificate(file))
    except ValueError:
        return replace(
            status,
            problems=(
                Problem("the kubeconfig has no readable certificate", certificate_fixes.new_kubeconfig(site, host)),
            ),
        )
    signer = certificates.signer(pem, ca) if ca else None
    status = replace(
        status,
        subject=certificate.subject,
        issuer=certificate.issuer,
        since=f"{certificate.since:%Y-%m-%dT%H:%M:%SZ}",
        until=f"{certificate.until:%Y-%m-%dT%H:%M:%SZ}",
        days_left=min(each.days_left for each in (certificate, signer) if each),
        serial=certificate.serial,
        signed=signer is not None if ca else None,
    )
    new = certificate_fixes.new_certificate(pem, ca)
    problems = list(_problems(site, status, certificate, signer, revoked, new))
    if silent:
        problems.append(Problem(silent, SILENT_FIX))
    elif permissions != slurm_user.NEEDED:
        problems.append(Problem(f"{status.slurm_user} {may}", certificate_fixes.RIGHTS))
    return replace(status, problems=tuple(problems))


def _status_by_account(status: Status, file: Kubeconfig, silent: str) -> Status:
    """The status where the kubeconfig names the pod's token: nothing in it expires."""
    present = slurm_user.permissions(file["may"])
    if silent:
        return replace(status, problems=(Problem(silent, SILENT_FIX),))
    if present.refused or present.lacking:
        return replace(status, problems=(Problem(f"{status.slurm_user} {status.may}", certificate_fixes.RIGHTS),))
    return status


def _problems(
    site: Site,
    status: Status,
    certificate: certificates.Certificate,
    signer: certificates.Certificate | None,
    revoked: Collection[str],
    new: str,
) -> Iterator[Problem]:
    if status.signed is None:
        yield Problem(
            "the signature was not checked: the master did not provide the cluster's CA", "run `invoke doctor`"
        )
    elif signer is None:
        yield Problem("the cluster's present CA did not sign the certificate", certificate_fixes.NEW_CERTIFICATE)
    elif signer.days_left < certificate.days_left:
        text = f"the cluster's CA expires on {signer.until:%Y-%m-%d}, before the certificate"
        yield Problem(text, signing.RENEW_CA, bad=False)
    if certificate.common_name != site.access.common_name:
        yield _other_name(site, certificate.common_name, revoked)
    if status.days_left is not None and status.days_left < kubeconfig.WARN:
        low = status.days_left <= site.access.renew_below
        text = "the certificate has expired" if status.days_left < 0 else "the certificate expires soon"
        yield Problem(text, new, bad=low)


def _other_name(site: Site, name: str, revoked: Collection[str]) -> Problem:
    own = site.access.common_name
    text = f"the certificate is for {name}, but the site file says {own}"
    if own in revoked:  # an install gives no revoked name its rights again: the site file is out of date
        return Problem(f"{text}, which was revoked", f"set access.common_name in {site.path.name} to {name}", bad=False)
    return Problem(text, certificate_fixes.NEW_NAME, bad=False)


# --- as a table

GAP = "  "


def rows(statuses: Sequence[Status]) -> Iterator[Row]:
    """A column for each controller; below, each problem once, with the controllers that have it."""
    cells = [_cells(status) for status in statuses]
    names = list(cells[0]) if cells else []
    first = max(map(len, names), default=0)
    widths = [max(len(text) for text in column.values()) for column in cells]
    for name in names:
        line = GAP.join(escaped(column[name]).ljust(width) for column, width in zip(cells, widths, strict=True))
        yield [(name.ljust(first) + GAP, "dim"), (line.rstrip(), "bold" if not name else "")]
    yield []
    yield from _problem_rows(statuses)


def _cells(status: Status) -> dict[str, str]:
    since, until = (time.replace("T", " ").replace("Z", "") for time in (status.since, status.until))
    return {
        "": status.host,
        "subject": f"ServiceAccount {status.account}" if status.account else status.subject,
        "issuer": status.issuer,
        "from": since,
        "until": "the kubelet renews its token" if status.account else until,
        "days left": "" if status.days_left is None else str(status.days_left),
        "serial": status.serial,
        "signed by": {True: "the cluster's present CA", False: "another CA", None: ""}[status.signed],
        "API server": status.server,
        "file": status.file,
        "SlurmUser": f"{status.slurm_user} {status.may}",
    }


def _problem_rows(statuses: Sequence[Status]) -> Iterator[Row]:
    groups: dict[Problem, list[str]] = {}
    for status in statuses:
        for problem in status.problems:
            groups.setdefault(problem, []).append(status.host)
    if not groups:
        noun = "login" if any(status.account for status in statuses) else "certificate"
        yield [("✓ ", "green"), (f"{plural(len(statuses), noun)}; SlurmUser can use all of them.", "bold")]
    for problem, hosts in groups.items():
        sign, style = ("✗", "bold red") if problem.bad else ("!", "yellow")
        yield [(f"{sign} {', '.join(hosts)}: {escaped(problem.text)}", style), (f"  {problem.fix}", "bold")]
