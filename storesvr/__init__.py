"""StoreSvr: replicas that keep the max_seq of each section."""

import svrprocess.loading  # noqa: F401 - before any library is
