FROM base
RUN --mount=type=cache,taget=/a true
