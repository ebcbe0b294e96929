# options: --target 0
FROM later
RUN true
FROM base AS later
