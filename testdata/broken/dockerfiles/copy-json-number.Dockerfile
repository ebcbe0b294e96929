FROM base
COPY ["f", 1]
