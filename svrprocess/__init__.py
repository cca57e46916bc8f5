"""What the server programs share: options, signals, ports, health, metrics, exit codes.

loading.py       before all else: what makes a process start sooner
program.py       a server from its start to its exit code; logging, file limit
options.py       one table of options, four sources: flag, environment, TOML file, default
values.py        what the value of an option may be
etcd_options.py  the options by which a program finds the cluster map
cluster_map.py   the map in etcd, opened once
front.py         the gRPC server: port, health, reflection
arriving.py      single calls whose request may never come
enduring.py      a server that goes on where a call has ended the library's
connections.py   those that the library would not close
limits.py        what a port takes at most
health.py        what it says of itself
measures.py      the registry of metrics
logs.py          log lines, on a console or as JSON
tracing.py       traces, where the environment asks for them
listening.py     ports, and the page for Prometheus
security.py      certificates of ports and links, what may listen in the clear
certificates.py  files of certificates, read anew when they change
pem.py           what they hold
secret_files.py  who may read and write the files that count
roles.py         who may do what
identities.py    who a call comes from
auth_file.py     the identities that there are
guarding.py      the guard of a port, which asks the three
rights.py        the rights in force, read anew when their file changes
metrics_page.py  the page for Prometheus, in the clear or over TLS
signals.py       when to stop
rpc.py           one outgoing call
store_client.py  a replica behind the wire
set_reading.py   all records of a Set
supervisor.py    what systemd is told
workers.py       several processes of one program
failures.py      exit codes, errors of one line
incidents.py     faults that nobody foresaw: an id for the caller, the rest for the log
ending.py        calls that a server ends itself
"""
