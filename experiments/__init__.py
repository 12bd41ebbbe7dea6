"""One file a published table or figure; each prints what it shows from committed rows."""

import arfj.starting  # noqa: F401 - Ctrl-C is heard from here on
