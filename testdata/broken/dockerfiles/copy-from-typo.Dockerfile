FROM base AS build
RUN true
FROM base
COPY --from=biuld /f /
