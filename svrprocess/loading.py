"""What makes a process start sooner, and silences libraries: imported before them.

While a server starts nobody is served by it, and most of its start is the loading of modules.
"""

import gc
import os

# gRPC reads it as it is imported. Otherwise each handshake that a stranger fails is a line in the
# log, in no format of ours; and what it has to say of a connection is in its errors, too.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Of numpy's matrices nothing is used, for which it would start threads, and give them memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Modules stay: to look through them for garbage again and again takes a seventh of the time.
gc.set_threshold(50_000)
