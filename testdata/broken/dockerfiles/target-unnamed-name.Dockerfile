# options: --target first
FROM base
FROM base AS final
FROM base
