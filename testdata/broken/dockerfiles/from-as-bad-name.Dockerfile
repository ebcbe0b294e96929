FROM base AS 1a
