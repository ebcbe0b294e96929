FROM a
COPY <<E <<E /b
1
E
2
E
