FROM base
RUN --network= true
