FROM a
RUN a \ 
