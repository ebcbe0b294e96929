FROM base
ARG =1
