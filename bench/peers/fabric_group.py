"""Fabric's ThreadingGroup does the work: `fabric_group.py edit|check BOUND SSH_CONFIG HOSTS CONF FOLDER`, in Fabric's environment.

A group has a thread for each of its hosts and no bound, so this makes groups of BOUND hosts.
"""

import sys
from pathlib import Path

from fabric import Config, ThreadingGroup
from paramiko import RejectPolicy

work, bound, ssh_config, hosts, conf, folder = sys.argv[1:]
names = Path(hosts).read_text().split()
config = Config(runtime_ssh_path=ssh_config)
for first in range(0, len(names), int(bound)):
    with ThreadingGroup(*names[first : first + int(bound)], config=config) as group:
        for connection in group:
            connection.client.load_host_keys(str(Path(ssh_config).with_name("known_hosts")))
            connection.client.set_missing_host_key_policy(RejectPolicy())
        if work == "edit":
            group.put(conf, f"{folder}/.new")
            group.run(f"chmod 644 {folder}/.new && mv -f {folder}/.new {folder}/slurm.conf", hide=True, in_stream=False)
        else:
            group.run(f"cksum <{folder}/slurm.conf", hide=True, in_stream=False)
