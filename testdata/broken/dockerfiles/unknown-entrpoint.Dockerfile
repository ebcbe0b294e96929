FROM base
ENTRPOINT ["a"]
