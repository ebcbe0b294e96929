FROM base
COPY f / --chown=app
