"""The Kubernetes API and pods, through the master's connection.

`client` has the calls, `api_call` the HTTP of one call, `proxy` the way to the API server, `api_relay` the program at its other
end on the master, `watch` the changes. `master_session` is the master's connection, `pod_session` that of a pod's container.
"""
