# Whether a text contains a secret, which must not leave its host. The text decides, not the file's path. It is passed in base64 as
# the first argument: it was read once, so nobody can change the file between this check and its use.
# The time is linear to the length: no pattern has a backreference.
_plain() { printf %s "$1" | base64 -d 2>/dev/null; }
_has() { LC_ALL=C grep -aqi "$@" 2>/dev/null; }

# holds_key CONTENT: whether it contains a private key (plain, or in base64 at any offset), a kubeconfig's credentials, or a Secret's
# manifest
holds_key() {
    _plain "$1" | _has -E -e 'PRIVATE KEY|PuTTY-User-Key-File|AGE-SECRET-KEY-' \
        -e '(client-key-data|id-token|refresh-token|access-token)["'\'']*[[:space:]]*:' \
        -e '(^|[^[:alnum:]_])kind["'\'']*[[:space:]]*:[[:space:]]*["'\'']*secret(list)?["'\'']*[[:space:]]*([,}#]|$)' && return 0
    _plain "$1" | tr -d '[:space:]"\\' | LC_ALL=C grep -aqF -e UFJJVkFURSBLRVktLS0t -e BSSVZBVEUgS0VZLS0t -e QUklWQVRFIEtFWS0tLS0t
}

# holds_secret CONTENT: the same, and passwords, tokens, credentials in a URL or a header
holds_secret() {
    holds_key "$1" && return 0
    _plain "$1" | _has -E -e '((^|[^a-z]|storage|comp|db|user)pass|token|secret|passwd|password|passphrase|api[-_]?key|access[-_]?key|secret[-_]?key|private[-_]?key|credentials?)["'\'']*[[:space:]]*[:=][[:space:]]*["'\'']*[^][:space:]"'\''/$<>(){}[,;#]' \
        -e '(token|secret|password|passphrase)["'\'']*[[:space:]]*:[[:space:]]*[|>]' \
        -e '(^|[^a-z0-9])([a-z]+_|root|bind|user|admin|db)?pw["'\'']*[[:space:]]*[:=][[:space:]]*["'\'']*[^][:space:]"'\''/$<>(){}[,;#]' \
        -e '(^|[^a-z0-9_-])--?(password|passwd|passphrase)[[:space:]]+["'\'']*[^-[:space:]"'\''.$]' \
        -e '(^|[^a-z0-9_-])--?(token|secret)[[:space:]]+["'\'']*[^-[:space:]"'\''.$][^[:space:]]{15}' \
        -e 'name["'\'']*[[:space:]]*[:=][[:space:]]*["'\'']*[a-z0-9_.-]*(password|passwd|token|secret)["'\'']*[[:space:]]*(,|$)' \
        -e '<[a-z:._-]*(password|passwd|token|secret)([[:space:]][^<>]*)?>[^<[:space:]]' \
        -e '(password|passwd|token|secret)(%22)?%3[ad]' \
        -e '(login|machine)[[:space:]]+[^[:space:]]+[[:space:]]+password[[:space:]]+[^[:space:]]' -e '^[[:space:]]*password[[:space:]]+[^[:space:]:=]+[[:space:]]*$' \
        -e 'sshpass[[:space:]]+-p' -e '(podman|docker|registry|auth)[[:space:]]+login[[:space:]].*[[:space:]]-p' \
        -e '"auth"[[:space:]]*:[[:space:]]*"[a-z0-9+/=]{8}' \
        -e '[$](1|2[abxy]?|5|6|7|y|gy|argon2id?)[$][a-z0-9./=,$-]{8}' \
        -e '(^|[^a-z0-9])(gh[pousr]_[a-z0-9]{16}|github_pat_|glpat-[a-z0-9_-]{16}|akia[a-z0-9]{16}|hvs[.][a-z0-9_-]{16}|munge:[a-z0-9+/]{16})' \
        -e '(authorization|cookie)["'\'']*[[:space:]]*:[[:space:]]*["'\'']*[^[:space:]"'\'']' \
        -e '(bearer|basic)[[:space:]]+[a-z0-9+/_.=-]{8}' \
        -e '://[^/[:space:]"'\''@]+@' -e '//[^/[:space:]"'\''@:]+:[^/[:space:]"'\''@]+@' \
        -e 'eyJ[a-z0-9_-]+\.eyJ[a-z0-9_-]+'
}
