FROM base
ARGS a=1
