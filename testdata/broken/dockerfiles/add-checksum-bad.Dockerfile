FROM base
ADD --checksum=md5:123 http://127.0.0.1:1/f /
