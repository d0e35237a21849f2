"""Waiting for what comes about on a host by itself."""

from tests.lab.conftest import On

_WAIT = """ends=$(($(date +%s) + SECONDS_))
until said=$({ CONDITION
} 2>&1); do
    [ $(date +%s) -lt $ends ] || { echo "$said"; exit 1; }
    sleep 0.2
done"""


def until(on: On, host: str, condition: str, seconds: int = 90) -> None:
    """Returns when a shell condition holds there; RuntimeError with what it said last when it never does."""
    on(host, _WAIT.replace("SECONDS_", str(seconds)).replace("CONDITION", condition), deadline=seconds + 60)


def until_silent(on: On, host: str, command: str, seconds: int = 90) -> None:
    """Returns when a shell command there succeeds and says nothing any more; RuntimeError with what it said last."""
    until(on, host, f'left=$({command}) && [ -z "$left" ] || {{ echo "$left"; false; }}', seconds)
