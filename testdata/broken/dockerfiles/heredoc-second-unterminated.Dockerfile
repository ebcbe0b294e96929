FROM base
COPY <<a <<b /d/
one
a
two
