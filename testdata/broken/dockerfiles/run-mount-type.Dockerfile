FROM base
RUN --mount=type=chache,target=/a true
