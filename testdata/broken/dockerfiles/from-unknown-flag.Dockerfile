FROM --platfrom=linux/amd64 base
