"""Images written out: OCI layouts, docker archives, plain files. It knows blobs by a function that opens them."""
