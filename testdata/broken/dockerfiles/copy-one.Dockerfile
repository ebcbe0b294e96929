FROM base
COPY f
