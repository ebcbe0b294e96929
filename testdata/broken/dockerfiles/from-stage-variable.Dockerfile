FROM base
ARG V=base
FROM $W
