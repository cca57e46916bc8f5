"""seqctl: the command line of operators."""

import svrprocess.loading  # noqa: F401 - before any library is
