FROM base
ADD http://127.0.0.1:1/f /
