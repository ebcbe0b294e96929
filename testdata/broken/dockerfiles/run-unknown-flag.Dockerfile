FROM base
RUN --netwrok=none true
