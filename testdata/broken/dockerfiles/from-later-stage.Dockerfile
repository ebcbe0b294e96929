FROM later
FROM base AS later
