# The registry's credential goes from its Secret to curl and podman through pipes: no command line and no file has it.
# Set before: $registry, $secret_namespace, $secret_name. `credential curl` prints a curl configuration, `credential podman`
# an authfile.
credential() {
    # --raw: without discovery, which kubectl would cache in a folder
    kubectl --request-timeout 20s get --raw "/api/v1/namespaces/$secret_namespace/secrets/$secret_name" | python3 -c '
import base64, json, sys
text = sys.stdin.read() or sys.exit(1)  # kubectl has said why
data = {key: base64.b64decode(value).decode() for key, value in json.loads(text)["data"].items()}
pair = data["username"] + ":" + data["password"]
if sys.argv[1] == "curl":
    print("user = " + chr(34) + pair.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))
          .replace(chr(10), chr(92) + "n").replace(chr(13), chr(92) + "r") + chr(34))
else:
    print(json.dumps({"auths": {sys.argv[2]: {"auth": base64.b64encode(pair.encode()).decode()}}}))
' "$1" "$registry"
}
# ask PATH OPTION...: ask the registry with curl and the credential in $login, which goes to this registry only, over TLS only:
# curl follows no redirect and uses no other protocol, and no text from outside can be an option or a pattern.
ask() {
    path=$1
    shift
    printf '%s\n' "$login" | curl --config - --silent --show-error --max-time 20 --proto =https --proto-redir =https \
        --globoff "$@" --url "https://$registry$path"
}
# own_path LOCATION: print the path of a URL that the registry answered, if it is on this registry; else fail.
own_path() {
    case $1 in
    //* | *[[:cntrl:][:space:]]*) return 1 ;;
    /*) printf '%s\n' "$1" ;;
    "https://$registry"/*) printf '%s\n' "${1#"https://$registry"}" ;;
    *) return 1 ;;
    esac
}
