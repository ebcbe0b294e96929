FROM base AS my stage
