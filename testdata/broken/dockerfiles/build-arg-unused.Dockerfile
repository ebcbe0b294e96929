# options: --build-arg VERSOIN=1
FROM base
ARG VERSION
RUN false
