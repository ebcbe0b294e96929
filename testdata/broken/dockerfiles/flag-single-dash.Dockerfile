FROM base
RUN -network=none true
