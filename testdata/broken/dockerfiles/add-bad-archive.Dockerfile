FROM base
ADD broken.tar.gz /
