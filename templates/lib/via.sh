# via COMMAND...: a program that goes to the outside, through the site's proxy if it has one. Set before: $proxy, $unproxied.
# Nothing else is to go that way: not kubectl to the API server, nor what is pushed to the site's registry.
via() (
    if [ -n "$proxy" ]; then
        export https_proxy="$proxy" HTTPS_PROXY="$proxy" no_proxy="$unproxied" NO_PROXY="$unproxied"
    fi
    exec "$@"
)
