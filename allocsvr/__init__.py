"""AllocSvr: the nodes that hand out numbers."""

import os

# gRPC reads it as it is imported. Otherwise each handshake that a stranger fails is a line in the
# log, in no format of ours.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
