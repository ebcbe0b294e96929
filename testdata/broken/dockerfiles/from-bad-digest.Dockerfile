FROM base@sha256:1234
