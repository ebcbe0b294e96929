FROM a
COPY <<a\'b /c
x
a'b
