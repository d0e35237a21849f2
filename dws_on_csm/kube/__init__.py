"""The Kubernetes API, through the master."""
