"""What the server programs share: options, signals, ports, health, metrics, exit codes.

program.py       a server from its start to its exit code; logging, file limit
options.py       one table of options, four sources: flag, environment, TOML file, default
values.py        what the value of an option may be
etcd_options.py  the options by which a program finds the cluster map
front.py         the gRPC server: port, health, reflection
health.py        what it says of itself
measures.py      the registry of metrics
logs.py          log lines, on a console or as JSON
tracing.py       traces, where the environment asks for them
listening.py     ports, and the page for Prometheus
security.py      certificates of ports and links, what may listen in the clear
certificates.py  files of certificates, read anew when they change
metrics_page.py  the page for Prometheus, in the clear or over TLS
signals.py       when to stop
supervisor.py    what systemd is told
workers.py       several processes of one program
failures.py      exit codes, errors of one line
incidents.py     faults that nobody foresaw: an id for the caller, the rest for the log
"""
