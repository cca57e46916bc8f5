"""seqctl: the command line of operators."""

import os

# Before grpc is imported. What it has to say of a connection is in its errors, too, and a command
# that fails ends with one line.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
