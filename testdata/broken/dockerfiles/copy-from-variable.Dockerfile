FROM base AS build
ARG S=build
FROM base
COPY --from=$S /etc/passwd /
