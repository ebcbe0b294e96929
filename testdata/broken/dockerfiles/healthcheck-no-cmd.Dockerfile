FROM base
HEALTHCHECK curl localhost
