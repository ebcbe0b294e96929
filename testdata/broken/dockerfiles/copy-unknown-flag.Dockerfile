FROM base
COPY --chwon=app f /
