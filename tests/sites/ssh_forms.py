"""The forms of ssh: the host's settings in ssh_config, keys, agents, known_hosts, and what sshd asks for."""

from __future__ import annotations

from tests.sites.form import Form
from tests.sites.login_forms import CARDS, KERBEROS

RELAY = "{python} {world}/relay.py"
HERE = "[127.0.0.1]:PORT"
NEW = ("UserKnownHostsFile",)
PRIVATE = "OPENSSH PRIVATE KEY"
PASS = """
import array, socket, sys
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
out = socket.socket(fileno=1)
out.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [link.fileno()]))])
"""
"""A ProxyCommand that passes the connection itself to ssh."""

REPORTED = (
    Form("a FIDO key in the agent that the host does not take", agent=("fido-other",)),
    Form(
        "an agent's signature takes 12 s (touch, PIN)",
        without=("IdentityFile",),
        config="IdentityFile none",
        agent=("key",),
        delay=12.0,
        connect=60.0,
    ),
    Form(
        "three keys in the agent that the host does not take",
        agent=("other1", "other2", "other3"),
    ),
    Form(
        "known_hosts that this user can't read, the key is in the system's",
        config="UserKnownHostsFile {dir}/mine\nGlobalKnownHostsFile {dir}/system",
        without=("UserKnownHostsFile", "GlobalKnownHostsFile"),
        files={"mine": "{line:other}", "system": f"{{line:{HERE}}}\n"},
        modes={"mine": 0o600},
        user="nobody",
    ),
    Form(
        "accept-new, and the folder of known_hosts is missing",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile /proc/nothere/known_hosts",
        without=NEW,
    ),
    Form(
        "no, and the folder of known_hosts is missing",
        config="StrictHostKeyChecking no\nUserKnownHostsFile /proc/nothere/known_hosts",
        without=NEW,
    ),
    Form(
        "accept-new, and known_hosts is root's",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/mine",
        without=NEW,
        files={"mine": "{line:other}\n"},
        modes={"mine": 0o644},
        user="nobody",
    ),
    Form(
        "a port in the name that ssh is asked for",
        ask="host:2222",
        config="HostName nowhere.invalid",
        without=("HostName",),
        cause="has no address",
    ),
    Form(
        "a master connection is open, the host wants another key",
        server="second-key",
        config="ControlMaster auto\nControlPath {dir}/cm-%r@%h:%p\nControlPersist 30",
        master=True,
    ),
    Form(
        "ControlPath with %C",
        server="second-key",
        config="ControlMaster auto\nControlPath {dir}/cm-%C\nControlPersist 30",
        master=True,
    ),
    Form("chacha20-poly1305 alone", server="chacha"),
    Form("sntrup761x25519-sha512 alone", server="sntrup"),
    Form("umac-128-etm alone", server="umac"),
)

SETTINGS = (
    Form("a key in a file"),
    Form(
        "keyword=value, tabs, quotes, comments", config='HostKeyAlgorithms="ssh-ed25519"\n\tLogLevel = QUIET  # quiet'
    ),
    Form("Match exec", before='Match exec "test %n = host"\n  Ciphers aes128-ctr\n'),
    Form("Match host and user", before="Match originalhost host user root\n  Compression yes\n"),
    Form("Match final", after="Match final host 127.0.0.1\n  Ciphers aes256-ctr\n"),
    Form("a negated pattern", before="Host * !host\n  Port 1\n"),
    Form(
        "Include with a pattern and blanks",
        before='Include "{dir}/some files/*.conf"\n',
        files={"some files/1.conf": "Host host\n  Ciphers aes128-ctr\n"},
    ),
    Form("Include of nothing", before="Include {dir}/none/*.conf\n"),
    Form("HostName with %h", ask="127.0.0.1", config="HostName %h", without=("HostName",)),
    Form("an unknown keyword", before="UseKeychain yes\n", cause="Bad configuration option: usekeychain"),
    Form("an unknown keyword, ignored", before="IgnoreUnknown UseKeychain\nUseKeychain yes\n"),
    Form("a wrong value", config="Port many", cause="ssh_config: .*Bad port"),
    Form("User of ssh_config", config="User root"),
    Form("a user whom the host does not let in", config="User stranger", cause="login as stranger failed.*refused"),
    Form("a name without an address", config="HostName nowhere.invalid", cause="nowhere.invalid has no address"),
    Form("a closed port", config="Port {closed}", cause="Connection refused"),
    Form("ConnectTimeout and ConnectionAttempts", config="ConnectTimeout 5\nConnectionAttempts 3"),
    Form("Compression", config="Compression yes"),
    Form("AddressFamily inet", config="AddressFamily inet"),
    Form("AddressFamily inet6 where there is none", config="AddressFamily inet6", cause="has no address"),
    Form("BindAddress", config="BindAddress 127.0.0.2"),
    Form("BindAddress of another machine", config="BindAddress 192.0.2.1", cause="Cannot assign requested address"),
    Form("BindInterface", config="BindInterface lo"),
    Form(
        "CanonicalizeHostname",
        config="CanonicalizeHostname always\nCanonicalizeMaxDots 0\nCanonicalDomains localdomain\nHostName localhost",
        without=("HostName", "UserKnownHostsFile"),
        files={"names": "{line:[localhost]:PORT}\n"},
        after="Host *\n  UserKnownHostsFile {dir}/names\n",
    ),
    Form(
        "what a terminal or forwarding would need",
        config="RequestTTY yes\nEscapeChar none\nForwardX11 yes\nVisualHostKey yes\nServerAliveInterval 5\nTCPKeepAlive yes\n"
        "IPQoS none\nSendEnv LANG\nSetEnv A=b\nPermitLocalCommand yes\nLocalCommand true\nTunnel no",
    ),
    Form("ForwardAgent without an agent", config="ForwardAgent yes"),
    Form("ForwardAgent by a path", config="ForwardAgent {agent}", agent=("other1",)),
    Form("methods of login that fail, then the key", config="GSSAPIAuthentication yes\nHostbasedAuthentication yes"),
    Form(
        "PreferredAuthentications with others first",
        config="PreferredAuthentications keyboard-interactive,password,publickey",
    ),
    Form(
        "PreferredAuthentications without keys",
        config="PreferredAuthentications password",
        cause="PreferredAuthentications",
    ),
    Form("PubkeyAuthentication no", config="PubkeyAuthentication no", cause="PubkeyAuthentication"),
    Form(
        "passwords are off",
        config="PasswordAuthentication no\nKbdInteractiveAuthentication no\nNumberOfPasswordPrompts 0",
    ),
    Form("AddKeysToAgent, UpdateHostKeys", config="AddKeysToAgent no\nUpdateHostKeys yes"),
)

ALGORITHMS = (
    Form("AES-GCM and ECDH alone", server="gcm"),
    Form("group 16 and HMAC-SHA2-512 alone", server="dh"),
    Form("Ciphers of ssh_config", config="Ciphers aes256-ctr,aes128-ctr"),
    Form("Ciphers without some", config="Ciphers -aes*-ctr,chacha20*"),
    Form("Ciphers with one first", config="Ciphers ^aes256-gcm@openssh.com"),
    Form("Ciphers that only OpenSSH has", config="Ciphers chacha20-poly1305@openssh.com"),
    Form("KexAlgorithms", config="KexAlgorithms curve25519-sha256"),
    Form(
        "KexAlgorithms that only OpenSSH has",
        server="sntrup",
        config="KexAlgorithms sntrup761x25519-sha512@openssh.com",
    ),
    Form("curve25519-sha256 alone", server="curve"),
    Form("MACs", config="Ciphers aes256-ctr\nMACs hmac-sha2-256"),
    Form("MACs that only OpenSSH has", config="Ciphers aes256-ctr\nMACs umac-64-etm@openssh.com"),
    Form("no cipher in common", server="gcm", config="Ciphers aes128-ctr", cause="cipher"),
    Form("no key exchange in common", server="dh", config="KexAlgorithms curve25519-sha256", cause="kex|key exchange"),
    Form(
        "HostKeyAlgorithms",
        config="HostKeyAlgorithms rsa-sha2-256",
        without=NEW,
        files={"rsa": f"{HERE.replace('PORT', '{port}')} {{hostkey:hostrsa}}\n"},
        after="Host *\n  UserKnownHostsFile {dir}/rsa\n",
    ),
    Form("PubkeyAcceptedAlgorithms of one kind", config="PubkeyAcceptedAlgorithms ssh-ed25519"),
    Form(
        "PubkeyAcceptedAlgorithms without the key's kind",
        config="PubkeyAcceptedAlgorithms -ssh-ed25519",
        cause="PubkeyAcceptedAlgorithms",
    ),
    Form(
        "RSA with SHA-256 alone at the host",
        server="sha256",
        config="IdentityFile {key:rsa}",
        without=("IdentityFile",),
        cause="rsa \\(refused\\)",
    ),
    Form(
        "RSA with SHA-256 alone here",
        config="PubkeyAcceptedAlgorithms rsa-sha2-256\nIdentityFile {key:rsa}",
        without=("IdentityFile",),
    ),
    Form(
        "RSA with SHA-512 here, SHA-256 at the host",
        server="sha256",
        config="PubkeyAcceptedAlgorithms rsa-sha2-512\nIdentityFile {key:rsa}",
        without=("IdentityFile",),
        cause="rsa \\(refused\\)",
    ),
    Form(
        "RequiredRSASize above the key's",
        config="RequiredRSASize 3072\nIdentityFile {key:rsa}",
        without=("IdentityFile",),
        cause="shorter than RequiredRSASize 3072",
    ),
    Form(
        "RequiredRSASize above the key's, in the agent",
        config="RequiredRSASize 3072\nIdentityFile none",
        without=("IdentityFile",),
        agent=("rsa",),
        cause="shorter than RequiredRSASize 3072",
    ),
)

WAYS = (
    Form("ProxyJump", config="ProxyJump jump", after="Host jump\n  {usual:plain}\n"),
    Form(
        "ProxyJump with user and port",
        config="ProxyJump root@127.0.0.1:{port:gcm}",
        after="Host 127.0.0.1\n  {usual:gcm}\n",
    ),
    Form("ProxyJump as ssh://", config="ProxyJump ssh://root@jump:{port:gcm}/", after="Host jump\n  {usual:gcm}\n"),
    Form(
        "a chain of jump hosts", config="ProxyJump one,two", after="Host one\n  {usual:gcm}\nHost two\n  {usual:dh}\n"
    ),
    Form(
        "a jump host behind a jump host",
        config="ProxyJump two",
        after="Host one\n  {usual:gcm}\nHost two\n  ProxyJump one\n  {usual:dh}\n",
    ),
    Form("ProxyJump none", config="ProxyJump none", after="Host *\n  ProxyJump nowhere.invalid\n"),
    Form(
        "a jump host with its own key and agent",
        config="ProxyJump jump\nIdentityAgent none",
        agent=("second",),
        after="Host jump\n  IdentityAgent {agent}\n  IdentityFile none\n  {usual:second-key}\n",
    ),
    Form("a jump host that speaks only chacha20", config="ProxyJump jump", after="Host jump\n  {usual:chacha}\n"),
    Form(
        "a jump host that refuses",
        config="ProxyJump jump",
        after="Host jump\n  User stranger\n  {usual:plain}\n",
        cause="through jump host jump: login as stranger failed",
    ),
    Form(
        "a jump host that is not there",
        config="ProxyJump jump",
        after="Host jump\n  Port {closed}\n  {usual:plain}\n",
        cause="through jump host jump: .*Connection refused",
    ),
    Form("ProxyCommand", config=f"ProxyCommand {RELAY} %h %p"),
    Form(
        "ProxyCommand with quotes and blanks",
        config="ProxyCommand sh -c \"test 'a  b' = \\\"a  b\\\" && exec {python} '{world}/relay.py' %h %p\"",
    ),
    Form("ProxyCommand with the shell's own signs", config=f"ProxyCommand {RELAY} $(echo %h) %p 2>/dev/null"),
    Form(
        "ProxyCommand with tokens",
        config=f"ProxyCommand sh -c 'test %n,%r,%p,%% = host,root,{{port}},%% && exec {RELAY} %h %p'",
    ),
    Form(
        "ProxyCommand in the person's shell",
        config="ProxyCommand bash -c '{python} {world}/relay.py %h %p'",
        env={"SHELL": "/bin/bash"},
    ),
    Form(
        "ProxyCommand that only bash reads",
        config=f"ProxyCommand {RELAY} %h %p 2> >(cat >/dev/null)",
        env={"SHELL": "/bin/bash"},
    ),
    Form(
        "ProxyCommand that is ssh -W",
        config="ProxyCommand ssh -F {dir}/ssh_config -W %h:%p jump",
        after="Host jump\n  {usual:plain}\n",
    ),
    Form("ProxyCommand none", config="ProxyCommand none", after="Host *\n  ProxyCommand false\n"),
    Form("ProxyCommand that fails", config="ProxyCommand echo no way >&2; exit 1", cause="no way"),
    Form(
        "ProxyUseFdpass",
        config="ProxyCommand {python} {dir}/pass.py %h %p\nProxyUseFdpass yes",
        files={"pass.py": PASS},
    ),
)

KEYS = (
    *(
        Form(f"a private key of kind {kind}", config=f"IdentityFile {{key:{kind}}}", without=("IdentityFile",))
        for kind in ("rsa", "rsa-pem", "rsa-pkcs8", "ecdsa256", "ecdsa384", "ecdsa521", "ecdsa-pem", "ecdsa-pkcs8")
    ),
    *(
        Form(
            f"a private key without its .pub: {kind}",
            config=f"IdentityFile {{private:{kind}}}",
            without=("IdentityFile",),
        )
        for kind in ("key", "rsa-pem", "ecdsa-pkcs8")
    ),
    Form(
        "a key under a passphrase",
        config="IdentityFile {locked:key}",
        without=("IdentityFile",),
        cause="locked by a passphrase",
    ),
    Form(
        "a key under a passphrase, in the agent",
        config="IdentityFile {locked:key}\nIdentitiesOnly yes",
        without=("IdentityFile",),
        agent=("other1", "key"),
    ),
    Form("a key under a passphrase, then another", config="IdentityFile {locked:other1}"),
    Form("a key file that is no key, then another", config="IdentityFile {dir}/junk", files={"junk": "nothing\n"}),
    Form(
        "a key that is missing",
        config="IdentityFile {dir}/gone",
        without=("IdentityFile",),
        cause="Keys tried: none found",
    ),
    Form(
        "IdentityFile with tokens",
        config="IdentityFile {dir}/%h-%r-%n-%u-%i-%%",
        without=("IdentityFile",),
        files={"127.0.0.1-root-host-root-0-%": "{private_text}"},
    ),
    Form("IdentityFile with %C", config="IdentityFile {dir}/%C\nIdentityFile {key}", without=("IdentityFile",)),
    Form(
        "IdentityFile with a variable",
        config="IdentityFile ${KEYS}/key",
        without=("IdentityFile",),
        env={"KEYS": "{dir}"},
        after="# {key}\n",
    ),
    Form(
        "IdentityFile with blanks",
        config='IdentityFile "{dir}/my  keys/id"',
        without=("IdentityFile",),
        files={"my  keys/id": "{private_text}"},
    ),
    Form(
        "IdentityFile in another encoding",
        config="IdentityFile {dir}/cl\udce9/id",
        without=("IdentityFile",),
        files={"cl\udce9/id": "{private_text}"},
    ),
    Form(
        "IdentityFile with the certificate of another",
        config="IdentityFile {key}\nCertificateFile {cert:rsa}",
        without=("IdentityFile",),
    ),
    Form(
        "a certificate next to the key",
        server="certificates",
        config="IdentityFile {certified:key}",
        without=("IdentityFile",),
    ),
    Form(
        "an RSA certificate next to the key",
        server="certificates",
        config="IdentityFile {certified:rsa}",
        without=("IdentityFile",),
    ),
    Form("CertificateFile", server="certificates", config="CertificateFile {cert:key}"),
    Form(
        "CertificateFile, the key in the agent",
        server="certificates",
        config="CertificateFile {cert:key}\nIdentityFile none",
        without=("IdentityFile",),
        agent=("key",),
    ),
    Form(
        "CertificateFile with tokens",
        server="certificates",
        config="CertificateFile {dir}/%n-cert.pub",
        files={"host-cert.pub": "{cert_text}"},
    ),
    Form(
        "a certificate next to IdentityFile, the key in the agent",
        server="certificates",
        config="IdentityFile {certified:ecdsa256}",
        without=("IdentityFile",),
        agent=("ecdsa256",),
    ),
    Form(
        "only .pub and -cert.pub on disk, IdentitiesOnly",
        server="certificates",
        config="# {cert:key}\nIdentityFile {public:key}\nIdentitiesOnly yes",
        without=("IdentityFile",),
        agent=("other1", "key"),
    ),
    Form(
        "a certificate in the agent without its plain key",
        server="certificates",
        config="IdentityFile none",
        without=("IdentityFile",),
        agent=("key-cert",),
    ),
    Form(
        "an RSA certificate in the agent",
        server="certificates",
        config="IdentityFile none",
        without=("IdentityFile",),
        agent=("rsa", "rsa-cert"),
    ),
    Form(
        "a certificate where the host takes plain keys",
        config="IdentityFile {certified:key}",
        without=("IdentityFile",),
    ),
    Form("a key without its certificate", server="certificates", cause="Keys tried: .*refused"),
)

AGENTS = (
    *(
        Form(f"an agent's key: {kind}", config="IdentityFile none", without=("IdentityFile",), agent=(kind,))
        for kind in ("key", "rsa", "ecdsa384", "fido", "fido-ecdsa")
    ),
    Form(
        "FIDO keys that the host does not take, and one that it takes",
        config="IdentityFile none",
        without=("IdentityFile",),
        agent=("fido-other", "key-cert", "other2", "fido"),
    ),
    Form("a key that can't sign, then a file", agent=("!second",)),
    Form(
        "a key that can't sign, then another of the agent",
        config="IdentityFile none",
        without=("IdentityFile",),
        agent=("!second", "!rsa", "key"),
    ),
    Form(
        "only a key that can't sign",
        config="IdentityFile none",
        without=("IdentityFile",),
        agent=("!key",),
        cause="could not sign",
    ),
    Form("an agent that is not there, then a file", config="IdentityAgent {dir}/gone"),
    Form(
        "IdentityAgent SSH_AUTH_SOCK",
        config="IdentityAgent SSH_AUTH_SOCK\nIdentityFile none",
        without=("IdentityFile", "IdentityAgent"),
        agent=("key",),
        env={"SSH_AUTH_SOCK": "{agent}"},
    ),
    Form(
        "SSH_AUTH_SOCK of the environment",
        config="IdentityFile none",
        without=("IdentityFile", "IdentityAgent"),
        agent=("key",),
        env={"SSH_AUTH_SOCK": "{agent}"},
    ),
    Form(
        "IdentityAgent by a variable's name",
        config="IdentityAgent $MY_AGENT\nIdentityFile none",
        without=("IdentityFile", "IdentityAgent"),
        agent=("key",),
        env={"MY_AGENT": "{agent}"},
    ),
    Form(
        "IdentityAgent with a variable",
        config="IdentityAgent ${MY_DIR}/agent\nIdentityFile none",
        without=("IdentityFile", "IdentityAgent"),
        agent=("key",),
        env={"MY_DIR": "{dir}"},
    ),
    Form(
        "IdentityAgent with tokens and quotes",
        config='IdentityAgent "{dir}/../%r/../tool/agent"\nIdentityAgent {agent}',
        without=("IdentityAgent",),
        agent=("key",),
    ),
    Form(
        "IdentityAgent none",
        config="IdentityAgent none\nIdentityFile none",
        without=("IdentityFile", "IdentityAgent"),
        agent=("key",),
        env={"SSH_AUTH_SOCK": "{agent}"},
        cause="none found",
    ),
    Form(
        "IdentitiesOnly with the public key alone",
        config="IdentitiesOnly yes\nIdentityFile {public:key}.pub",
        without=("IdentityFile",),
        agent=("other1", "other2", "key"),
    ),
    Form(
        "IdentitiesOnly with another key",
        config="IdentitiesOnly yes\nIdentityFile {key:other1}",
        without=("IdentityFile",),
        agent=("key",),
        cause="other1 \\(refused\\)",
    ),
    Form(
        "many keys at a host that allows two tries",
        server="two-tries",
        config="IdentityFile none",
        without=("IdentityFile",),
        agent=("other1", "other2", "other3", "key"),
        cause="MaxAuthTries",
    ),
    Form(
        "many keys at a host that allows two tries, IdentitiesOnly",
        server="two-tries",
        config="IdentitiesOnly yes",
        agent=("other1", "other2", "other3", "key"),
    ),
    Form("many keys, the right one named", server="two-tries", agent=("other1", "other2", "other3", "key")),
    Form(
        "the right key is in a file, the agent has six",
        server="plain",
        agent=("other1", "other2", "other3", "fido-other", "authority"),
        config="IdentitiesOnly no",
    ),
)

KNOWN = (
    Form("a hashed name", config="UserKnownHostsFile {dir}/k", without=NEW, files={"k": f"{{hashed:{HERE}}}\n"}),
    Form("a pattern", config="UserKnownHostsFile {dir}/k", without=NEW, files={"k": "{line:[127.0.0.*]:PORT}\n"}),
    Form(
        "a list of names",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:a,[127.0.0.1]:PORT,b}\n"},
    ),
    Form(
        "a name without the port", config="UserKnownHostsFile {dir}/k", without=NEW, files={"k": "{line:127.0.0.1}\n"}
    ),
    Form(
        "a negated name",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:!127.0.0.1,127.0.0.*}\n"},
        cause="host key is unknown",
    ),
    Form(
        "comments, blanks, blank lines, Windows' line ends",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "# mine\n\n  \t\nnonsense\n{line:[127.0.0.1]:PORT} a comment\r\n"},
    ),
    Form(
        "several files",
        config="UserKnownHostsFile {dir}/gone {dir}/k",
        without=NEW,
        files={"k": "{line:[127.0.0.1]:PORT}\n"},
    ),
    Form(
        "several quoted files with blanks",
        config='UserKnownHostsFile "{dir}/my hosts" "{dir}/more  hosts"',
        without=NEW,
        files={"more  hosts": "{line:[127.0.0.1]:PORT}\n"},
    ),
    Form(
        "UserKnownHostsFile with tokens",
        config="UserKnownHostsFile {dir}/%h-%k-%r",
        without=NEW,
        files={"127.0.0.1-host-root": "{line:[127.0.0.1]:PORT}\n"},
    ),
    Form(
        "the system's file alone",
        config="UserKnownHostsFile none\nGlobalKnownHostsFile {dir}/k",
        without=(*NEW, "GlobalKnownHostsFile"),
        files={"k": "{line:[127.0.0.1]:PORT}\n"},
    ),
    Form(
        "HostKeyAlias",
        config="HostKeyAlias node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:node}\n"},
    ),
    Form("HostKeyAlias that is not known", config="HostKeyAlias node", cause="host key is unknown \\(node\\)"),
    Form(
        "a revoked key",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:[127.0.0.1]:PORT}\n@revoked * {hostkey:hostkey}\n"},
        cause="revoked",
    ),
    Form(
        "another key is revoked",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:[127.0.0.1]:PORT}\n@revoked * {hostkey:other1}\n"},
    ),
    Form(
        "a host certificate",
        server="host-certificate",
        config="HostKeyAlias node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "@cert-authority node {hostkey:authority}\n"},
    ),
    Form("a host certificate of a host with a plain key", server="host-certificate"),
    Form(
        "only RSA is known",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:hostrsa}\n"},
    ),
    Form(
        "the host has only RSA",
        server="rsa-host",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:hostrsa}\n"},
    ),
    Form(
        "the host has only ECDSA",
        server="ecdsa-host",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:hostecdsa}\n"},
    ),
    Form(
        "two keys are known",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:other1}\n{line:[127.0.0.1]:PORT}\n"},
    ),
    Form("ask, and the host is new", config="UserKnownHostsFile {dir}/k", without=NEW, cause="host key is unknown"),
    Form(
        "yes, and the host is new",
        config="StrictHostKeyChecking yes\nUserKnownHostsFile {dir}/k",
        without=NEW,
        cause="host key is unknown",
    ),
    Form(
        "accept-new, and the host is new",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/k",
        without=NEW,
    ),
    Form(
        "accept-new, hashed",
        config="StrictHostKeyChecking accept-new\nHashKnownHosts yes\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:other}"},
    ),
    Form(
        "accept-new, no files at all",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile /dev/null",
        without=NEW,
    ),
    Form("off, and the host is new", config="StrictHostKeyChecking off\nUserKnownHostsFile {dir}/k", without=NEW),
    Form(
        "accept-new, and known_hosts lacks its last newline",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:other}"},
    ),
    Form(
        "accept-new, and the name without the port has another key (NAT)",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "127.0.0.1 {hostkey:other1}\n"},
    ),
    Form(
        "ask, and the name without the port has another key (NAT)",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "127.0.0.1 {hostkey:other1}\n"},
        cause="host key is unknown.*without its port",
    ),
    Form(
        "accept-new, and the key has changed",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:other1}\n"},
        cause="differs from the known one",
    ),
    Form(
        "accept-new, and a key of another kind is known",
        server="ecdsa-host",
        config="StrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:other1}\n"},
        cause="differs from the known one",
    ),
    Form(
        "no, and the key has changed",
        config="StrictHostKeyChecking no\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} {hostkey:other1}\n"},
        apart="differs from the known one",
    ),
    Form("known_hosts is a folder", config="UserKnownHostsFile {dir} {known}", without=NEW),
    Form(
        "known_hosts of this user's folder that is closed",
        config="UserKnownHostsFile {dir}/closed/k {known}",
        without=NEW,
        files={"closed/k": "x"},
        modes={"closed": 0o700},
        user="nobody",
    ),
    Form(
        "the only known_hosts can't be read",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:[127.0.0.1]:PORT}\n"},
        modes={"k": 0o600},
        user="nobody",
        cause="unknown.*can't read .*Permission denied",
    ),
    Form("VerifyHostKeyDNS and CheckHostIP with a known key", config="VerifyHostKeyDNS yes\nCheckHostIP yes"),
    Form(
        "NoHostAuthenticationForLocalhost",
        config="NoHostAuthenticationForLocalhost yes\nUserKnownHostsFile /dev/null",
        without=NEW,
    ),
    Form("KnownHostsCommand", config="KnownHostsCommand /bin/cat {known}\nUserKnownHostsFile /dev/null", without=NEW),
    Form("RevokedHostKeys with another key", config="RevokedHostKeys {dir}/r", files={"r": "{hostkey:other1}\n"}),
    Form(
        "RevokedHostKeys with this key",
        config="RevokedHostKeys {dir}/r",
        files={"r": "{hostkey:hostkey}\n"},
        cause="RevokedHostKeys|revoked",
    ),
)

LOGINS = (
    Form("a banner", server="banner"),
    Form("a login that takes 3 s", server="slow"),
    Form("two keys in a row", server="two-keys", config="IdentityFile {key:second}"),
    Form("two keys in a row, one in the agent", server="two-keys", agent=("second",)),
    Form("two keys in a row, and one is there", server="two-keys", cause="requires another key"),
    Form("a key and a password", server="two-factors", cause="accepted .*requires more than a key: password"),
    Form("a key and a code", server="code", cause="accepted .*requires more than a key: keyboard-interactive"),
    Form("passwords alone", server="password", cause="does not accept keys, only password"),
    Form(
        "a key that the host does not know",
        config="IdentityFile {key:other1}",
        without=("IdentityFile",),
        cause="other1 \\(refused\\)",
    ),
    Form("ControlPath where nobody listens", config="ControlMaster auto\nControlPath {dir}/stale", files={"stale": ""}),
    Form("ControlPath without a master", config="ControlMaster no\nControlPath {dir}/none"),
    Form("ControlPath none", config="ControlMaster auto\nControlPath none"),
)

MORE = (
    Form("Windows' line ends in ssh_config", before="Match originalhost host\r\n  Ciphers aes128-ctr\r\n"),
    Form("an ssh_config in another encoding", before="# caf\udce9\nHost caf\udce9\n  Port 1\n"),
    Form("capitals in the host's name", ask="MyHost"),
    Form("Match exec that fails and writes", before='Match exec "echo much; echo more >&2; exit 3"\n  Port 1\n'),
    Form("PubkeyAuthentication host-bound", config="PubkeyAuthentication host-bound"),
    Form("PubkeyAuthentication unbound", config="PubkeyAuthentication unbound"),
    Form("BindAddress by name", config="BindAddress localhost"),
    Form(
        "a name with an address on which nobody listens, and one",
        config="HostName localhost\nHostKeyAlias node\nUserKnownHostsFile {dir}/k",
        without=("HostName", *NEW),
        files={"k": "{line:node}\n"},
    ),
    Form(
        "HostKeyAlias with capitals",
        config="HostKeyAlias Node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:node}\n"},
    ),
    Form(
        "HostKeyAlias with capitals in known_hosts",
        config="HostKeyAlias node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{line:Node}\n"},
    ),
    Form(
        "HostKeyAlias, hashed",
        config="HostKeyAlias node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{hashed:node}\n"},
    ),
    Form(
        "HostKeyAlias with capitals, hashed",
        config="HostKeyAlias Node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "{hashed:node}\n"},
    ),
    Form(
        "HostName with capitals",
        config="HostName LOCALHOST\nUserKnownHostsFile {dir}/k",
        without=("HostName", *NEW),
        files={"k": "{line:[localhost]:PORT}\n"},
    ),
    Form(
        "known_hosts with other bytes",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "\udcff\udcfe\x00 \udce9\n{line:[127.0.0.1]:PORT} caf\udce9\n"},
    ),
    Form(
        "known_hosts with a broken key",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "[127.0.0.1]:{port} ssh-ed25519 AAAA\n{line:[127.0.0.1]:PORT}\n"},
    ),
    Form("known_hosts by a link", config="UserKnownHostsFile {dir}/../tool/known {dir}/../ssh/known", without=NEW),
    Form(
        "known_hosts with an authority that did not sign, and the key",
        config="UserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "@cert-authority * {hostkey:other1}\n{line:[127.0.0.1]:PORT}\n"},
    ),
    Form(
        "a host certificate that another authority signed, accept-new",
        server="host-certificate",
        config="HostKeyAlias node\nStrictHostKeyChecking accept-new\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "@cert-authority node {hostkey:other1}\n"},
    ),
    Form(
        "HostKeyAlgorithms of certificates alone",
        server="host-certificate",
        config="HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com\nHostKeyAlias node\nUserKnownHostsFile {dir}/k",
        without=NEW,
        files={"k": "@cert-authority node {hostkey:authority}\n"},
    ),
    Form("a key file that is a folder, then another", config="IdentityFile {dir}"),
    Form(
        "a key file that this user can't read, then another",
        config="IdentityFile {private:second}\nIdentityFile {key}",
        without=("IdentityFile",),
        modes={"second": 0o600},
        user="nobody",
    ),
    Form(
        "a key file with Windows' line ends, then another",
        config="IdentityFile {dir}/w",
        files={"w": f"-----BEGIN {PRIVATE}-----\r\nAAAA\r\n-----END {PRIVATE}-----\r\n"},
    ),
    Form(
        "a PuTTY key, then another",
        config="IdentityFile {dir}/p",
        files={"p": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"},
    ),
    Form("the same key twice", config="IdentityFile {key}\nIdentityFile {key}", agent=("key",)),
    Form(
        "an expired certificate next to the key",
        config="IdentityFile {private:expired}",
        without=("IdentityFile",),
        after="# {cert:expired}\n",
        cause="expired \\(refused\\)",
        server="certificates",
    ),
    Form("an expired certificate, and the plain key is accepted", config="CertificateFile {cert:expired}"),
    Form(
        "a certificate for another user",
        config="IdentityFile {certified:stranger}",
        without=("IdentityFile",),
        server="certificates",
        cause="stranger \\(refused\\); stranger-cert.pub \\(refused\\)",
    ),
    Form(
        "a broken certificate next to the key",
        config="IdentityFile {key:rsa}",
        without=("IdentityFile",),
        files={"rsa-cert.pub": "ssh-rsa-cert-v01@openssh.com AAAA\n"},
    ),
    Form("a broken CertificateFile", config="CertificateFile {dir}/c", files={"c": "nonsense\n"}),
    Form("an agent whose socket is a file, then a key file", config="IdentityAgent {dir}/known"),
    Form("SSH_AUTH_SOCK is empty", without=("IdentityAgent",), env={"SSH_AUTH_SOCK": ""}),
    Form(
        "IdentityAgent of a variable that is not set", config="IdentityAgent $NO_SUCH_AGENT", without=("IdentityAgent",)
    ),
    Form("RekeyLimit here and there", server="rekey", config="RekeyLimit 16K"),
    Form("a host that lets other users in alone", server="others", cause="key \\(refused\\)"),
    Form("a forced command", server="forced"),
    Form("a start-up file that writes", server="banner", config="SetEnv LC_TALK=yes"),
    Form(
        "HOME is not this user's home",
        config="IdentityFile ~/.ssh/no-such-key\nIdentityFile %d/.ssh/no-such-key",
        env={"HOME": "/nonexistent"},
    ),
    Form("no HOME at all", env={"HOME": ""}),
    Form("TERM, LANG and others are strange", env={"TERM": "", "LC_ALL": "xx_XX", "LANG": "de_DE.ISO-8859-1"}),
)

FORMS: tuple[Form, ...] = (
    *REPORTED,
    *SETTINGS,
    *ALGORITHMS,
    *WAYS,
    *KEYS,
    *AGENTS,
    *KNOWN,
    *LOGINS,
    *MORE,
    *KERBEROS,
    *CARDS,
)
