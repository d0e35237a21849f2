"""SSH to the hosts: their settings and keys, the login, and scripts that run there, by sudo where needed.

A small layer of our own on Fabric and Paramiko, since neither they nor other libraries do all of this:
- each script is one command and is never in argv; its deadline holds on the host, too, and stop() also ends its children;
- input and output pass at the same time, within bounds of time and memory for anything that a host sends;
- ssh_config, known_hosts, agent, certificates and jump hosts work as with `ssh`, and each refusal has a cause and a fix.
Paramiko speaks the protocol, Fabric keeps the connection. OpenSSH's own client would cost a process for each host and each
command, and says in free text alone why a login failed.
"""
