FROM base two
