FROM base
RUN ["echo", 1]
