# options: --network none
FROM base
RUN --network=host true
