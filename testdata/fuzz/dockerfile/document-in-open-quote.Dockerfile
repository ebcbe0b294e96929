FROM a
COPY 'a <<E /b
