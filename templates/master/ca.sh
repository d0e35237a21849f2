# Which certificate of the cluster's CA signs: ca.crt may have several, of which one fits the key. Set before: $pki.
# signing_ca: set $ca, that certificate (PEM), and $ca_ends, the second of its end; of several that fit, the one that ends last.
# Without one: print why, in a line, and fail. The key goes to openssl alone.
# (SSL_CERT_FILE: otherwise `openssl x509` of OpenSSL 3 reads all CAs of this host first, which takes longer than all else here.)
signing_ca() {
    ca= ca_ends=0
    # -passin: an encrypted key is an error, and no question
    if ! ca_public=$(openssl pkey -in "$pki/ca.key" -passin pass: -pubout 2>/dev/null); then
        if grep -q ENCRYPTED "$pki/ca.key"; then printf '%s\n' "$pki/ca.key is encrypted"; else printf '%s\n' "$pki/ca.key is not a key that openssl can read"; fi
        return 1
    fi
    ca_number=0
    while
        ca_number=$((ca_number + 1))
        ca_next=$(certificate_of "$ca_number")
        [ -n "$ca_next" ]
    do
        ca_facts=$(printf '%s\n' "$ca_next" | SSL_CERT_FILE=/dev/null openssl x509 -noout -pubkey -enddate 2>/dev/null) || continue
        # a whole PEM block: no other key has it within its own
        case $ca_facts in *"$ca_public"*) ;; *) continue ;; esac
        ca_until=$(printf '%s\n' "$ca_facts" | sed -n 's/^notAfter=//p')
        ca_until=$(LC_ALL=C date -d "$ca_until" +%s)
        if [ "$ca_until" -gt "$ca_ends" ]; then ca=$ca_next ca_ends=$ca_until; fi
    done
    [ -n "$ca" ] || { printf '%s\n' "no certificate in $pki/ca.crt belongs to the key $pki/ca.key"; return 1; }
}
# certificate_of NUMBER: print that certificate of ca.crt, without what is between them
certificate_of() {
    sed 's/\r$//; s/-----END CERTIFICATE-----/&\n/' "$pki/ca.crt" | LC_ALL=C awk -v number="$1" '
        /^-----BEGIN CERTIFICATE-----/ { seen++ }
        seen == number { print }
        /^-----END CERTIFICATE-----/ && seen == number { exit }'
}
