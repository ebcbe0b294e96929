FROM base
INCLUDE other
