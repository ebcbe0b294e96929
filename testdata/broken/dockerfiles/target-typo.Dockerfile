# options: --target biuld
FROM base AS build
FROM base AS final
