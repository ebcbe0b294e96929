"""The OCI image model: names, documents, layers, layouts and archives. It does not know where blobs are kept.

* ``reference`` and ``platform`` are names.
* ``digest``, ``descriptor``, ``manifest`` and ``image_config`` are documents as types, read by way of ``documents``;
  ``layout_index`` is the index of a layout with all that other programs wrote in it.
* ``diff`` finds the changes of a step, ``layer`` writes and applies tars, ``compression`` wraps streams, and ``hashed``
  hashes them.
* ``oci_layout`` and ``docker_archive`` read and write images as files. Blobs come and go by ``blob_protocol``; those of
  an image that comes in wait in a ``staging`` until all of it has been checked.
"""
