FROM base
WORKDIR /etc/passwd
