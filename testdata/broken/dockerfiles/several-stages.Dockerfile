FROM base AS one
COPY --chwon=app f /
FROM base AS two
WORKDIR
