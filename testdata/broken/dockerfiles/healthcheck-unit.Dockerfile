FROM base
HEALTHCHECK --interval=5sec CMD true
