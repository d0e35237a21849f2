// Each Kubernetes has a file of its own: go build -modfile=1.22.mod, and so on.
module lab/kube-servers

go 1.24.0
