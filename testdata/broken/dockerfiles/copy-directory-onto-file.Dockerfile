FROM base
COPY app /etc/passwd
