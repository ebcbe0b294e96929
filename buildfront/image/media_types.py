"""Media types of the documents and layers of images (OCI image spec, docker's image manifest v2)."""

from __future__ import annotations

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_COMPRESSIONS = (("", "plain"), (".gzip", "gzip"), (".zstd", "zstd"))
LAYER_COMPRESSION = {
    **{
        f"application/vnd.oci.image.layer.{form}v1.tar{end.replace('.', '+')}": name
        for form in ("", "nondistributable.")
        for end, name in _COMPRESSIONS
    },
    **{
        f"application/vnd.docker.image.rootfs.{form}diff.tar{end}": name
        for form in ("", "foreign.")
        for end, name in _COMPRESSIONS
    },
}
"""The media types of layers, and how the tar of each is compressed."""
INDEXES = (INDEX, DOCKER_LIST)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
