"""What the plugin may do in the cluster, and its certificates."""
