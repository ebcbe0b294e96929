# options: --target 0
FROM base
COPY --from=later /f /
FROM base AS later
