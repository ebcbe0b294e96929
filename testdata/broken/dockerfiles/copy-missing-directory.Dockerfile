FROM base
COPY srv/ /srv/
