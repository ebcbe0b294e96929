FROM base
ENV A = 1
ENV B=2 = 3
