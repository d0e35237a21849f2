"""Root's rights for scripts where the login's user is not root."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from dws_on_csm.model.secret import Secret

AskPassword = Callable[[str], str]
"""Host -> the sudo password, from a person. Raises SudoRefused where it can't ask."""


@dataclass(frozen=True)
class Rights:
    """How a script gets its rights: the words before its command, and the password that answers a prompt on stderr."""

    words: tuple[str, ...] = ()
    prompt: str = ""
    password: Secret | None = None


NONE = Rights()
FREE = Rights(("sudo", "-n", "--"))
"""sudo that never asks for a password; it ends with WOULD_ASK where it needs one."""
WOULD_ASK = 1


def asking(password: Secret) -> Rights:
    """sudo that writes a random prompt, and reads the password from stdin after it."""
    prompt = secrets.token_hex(8)
    return Rights(("sudo", "-S", "-p", prompt, "--"), prompt, password)


class Password:
    """The sudo password of all hosts, asked for when the first host needs it, and once a run."""

    def __init__(self, ask: AskPassword) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: Secret | None = None

    def get(self, host: str) -> Secret:
        """The password. Raises what AskPassword raises."""
        with self._lock:
            if self._known is None:
                self._known = Secret(self._ask(host).encode())
            return self._known
