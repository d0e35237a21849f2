"""SSH: connections, channels, scripts on a host, sudo."""
