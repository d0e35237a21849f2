"""Commands on a lab's hosts, as root through ssh."""

import subprocess

from lab.model import Lab


def run(lab: Lab, host: str, command: str, feed: str = "", deadline: float = 60) -> str:
    """The output of a shell command on a host, as root. RuntimeError has what the command printed if it fails."""
    # ConnectTimeout counts until sshd's greeting, which a busy host sends late.
    ssh = ["ssh", "-F", str(lab.state / "ssh_config"), "-o", "ConnectTimeout=30", host, command]
    done = subprocess.run(ssh, input=feed, capture_output=True, text=True, timeout=deadline, check=False)
    if done.returncode:
        raise RuntimeError(f"{host}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}".strip())
    return done.stdout
