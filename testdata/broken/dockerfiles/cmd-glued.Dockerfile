FROM base
RUN: true
