FROM a
RUN --network="none
COPY --chown='a b" c' --exclude=\  d e
