FROM base
COPY nope.txt /
