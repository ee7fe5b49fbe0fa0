"""Web pages of results: one file each, that needs no network and no server."""
