FROM base AS scratch
