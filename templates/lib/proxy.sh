# with_proxy COMMAND...: run a program that downloads, through the site's proxy if it has one. Set before: $proxy, $unproxied.
# Nothing else uses the proxy: neither kubectl nor pushes to the site's registry.
with_proxy() (
    if [ -n "$proxy" ]; then
        export https_proxy="$proxy" HTTPS_PROXY="$proxy" no_proxy="$unproxied" NO_PROXY="$unproxied"
    fi
    exec "$@"
)
