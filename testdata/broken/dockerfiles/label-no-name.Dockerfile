FROM base
LABEL ""=1
