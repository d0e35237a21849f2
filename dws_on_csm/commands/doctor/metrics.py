"""`invoke doctor --metrics FILE.prom`: the diagnosis for the textfile collector of Prometheus' node_exporter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dws_on_csm.commands import part_file
from dws_on_csm.commands.doctor.diagnosis import Diagnosis
from dws_on_csm.domain import certificates
from dws_on_csm.runner.read_only import Reading
from dws_on_csm.stages.access import kubeconfig
from dws_on_csm.stages.facts import API_SERVER, KUBECONFIG

SUFFIX = ".prom"
"""node_exporter reads files with this suffix alone; so it never reads one that is being written."""

Sample = tuple[Mapping[str, str], float]
"""Labels and a value."""


def why_no_metrics(file: Path) -> str:
    """Why the metrics can't be written there, before any host is checked; "" if they can."""
    if file.suffix != SUFFIX:
        return f"{file} does not end with {SUFFIX}: node_exporter would not read it. Choose a name that does."
    return part_file.why_unwritable(file)


def write(file: Path, text: str) -> None:
    """Replace the file atomically; every user may read it, whatever the umask: it has no secrets. Raises OSError."""
    with part_file.beside(file, text) as part:
        part.replace(file)


def render(reading: Reading, diagnosis: Diagnosis, at: float, seconds: float) -> str:
    """The metrics in Prometheus' text format. `at` is the end of the run, in seconds since 1970; `seconds` is how long it took."""
    return text(str(reading.run.site.path.absolute()), diagnosis, expiries(reading), at, seconds)


def text(site: str, diagnosis: Diagnosis, ends: Mapping[str, float], at: float, seconds: float) -> str:
    """The metrics of a diagnosis; `ends`: host -> when its certificate expires, in seconds since 1970."""
    lines: list[str] = []
    for name, meaning, samples in _metrics(diagnosis, ends, at, seconds):
        name = f"dws_on_csm_{name}"
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        for labels, value in samples:
            pairs = ",".join(f'{key}="{_escaped(label)}"' for key, label in {"site": site, **labels}.items())
            lines.append(f"{name}{{{pairs}}} {value!r}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(label: str) -> str:
    escaped = label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return escaped.encode(errors="replace").decode()


def _metrics(
    diagnosis: Diagnosis, ends: Mapping[str, float], at: float, seconds: float
) -> Iterator[tuple[str, str, list[Sample]]]:
    """Name, meaning and samples of each metric; one without labels of its own always has a sample, so that it can be alerted on."""
    found = Counter(
        (at.finding.name, at.host, accepted)
        for accepted, findings in (("false", diagnosis.findings), ("true", diagnosis.accepted))
        for at in findings
    )
    labelled = [({"name": name, "host": host, "accepted": accepted}, n) for (name, host, accepted), n in found.items()]
    yield "doctor_finding", "Findings of the doctor by name and host; accepted: by the site file.", list(labelled)
    yield "doctor_findings", "Findings that the site file does not accept.", [({}, len(diagnosis.findings))]
    unseen = Counter((check.host, check.step) for check in diagnosis.unseen)
    yield (
        "doctor_unseen_check",
        "Checks that could not be made, by host and step.",
        [({"host": host, "step": step}, n) for (host, step), n in unseen.items()],
    )
    yield "doctor_unseen_checks", "Checks that could not be made.", [({}, len(diagnosis.unseen))]
    yield "doctor_checks", "Checks, those that could not be made included.", [({}, diagnosis.checks)]
    yield (
        "certificate_expiry_timestamp_seconds",
        "When the plugin's certificate on a controller expires, in seconds since 1970.",
        [({"host": host}, end) for host, end in ends.items()],
    )
    yield "doctor_last_run_timestamp_seconds", "When the doctor ended, in seconds since 1970.", [({}, at)]
    yield "doctor_duration_seconds", "How long the doctor took.", [({}, seconds)]


def expiries(reading: Reading) -> dict[str, float]:
    """Host -> when its certificate, or the CA that signed it, expires; without hosts whose certificate could not be read."""
    facts, ends = reading.run.board.facts, {}
    cas = b"".join(server["ca"].encode() for server in facts.known(API_SERVER).values())
    for host, file in facts.known(KUBECONFIG).items():
        with suppress(ValueError):
            ends[host] = certificates.within_ca(kubeconfig.certificate(file), cas).until.timestamp()
    return ends
