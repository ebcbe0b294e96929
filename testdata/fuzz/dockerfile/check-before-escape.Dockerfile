# check=skip=all
# escape=`
FROM a
RUN b `
  c
