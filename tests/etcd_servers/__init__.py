"""Real etcd for tests: one member or several as child processes on 127.0.0.1.

servers.py    EtcdServers: started, killed, frozen, wiped, and always ended
holder.py     a process that holds a key and leads, to be killed (run by -m, so not imported here)
secured.py    certificates for it, made by the openssl command
"""

from etcd_servers.secured import Certificates
from etcd_servers.servers import ETCD_INSTALL_LINE, EtcdServers, Member, etcd_binary

__all__ = ["ETCD_INSTALL_LINE", "Certificates", "EtcdServers", "Member", "etcd_binary"]
