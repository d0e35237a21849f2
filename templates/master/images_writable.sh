# Starts an upload and cancels it: a registry that is read-only or full reports that before any image is pulled.
login=$(credential curl)
answer=$(ask "/v2/$repository/blobs/uploads/" --request POST --data '' --dump-header - --output /dev/null \
    --write-out 'code %{http_code}')
code=${answer##*code }
if [ "$code" != 202 ]; then
    echo "the registry rejects uploads: HTTP $code"
    exit 1
fi
place=$(printf '%s\n' "$answer" | tr -d '\r' | sed -n 's/^[Ll]ocation: *//p' | head -n 1)
# an upload on another server, or one that cannot be cancelled, expires
if place=$(own_path "$place"); then ask "$place" --request DELETE --output /dev/null || true; fi
