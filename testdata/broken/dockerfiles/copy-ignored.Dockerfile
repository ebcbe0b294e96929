FROM base
COPY ignored.txt /
