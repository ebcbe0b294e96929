FROM base
COPY --link=maybe f /
