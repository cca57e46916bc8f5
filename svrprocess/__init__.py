"""What the server programs share: options, signals, ports, health, metrics, exit codes."""
