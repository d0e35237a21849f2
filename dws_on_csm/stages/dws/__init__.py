"""DWS in the cluster."""
