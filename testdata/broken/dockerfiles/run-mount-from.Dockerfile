FROM base AS build
FROM base
RUN --mount=from=biuld,target=/m true
