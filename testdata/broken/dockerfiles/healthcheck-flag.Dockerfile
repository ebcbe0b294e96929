FROM base
HEALTHCHECK --intreval=5s CMD true
