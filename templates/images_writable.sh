# An upload is begun and taken back: a registry that is read-only or full says so before anything is pulled.
login=$(credential curl)
answer=$(ask --request POST --data '' --dump-header - --output /dev/null --write-out 'code %{http_code}' \
    "https://$registry/v2/$repository/blobs/uploads/")
code=${answer##*code }
if [ "$code" != 202 ]; then
    echo "the registry takes no upload: HTTP $code"
    exit 1
fi
place=$(printf '%s\n' "$answer" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
case $place in /*) place=https://$registry$place ;; esac
ask --request DELETE --output /dev/null "$place" || true # it would end by itself
