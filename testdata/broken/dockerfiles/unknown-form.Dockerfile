FORM base
RUN true
