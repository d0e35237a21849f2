"""SSH to the hosts: who they are, how to log in, and scripts that run there, as root where that takes sudo.

A small layer of our own on Fabric and Paramiko, since neither they nor other libraries do all of this:
- one command a script, which never stands in argv; its deadline holds on the host, too, and stop() ends what it started;
- reading and writing at the same time, with bounds on time and memory whatever a host sends;
- ssh_config, known_hosts, agent, certificates and jump hosts as `ssh` itself takes them, with a cause and a fix for each refusal.
Paramiko speaks the protocol, Fabric keeps the connection. OpenSSH's own client would cost a process for each host and each
command, and says in free text alone why a login failed.
"""
