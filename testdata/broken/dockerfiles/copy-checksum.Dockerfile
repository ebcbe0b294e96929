FROM base
COPY --checksum=sha256:00 f /
