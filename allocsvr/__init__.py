"""AllocSvr: the nodes that hand out numbers."""

import svrprocess.loading  # noqa: F401 - before any library is
