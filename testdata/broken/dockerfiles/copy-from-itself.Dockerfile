FROM base AS me
COPY --from=me /f /
