"""The forms of logins without a private key in a file: Kerberos tickets, smartcards, FIDO devices."""

from __future__ import annotations

from tests.sites.form import Form
from tests.ssh import card

NO_KEY = ("IdentityFile",)
REALM = {"KRB5_CONFIG": "{realm}/krb5.conf"}
TICKET = REALM | {"KRB5CCNAME": "FILE:{realm}/ticket"}
EXPIRED = REALM | {"KRB5CCNAME": "FILE:{realm}/expired"}
NO_TICKET = REALM | {"KRB5CCNAME": "FILE:{dir}/none"}
GSSAPI = "GSSAPIAuthentication yes"

ELSEWHERE = """[libdefaults]
default_realm = SITE.TEST
dns_lookup_kdc = false
[realms]
SITE.TEST = {
  kdc = 127.0.0.1:{closed}
}
"""
"""A krb5.conf whose KDC does not run."""

KERBEROS = (
    Form("a Kerberos ticket, and the host takes no keys", server="kerberos", config=GSSAPI, env=TICKET),
    Form("a Kerberos ticket, and the host does not know the key", server="kerberos-others", config=GSSAPI, env=TICKET),
    Form(
        "a Kerberos ticket, and no key at all",
        server="kerberos-others",
        config=f"{GSSAPI}\nIdentityFile none",
        without=NO_KEY,
        env=TICKET,
    ),
    Form(
        "PreferredAuthentications with Kerberos alone",
        server="kerberos-or-key",
        config=f"{GSSAPI}\nPreferredAuthentications gssapi-with-mic",
        env=TICKET,
    ),
    Form(
        "PubkeyAuthentication no, and a Kerberos ticket",
        server="kerberos-or-key",
        config=f"{GSSAPI}\nPubkeyAuthentication no",
        env=TICKET,
    ),
    Form(
        "GSSAPIAuthentication, and the host takes the key, with a ticket",
        server="kerberos-or-key",
        config=GSSAPI,
        env=TICKET,
    ),
    Form(
        "GSSAPIAuthentication, and the host takes the key, without a ticket",
        server="kerberos-or-key",
        config=GSSAPI,
        env=NO_TICKET,
    ),
    Form(
        "GSSAPIAuthentication, and the host takes the key, with an expired ticket",
        server="kerberos-or-key",
        config=GSSAPI,
        env=EXPIRED,
    ),
    Form("GSSAPIDelegateCredentials", server="kerberos", config=f"{GSSAPI}\nGSSAPIDelegateCredentials yes", env=TICKET),
    Form(
        "a host that takes Kerberos alone, and no ticket",
        server="kerberos",
        config=GSSAPI,
        env=NO_TICKET,
        cause="this user has no Kerberos ticket",
    ),
    Form(
        "a host that takes Kerberos alone, and an expired ticket",
        server="kerberos",
        config=GSSAPI,
        env=EXPIRED,
        cause="ticket of this user has expired",
    ),
    Form(
        "a host that takes Kerberos alone, and another's ticket",
        server="kerberos",
        config=GSSAPI,
        env=REALM | {"KRB5CCNAME": "FILE:{realm}/stranger"},
        cause="did not accept the Kerberos ticket",
    ),
    Form(
        "a host that takes Kerberos alone, and GSSAPIAuthentication is not set",
        server="kerberos",
        env=TICKET,
        cause="does not accept keys, only .*gssapi-with-mic",
    ),
    Form(
        "PreferredAuthentications with Kerberos alone, and no ticket",
        server="kerberos",
        config=f"{GSSAPI}\nPreferredAuthentications gssapi-with-mic",
        env=NO_TICKET,
        cause="this user has no Kerberos ticket",
    ),
    Form(
        "a host that the realm does not know",
        server="kerberos",
        config=f"{GSSAPI}\nHostName localhost\nHostKeyAlias [127.0.0.1]:{{port}}",
        without=("HostName",),
        env=TICKET,
        cause="realm does not know the host",
    ),
    Form(
        "a realm whose KDC is not there",
        server="kerberos",
        config=GSSAPI,
        files={"krb5.conf": ELSEWHERE},
        env={"KRB5_CONFIG": "{dir}/krb5.conf", "KRB5CCNAME": "FILE:{realm}/ticket"},
        cause="no KDC of the Kerberos realm answers",
    ),
    Form("a key and then a Kerberos ticket", server="key-and-kerberos", config=GSSAPI, env=TICKET),
    Form(
        "a jump host that wants Kerberos",
        config="ProxyJump jump",
        after=f"Host jump\n  {GSSAPI}\n  {{usual:kerberos}}\n",
        env=TICKET,
    ),
    Form(
        "a jump host that wants Kerberos, and no ticket",
        config="ProxyJump jump",
        after=f"Host jump\n  {GSSAPI}\n  {{usual:kerberos}}\n",
        env=NO_TICKET,
        cause="through jump host jump: .*this user has no Kerberos ticket",
    ),
    Form(
        "a host that wants Kerberos behind a jump host",
        server="kerberos",
        config=f"{GSSAPI}\nProxyJump jump",
        after="Host jump\n  {usual:plain}\n",
        env=TICKET,
    ),
    Form(
        "a jump host and a host that both want Kerberos",
        server="kerberos",
        config=f"{GSSAPI}\nProxyJump jump",
        after=f"Host jump\n  {GSSAPI}\n  {{usual:kerberos}}\n",
        env=TICKET,
    ),
    Form(
        "a key that the host does not know, and no ticket",
        server="kerberos-others",
        config=GSSAPI,
        env=NO_TICKET,
        cause="key \\(refused\\).*the host accepted no key, and this user has no Kerberos ticket",
    ),
    Form(
        "a krb5.conf with a mistake",
        server="kerberos",
        config=GSSAPI,
        files={"krb5.conf": "[libdefaults\n"},
        env={"KRB5_CONFIG": "{dir}/krb5.conf", "KRB5CCNAME": "FILE:{realm}/ticket"},
        cause="krb5.conf has a mistake",
    ),
    Form(
        "a ticket cache that is a folder",
        server="kerberos",
        config=GSSAPI,
        env=REALM | {"KRB5CCNAME": "DIR:{realm}/caches"},
    ),
)

TOKEN = {"SOFTHSM2_CONF": "{own_card}"}
EMPTY = {"SOFTHSM2_CONF": "{card}/empty.conf"}
PKCS11 = f"PKCS11Provider {card.PROVIDER}"
ALONE = f"{PKCS11}\nIdentityFile none"

CARDS = (
    Form(
        "a smartcard with a PIN, on a terminal", server="card", config=ALONE, without=NO_KEY, env=TOKEN, answer=card.PIN
    ),
    Form(
        "a smartcard with a PIN, without a terminal",
        server="card",
        config=ALONE,
        without=NO_KEY,
        env=TOKEN,
        cause="token needs its PIN",
    ),
    Form(
        "a smartcard, and the wrong PIN",
        server="card",
        config=ALONE,
        without=NO_KEY,
        env=TOKEN,
        answer="000000",
        cause="did not accept the PIN",
    ),
    Form(
        "a smartcard that is not inserted",
        server="card",
        config=ALONE,
        without=NO_KEY,
        env=EMPTY,
        answer=card.PIN,
        cause="no token has a key",
    ),
    Form(
        "a smartcard that is not inserted, without a terminal",
        server="card",
        config=ALONE,
        without=NO_KEY,
        env=EMPTY,
        cause="no token has a key",
    ),
    Form(
        "a PKCS11Provider that is not installed",
        server="card",
        config="PKCS11Provider {dir}/nothere.so",
        cause="library of PKCS11Provider can't be loaded",
    ),
    Form("a PKCS11Provider that is not installed, and a key in a file", config="PKCS11Provider {dir}/nothere.so"),
    Form("a smartcard with a PIN, and a key in a file, without a terminal", config=PKCS11, env=TOKEN),
    Form(
        "a smartcard in the agent",
        server="card",
        config="IdentityAgent {card}/agent\nIdentityFile none",
        without=(*NO_KEY, "IdentityAgent"),
    ),
    Form(
        "a smartcard in the agent, and PKCS11Provider",
        server="card",
        config=f"IdentityAgent {{card}}/agent\n{ALONE}",
        without=(*NO_KEY, "IdentityAgent"),
        env=TOKEN,
    ),
    Form(
        "a smartcard that the host does not know",
        server="second-key",
        config=ALONE,
        without=NO_KEY,
        env=TOKEN,
        answer=card.PIN,
        cause="host does not accept the token's key",
    ),
    Form(
        "a jump host that wants a smartcard, on a terminal",
        config="ProxyJump jump",
        after=f"Host jump\n  IdentityFile none\n  {PKCS11}\n  {{usual:card}}\n",
        env=TOKEN,
        answer=card.PIN,
    ),
    Form(
        "a jump host that wants a smartcard, without a terminal",
        config="ProxyJump jump",
        after=f"Host jump\n  IdentityFile none\n  {PKCS11}\n  {{usual:card}}\n",
        env=TOKEN,
        cause="through jump host jump: .*token needs its PIN",
    ),
    Form(
        "a FIDO key in a file, and its device is not plugged in",
        config="IdentityFile {fido}",
        without=NO_KEY,
        cause="FIDO device of the key is not plugged in",
    ),
    Form("a FIDO key in a file, and its device is not plugged in, then another key", config="IdentityFile {fido}"),
    Form(
        "a FIDO key in a file, its device is with the agent",
        config="IdentityFile {fido}",
        without=NO_KEY,
        agent=("fido",),
    ),
)
