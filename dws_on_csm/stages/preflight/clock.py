"""The clocks of hosts: a certificate is valid from the master's time on, so they may not differ much."""

from __future__ import annotations

from collections.abc import Sequence

from dws_on_csm.model.lines import lines
from dws_on_csm.model.step import Finding

SKEW = 30.0
"""Seconds by which a host's clock may differ."""


def skew(out: bytes, asked_at: float, answered_at: float) -> float:
    """The least number of seconds by which the host's clock is wrong. The host read it at some moment between the question and
    the answer, which is one answer for all looks there, and late where they take long."""
    clocks = [float(line.split(" ")[1]) for line in lines(out) if line.startswith("time ")]
    return round(clocks[0] - min(max(clocks[0], asked_at), answered_at), 0) if clocks else 0.0


def judge(host: str, skew: float) -> Sequence[Finding]:
    """A finding if the clock of `host` differs too much, `skew` seconds, from the clock of this machine."""
    return (finding(host, f"differs from this machine's by {skew:+.0f} s"),) if abs(skew) > SKEW else ()


def finding(host: str, difference: str) -> Finding:
    """The finding about the clock of `host`, which "differs from ..." or "is ... behind ..."."""
    text = f"the clock of {host} {difference}: certificates would be rejected as not yet valid, or as expired"
    fix = f"run `chronyc -a makestep` on {host} (chronyd), or `systemctl restart systemd-timesyncd`, or `systemctl restart ntpd`, "
    return Finding("clock-skew", text, fix + "whichever keeps its clock; if none runs there, start one")
