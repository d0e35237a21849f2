"""What a session needs of a connection: channels, each with one command. Fabric's and OpenSSH's connections both have this form."""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """One command on a host: its input, its two outputs, and its end.

    The methods have the meaning of paramiko.Channel's, where they have its names. Different threads may read, write and close.
    """

    @property
    def closed(self) -> bool:
        """Whether the channel has ended, here or there."""

    @property
    def eof_received(self) -> bool:
        """Whether all output has been received; it may still have to be read."""

    def start(self) -> None:
        """Starts the command, if it has not started. Blocks until the host has accepted it. Raises ERRORS."""

    def sendall(self, data: bytes) -> None:
        """Sends input; blocks while the host takes none. Raises ERRORS."""

    def end_input(self) -> None:
        """Sends the end of the input, unless the channel has ended. Raises ERRORS."""

    def settimeout(self, seconds: float | None) -> None:
        """Limits each later recv(), recv_stderr() and sendall(); then they raise TimeoutError."""

    def recv(self, size: int) -> bytes:
        """At most `size` bytes of standard output, as soon as there are any; b"" at its end."""

    def recv_stderr(self, size: int) -> bytes:
        """The same for standard error."""

    def recv_ready(self) -> bool:
        """Whether standard output can be read at once."""

    def recv_stderr_ready(self) -> bool:
        """Whether standard error can be read at once."""

    def wait(self, seconds: float) -> bool:
        """Waits until output or its end came since the last call. False after `seconds` without any."""

    def exit_status_ready(self) -> bool:
        """Whether the command has ended, or the connection."""

    def exit_code(self, seconds: float) -> int | None:
        """The exit code, for which this waits so long; None without one: the connection broke, or it is not known yet."""

    def close(self) -> None:
        """Ends the channel. The command sees the end of its input, and nobody reads its output."""


class Link(Protocol):
    """A connection to one host."""

    def open(self, seconds: float) -> None:
        """Connects and logs in within `seconds`. Raises Unreachable."""

    def channel(self, command: str) -> Channel:
        """A new channel for `command`, which start() starts at the latest. Raises Lost or Unreachable."""

    def close(self) -> None:
        """Closes the connection and all its channels."""
