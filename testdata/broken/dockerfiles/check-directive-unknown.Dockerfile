# check=nope=1
FROM scratch
