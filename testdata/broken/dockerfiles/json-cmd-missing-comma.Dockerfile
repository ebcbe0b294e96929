FROM base
RUN ["echo" "a"]
