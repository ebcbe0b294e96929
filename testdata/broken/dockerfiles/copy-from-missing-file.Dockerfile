FROM base AS build
FROM base
COPY --from=build /nope /
