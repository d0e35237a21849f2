"""SSH to the hosts: their settings and keys, the login, and scripts that run there, by sudo where needed.

A small layer of our own, since no library does all of this:
- each script is one command and is never in argv; its deadline holds on the host, too, and stop() also ends its children;
- input and output pass at the same time, within bounds of time and memory for anything that a host sends;
- ssh_config, known_hosts, agent, certificates and jump hosts work as with `ssh`, and each refusal has a cause and a fix.

Two transports have the form of link.py. With Fabric and Paramiko all is in this process, and fast; that is the usual one. The
system's ssh (openssh.py) costs a process for each host, and says in free text alone why a login failed; it reaches the hosts
that Paramiko can't. route.py and session.py choose.
"""
