# The registry's credential goes from its Secret to curl and podman through pipes: it is in no argv and in no file.
# Set before: $registry, $secret_namespace, $secret_name. `credential curl` prints a curl configuration, `credential podman`
# an authfile.
credential() {
    # --raw: without discovery, of which kubectl would keep a cache in a folder
    kubectl --request-timeout 20s get --raw "/api/v1/namespaces/$secret_namespace/secrets/$secret_name" | python3 -c '
import base64, json, sys
text = sys.stdin.read() or sys.exit(1)  # kubectl has said why
data = {key: base64.b64decode(value).decode() for key, value in json.loads(text)["data"].items()}
pair = data["username"] + ":" + data["password"]
if sys.argv[1] == "curl":
    print("user = " + chr(34) + pair.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34)) + chr(34))
else:
    print(json.dumps({"auths": {sys.argv[2]: {"auth": base64.b64encode(pair.encode()).decode()}}}))
' "$1" "$registry"
}
ask() { # the registry, with the credential in $login: curl's options and the path
    printf '%s\n' "$login" | curl --config - --silent --show-error --max-time 20 "$@"
}
