FROM base
COPY --chown=app:app:app f /
