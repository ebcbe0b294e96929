FROM base
COPY 'f /x
