FROM base
RUN --security=insecure true
