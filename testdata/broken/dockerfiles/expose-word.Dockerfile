FROM base
EXPOSE http
