FROM a
COPY ["<<E", "a b", "/c"]
