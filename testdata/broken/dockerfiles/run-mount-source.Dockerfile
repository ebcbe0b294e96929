FROM base
RUN --mount=type=bind,source=nope.txt,target=/a true
