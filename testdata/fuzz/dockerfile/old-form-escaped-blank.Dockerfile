FROM a
ENV \  = a
