"""The OCI image model: names, descriptors, configs, manifests, layers. It does not know where blobs are kept.

``reference`` and ``platform`` are names, ``model`` the JSON documents, ``diff`` finds what a step changed,
``layer`` writes and applies tars, ``compression`` wraps streams.
"""
