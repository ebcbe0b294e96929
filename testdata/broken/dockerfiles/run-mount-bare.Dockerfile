FROM base
RUN --mount true
