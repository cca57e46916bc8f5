"""The arbiter: who should serve which section, and when that changes."""

import svrprocess.loading  # noqa: F401 - before any library is
