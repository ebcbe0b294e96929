"""The store: blobs (a valid OCI image layout), snapshots, the catalogue, locks. It does not know what images mean.

``image_store`` has :class:`Store` and :class:`Session`. This module imports nothing: the replay cache needs
``location`` without the rest.
"""
