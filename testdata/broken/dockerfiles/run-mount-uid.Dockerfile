FROM base
RUN --mount=type=cache,target=/a,uid=bob true
