FROM base
COPY --chown=nobody-here f /
