"""How a script gets root's rights where one logs in as somebody else."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from dws_on_csm.model.secret import Secret

AskPassword = Callable[[str], str]
"""Host -> the sudo password, from a person; raises SudoRefused where there is nobody to ask."""


@dataclass(frozen=True)
class Rights:
    """How a script gets its rights: the words before it, and what is answered to which prompt on stderr."""

    words: tuple[str, ...] = ()
    prompt: str = ""
    password: Secret | None = None


NONE = Rights()
FREE = Rights(("sudo", "-n", "--"))
"""sudo that never asks; where it would have to, it ends with WOULD_ASK."""
WOULD_ASK = 1


def asking(password: Secret) -> Rights:
    """sudo that reads the password from stdin after it has written a prompt that nothing else writes."""
    prompt = secrets.token_hex(8)
    return Rights(("sudo", "-S", "-p", prompt, "--"), prompt, password)


class Password:
    """The sudo password: asked for at most once a run, whichever host needs it first."""

    def __init__(self, ask: AskPassword) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: Secret | None = None

    def get(self, host: str) -> Secret:
        """The password; raises what the asking raises."""
        with self._lock:
            if self._known is None:
                self._known = Secret(self._ask(host).encode())
            return self._known
