FROM base
ENV A=${1B}
