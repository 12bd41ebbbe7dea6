"""One file a published table or figure; each prints what it shows from committed rows."""
