# key_fits CERTIFICATE KEY (base64, as a kubeconfig has them): print whether the key's public key is the certificate's: yes or no; nothing
# without openssl, or where it cannot read the certificate. Whoever can write a kubeconfig can put another's certificate, which is public,
# beside a key of their own. Runs as root: as any other user openssl would show the key to that user's processes. The key is on pipes alone.
key_fits() (
    command -v openssl >/dev/null || exit 0
    openssl_() { timeout -k 3 10 env -i "PATH=$PATH" openssl "$@" 2>/dev/null 8>&- 9>&-; }
    of_certificate=$(printf %s "$1" | base64 -d 2>/dev/null | openssl_ x509 -noout -pubkey) || :
    of_key=$(printf %s "$2" | base64 -d 2>/dev/null | openssl_ pkey -pubout -passin pass:) || :
    case $of_certificate in '') ;; "$of_key") echo yes ;; *) echo no ;; esac
)
