# Signs the request on standard input with the cluster's CA, whose key does not leave the master; prints the certificate. It goes
# after ca.sh and temporary.sh. The certificate ends with the CA, where that ends earlier: the API server accepts it no longer than that.
# `openssl ca` and not `openssl x509 -req`: only it can make a certificate valid from a moment before now, which an API server needs
# whose clock is a little slow. Its database and its serial number's file are in the temporary folder.
folder=$(own_folder) || exit 1
remove_at_exit "$folder"
cat >"$folder/csr"
: >"$folder/index"
printf '%s\n' "$serial" >"$folder/serial"
cat >"$folder/conf" <<CONF
[ca]
default_ca = once
[once]
database = $folder/index
serial = $folder/serial
new_certs_dir = $folder
default_md = sha256
policy = names
x509_extensions = client
[names]
commonName = supplied
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth
CONF
signing_ca >&2
printf '%s\n' "$ca" >"$folder/ca"
now=$(date +%s)
if [ "$ca_ends" -le "$now" ]; then
    printf '%s\n' "the cluster's CA in $pki/ca.crt expired on $(date -u -d "@$ca_ends" '+%Y-%m-%d %H:%M UTC')" >&2
    exit 1
fi
ends=$((now + days * 86400))
[ "$ends" -le "$ca_ends" ] || ends=$ca_ends
at() { date -u -d "@$1" +%Y%m%d%H%M%SZ; }
openssl ca -batch -notext -config "$folder/conf" -cert "$folder/ca" -keyfile "$pki/ca.key" -passin pass: \
    -startdate "$(at $((now - before)))" -enddate "$(at "$ends")" \
    -in "$folder/csr" -out "$folder/crt" 2>"$folder/said" || { cat "$folder/said" >&2; exit 1; }
cat "$folder/crt"
