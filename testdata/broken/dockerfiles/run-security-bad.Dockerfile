FROM base
RUN --security=none true
